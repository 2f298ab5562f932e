import { ConfigError } from "../../config/errors.ts";
import type { Place } from "../../config/load.ts";
import { reasonOf } from "../../core/errors.ts";
import { keepHeapSmall } from "../../ops/heap.ts";
import type { CommandLine, OnSharesOf } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { chosenSinks, NOT_DONE } from "../options.ts";
import { runHere } from "../commands/run.ts";
import type { Session } from "../session.ts";
import { moveShares } from "../shares/move-shares.ts";
import { alone, auditedHere, readState } from "../state.ts";
import { tableText } from "../table.ts";
import { recoverIn, type Recovery, type RecoverRequest } from "./recover-in.ts";

export function addRecover({ program, action }: CommandLine): void {
  program
    .command("recover")
    .description(
      "after a lost slot or a purged log: a new position first, then only the rows that differ; prints the plan unless --yes is given",
    )
    .option("--sink <name>", "this sink only; the log itself must not be lost")
    .option("--anyway", "begin at a new position even if the log is not lost")
    .option("--shares", "go over to the number of shares that the configuration has now")
    .option("--yes", "do it")
    .action(
      action(ofShares, async (session, options) => {
        const isConfirmed = options.has("--yes");
        const sink = options.text("--sink");
        const isForced = options.has("--anyway");
        if (options.has("--shares")) {
          if (sink !== null || isForced) throw cliError("MR1110", "--shares goes with --yes alone");
          return await moveShares(session, isConfirmed);
        }
        return await recover(session, { sink, isForced, isConfirmed });
      }),
    );
}

/** A change of their number is about all of them together. */
const ofShares: OnSharesOf = (_args, options) => (options.has("--shares") ? "none" : "each");

async function recover(session: Session, request: RecoverRequest): Promise<ExitCode> {
  const place = await session.place();
  const begun = await begin(session, place, request);
  const recovery = begun.applied ? { ...begun, ...(await repairListed(session, place, begun.listed)) } : begun;
  session.print(documentOf(recovery), textOf(recovery));
  return exitOf(recovery);
}

async function begin(session: Session, place: Place, request: RecoverRequest): Promise<Recovery> {
  const sinks = chosenSinks(place, request.sink);
  return await alone(place, async (state) => {
    const config = await session.part({ sinks, others: true });
    const recover = async () => await recoverIn(session, config, state, request);
    if (!request.isConfirmed) return await recover();
    const { sink, isForced } = request;
    const subject = { sinks: sink === null ? [] : [sink], anyway: isForced };
    return await auditedHere(state, "recover", subject, recover, ({ lost, position, tables }) => ({
      lost: lost?.code ?? null,
      position,
      tables: tables.length,
    }));
  });
}

/** Without a daemon: runs until everything listed is repaired. A daemon that starts meanwhile does the rest. */
async function repairListed(
  session: Session,
  place: Place,
  listed: readonly number[],
): Promise<Pick<Recovery, "mended" | "missing">> {
  let missing: readonly string[];
  try {
    keepHeapSmall();
    ({ missing } = await runHere(await session.config(), { once: true, ...session.daemon }));
  } catch (error) {
    if (reasonOf(error) === "held") missing = ["a daemon was started meanwhile and does the rest"];
    // It runs all sinks, of which this command may know some only.
    else if (error instanceof ConfigError) missing = [`nothing is compared yet: ${error.message}`];
    else throw error;
  }
  const ended = await readState(place, ({ snapshots }) => snapshots.list(true));
  // The daemon drops the comparisons of a sink that holds no rows.
  const ours = ended.filter(({ id, state }) => listed.includes(id) && state !== "cancelled");
  const mended = ours.flatMap(({ tableId, sink, rowsDone, state }) =>
    state === "done" ? [{ table: tableId, sink, rows: rowsDone }] : [],
  );
  const isInterrupted = missing.length === 0 && mended.length < ours.length;
  return { mended, missing: isInterrupted ? ["not every table has been compared"] : missing };
}

function documentOf({ applied, epoch, lost, mended, missing, position, sinks, tables }: Recovery): object {
  return { applied, lost, epoch, position, sinks, tables, mended, missing };
}

function exitOf({ applied, lost, missing, sinks }: Recovery): ExitCode {
  if (!applied) return lost === null && sinks.length === 0 ? EXIT.done : EXIT.refused;
  return missing.length === 0 ? EXIT.done : EXIT.failed;
}

function textOf({ applied, epoch, lost, mended, missing, position, sinks, tables }: Recovery): string {
  if (sinks.length === 0) return "the log is complete: `millrace run` continues in it, and there is nothing to recover";
  const lines = [
    lost === null ? "the log itself is not lost" : `lost: ${lost.code} ${lost.message}`,
    position === null ? `epoch ${epoch} begins at the end of the source's log` : `epoch ${epoch} begins at ${position}`,
    ...sinks.map(
      ({ name, holds, loses }) =>
        `${name}: holds what it got up to ${holds ?? "nothing"}, and keeps it${loses === null ? "" : `; ${loses}`}`,
    ),
    `compared with the source, and repaired where rows differ: ${tables.length === 0 ? "no tables" : tables.join(", ")}`,
  ];
  if (!applied) return [...lines, NOT_DONE].join("\n");
  const rows = mended.map(({ table, sink, rows: count }) => [table, sink, count]);
  if (mended.length > 0) lines.push(tableText(["table", "sink", "rows repaired"], rows));
  const rest = missing.map((what) => `not finished: ${what}`);
  const end = missing.length === 0 ? "every sink is recovered" : "`millrace run` does the rest";
  return [...lines, ...rest, end].join("\n");
}
