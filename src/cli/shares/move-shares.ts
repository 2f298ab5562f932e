/**
 * Goes over to another number of shares. The tables of a share change hands, and each share has read the log to another place:
 * so each goes on at the log's end, in an epoch above all rows, and what is there is compared or read again. No row goes back.
 */
import type { Config } from "../../config/config.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import { failpoint } from "../../core/failpoint.ts";
import { divisionText, SHARE_COUNT_MAX, shareName } from "../../core/sharing/share.ts";
import { type FormerDivision, keptOf } from "../../sharing/divided-before.ts";
import { cliError } from "../errors.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { withOpenSink } from "../opened.ts";
import { NOT_DONE } from "../options.ts";
import { recoverIn } from "../recover/recover-in.ts";
import type { Session } from "../session.ts";
import { alone, auditedHere } from "../state.ts";

interface Move {
  readonly from: readonly (string | null)[];
  readonly to: string;
  /** Shares that had tables before, and have others now. */
  readonly goOn: readonly number[];
  readonly begin: readonly number[];
  /** Null: the daemon of all tables. */
  readonly end: readonly (number | null)[];
}

/** Without `isConfirmed` it prints what it would do. */
export async function moveShares(session: Session, isConfirmed: boolean): Promise<ExitCode> {
  const { name, sinks, shares, state } = await session.whole();
  if (shares === null) throw cliError("MR1110", "--shares: `source.shares` of this configuration is not set");
  if (session.options.share !== null) throw cliError("MR1110", "--shares is about all shares: leave --share away");
  const move = moveOf(await keptOf({ name, state }), shares.division.count, divisionText(shares.division));
  if (move === null) {
    session.print({ applied: false, from: [], to: divisionText(shares.division) }, NOTHING);
    return EXIT.done;
  }
  expectMirrors(sinks);
  if (isConfirmed) await carryOut(session, move);
  session.print({ applied: isConfirmed, ...move }, textOf(name, move, isConfirmed));
  return isConfirmed ? EXIT.done : EXIT.refused;
}

/** Null: all is shared like this already. */
function moveOf(kept: readonly FormerDivision[], count: number, to: string): Move | null {
  const started = kept.filter(({ isStarted }) => isStarted);
  if (started.every(({ division }) => division === to)) return null;
  const former = Math.max(...started.map(({ division }) => Number.parseInt(division ?? "1", 10)));
  // Beyond them it may be a daemon of its own.
  const ours = kept.filter(({ isStarted, number }) => isStarted || (number ?? 0) <= Math.max(former, count));
  const goOn = started.flatMap(({ number }) => (number !== null && number <= count ? [number] : []));
  const end = ours.flatMap(({ number }) => (number !== null && goOn.includes(number) ? [] : [number]));
  const numbers = Array.from({ length: Math.min(count, SHARE_COUNT_MAX) }, (_, i) => i + 1);
  const from = [...new Set(started.flatMap(({ division }) => (division === to ? [] : [division])))];
  return { from, to, goOn, begin: numbers.filter((one) => !goOn.includes(one)), end };
}

/** A history can't be compared with the source, and would lack what lies between the shares' places in the log. */
function expectMirrors(sinks: Config["sinks"]): void {
  const history = sinks.find(({ connector }) => connector.form === "history");
  if (history === undefined) return;
  const hint =
    "Keep the number of shares. Or put the history into a configuration of its own, without shares; or take the sink out of this one, and accept that its history ends here.";
  const message = `sink ${history.name} keeps a history, which would lack what lies between the places in the log`;
  throw cliError("MR1127", message, { hint });
}

/**
 * Under the leases of all states at once: no daemon of a share runs meanwhile. Every share is moved, also one that has been:
 * after a crash in between nothing starts before the command has ended (MR1330).
 */
async function carryOut(session: Session, { goOn, end }: Move): Promise<void> {
  const all = [...goOn, ...end];
  const configs = new Map<number | null, Config>();
  for (const number of all) configs.set(number, await session.configOf(number));
  const states = new Map<number | null, StateStore>();
  const holding = async (left: readonly (number | null)[]): Promise<void> => {
    const [number, ...rest] = left;
    if (number === undefined) return await moveAll(session, { goOn, end }, configs, states);
    await alone(
      configs.get(number)!,
      async (state) => {
        states.set(number, state);
        await holding(rest);
      },
      { removes: () => end.includes(number) },
    );
  };
  await holding(all);
}

async function moveAll(
  session: Session,
  { goOn, end }: Pick<Move, "goOn" | "end">,
  configs: ReadonlyMap<number | null, Config>,
  states: ReadonlyMap<number | null, StateStore>,
): Promise<void> {
  const { signal } = new AbortController();
  for (const number of goOn) {
    const [config, state] = [configs.get(number)!, states.get(number)!];
    // What a share has in targets that tables share is from now on that one's which has the table: it claims it when it starts.
    for (const sink of config.sinks)
      await withOpenSink(session, sink, state, async (opened) => await opened.presence?.keepOnly?.([], signal));
    const request = { sink: null, isForced: true, isConfirmed: true };
    const recover = async () => await recoverIn(session, config, state, request);
    await auditedHere(state, "recover", { shares: config.shares!.division.count }, recover, ({ position, tables }) => ({
      position,
      tables: tables.length,
    }));
    failpoint("shares.moved");
  }
  // Also fences a process of the former number that was stopped and continues: nobody else opens its sinks any more.
  for (const number of end) {
    const state = states.get(number)!;
    for (const sink of configs.get(number)!.sinks)
      await withOpenSink(session, sink, state, async (opened) => await opened.forget(signal));
  }
}

const NOTHING = "the tables are shared as the configuration says: there is nothing to do";

function textOf(name: string, { from, to, goOn, begin, end }: Move, isApplied: boolean): string {
  const spelled = (number: number | null): string => (number === null ? name : shareName(name, number));
  const listed = (what: string, numbers: readonly (number | null)[]): string[] =>
    numbers.length === 0 ? [] : [`${what}: ${numbers.map(spelled).join(", ")}`];
  const before = from.map((one) => (one === null ? "no shares" : `\`shares: ${one}\``)).join(" and ");
  return [
    `from ${before} to \`shares: ${to}\``,
    ...listed("go on at the log's end, are compared with the source, and read the tables that come to them", goOn),
    ...listed("begin, and read their tables", begin),
    ...listed("end: their states and their progress in the sinks are removed; the rows stay", end),
    isApplied ? "`millrace run` does the rest" : NOT_DONE,
  ].join("\n");
}
