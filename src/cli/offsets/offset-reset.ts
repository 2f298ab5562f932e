import { tablesPart } from "../../daemon/state-parts.ts";
import type { Config } from "../../config/config.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import { TableSelection } from "../../core/table-selection.ts";
import type { Positions } from "../../core/contracts/positions.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { SinkReset, StateStore } from "../../core/contracts/state-store.ts";
import { heldFrom, knownPosition, unreadable } from "../../runtime/sink/sink-position.ts";
import { cliError } from "../errors.ts";
import { whileOpen } from "../opened.ts";
import { chosenSinks, NOT_DONE } from "../options.ts";
import type { Session } from "../session.ts";
import { alone, auditedHere } from "../state.ts";
import { type ChosenOffset, chosenOffset, reachable } from "./chosen-offset.ts";

interface ResetRequest {
  readonly to: string;
  readonly sink: string | null;
  readonly isConfirmed: boolean;
}

/** What a reset does to one sink, as the state last knew it. The sink's own checkpoint decides at the next start. */
interface SinkPlan {
  readonly name: string;
  readonly holds: string | null;
  readonly position: string;
  /**
   * replay: the sink gets the log again; skip: its tables are read again; anew: the same, also over rows changed by
   * hand; gap: the sink writes a log of its own, which lacks what is skipped.
   */
  readonly effect: "none" | "replay" | "skip" | "anew" | "gap";
  /** What no reading brings back; null: nothing. */
  readonly loses: string | null;
  /** Bytes of log that are read again or skipped. */
  readonly bytes: number;
  /** The tables that are read again from the source. */
  readonly tables: readonly string[];
}

interface ResetPlan {
  readonly applied: boolean;
  readonly to: string;
  readonly position: string;
  readonly note: string | null;
  readonly reachable: { readonly first: string; readonly end: string };
  readonly epoch: number;
  readonly sinks: readonly SinkPlan[];
}

export async function resetOffsets(session: Session, request: ResetRequest): Promise<ResetPlan> {
  const place = await session.place();
  const tables = place.sinks.filter(({ isOfDocuments }) => !isOfDocuments);
  const { sink } = request;
  if (place.sinks.some(({ name, isOfDocuments }) => name === sink && isOfDocuments)) {
    const hint = `Send its documents again: millrace snapshot start --sink ${sink}`;
    throw cliError("MR1127", `sink ${sink} takes documents, and has no position in the source's log`, { hint });
  }
  const chosen = chosenSinks({ ...place, sinks: tables }, sink);
  return await alone(place, async (whole) => {
    const state = tablesPart(whole, tables);
    const config = await session.part({ sinks: chosen });
    return await whileOpen(config.source.connector.create(session.log), async (source) => {
      const reset = async () => await resetIn(config, state, source, chosen, request);
      if (!request.isConfirmed) return await reset();
      const subject = { sinks: chosen, to: request.to };
      return await auditedHere(state, "offsets reset", subject, reset, ({ position }) => ({ position }));
    });
  });
}

/** The caller holds the lease. */
export async function resetIn(
  config: Pick<Config, "sinks">,
  state: StateStore,
  source: Source,
  chosen: readonly string[],
  { to, isConfirmed }: Pick<ResetRequest, "to" | "isConfirmed">,
): Promise<ResetPlan> {
  const record = await state.source.get();
  if (record?.identity == null) throw cliError("MR1120", "the first start has not finished: no sink has an offset");
  const { signal } = new AbortController();
  const range = await reachable(source.log, signal);
  const offset = await chosenOffset(to, source, range, record, signal);
  // The same comparisons as at a start: a reset to a position of another log is refused.
  await source.admin.resume(record.identity, heldFrom(offset.position, await state.sinks.all()), signal);
  const sinks: SinkPlan[] = [];
  for (const name of chosen) sinks.push(await planOf(config, state, source.positions, name, offset));
  if (isConfirmed) {
    const target: SinkReset = { to: offset.position, anew: offset.anew };
    await state.source.reset(new Map(chosen.map((name) => [name, target])));
  }
  const { format } = source.positions;
  return {
    applied: isConfirmed,
    to,
    position: format(offset.position.commit),
    note: offset.note,
    reachable: { first: format(range.first), end: format(range.end) },
    epoch: record.epoch,
    sinks,
  };
}

async function planOf(
  config: Pick<Config, "sinks">,
  state: StateStore,
  positions: Positions,
  name: string,
  { position, anew }: ChosenOffset,
): Promise<SinkPlan> {
  const record = await state.sinks.get(name);
  const held = knownPosition(record);
  const { tables: taken = [], connector } = config.sinks.find((sink) => sink.name === name) ?? {};
  const ofRows = anew ? "anew" : effectOf(held, position);
  const form = connector?.form ?? "mirror";
  const skips = ofRows === "skip" || ofRows === "anew";
  const effect = form === "log" && skips ? "gap" : ofRows;
  const selection = new TableSelection(taken);
  const known = effect === "anew" || effect === "skip" ? await state.schemas.list() : [];
  return {
    name,
    holds: held === null ? null : positions.format(held.commit),
    position: positions.format(position.commit),
    effect,
    loses: skips && held !== null ? unreadable(form) : null,
    bytes: held === null ? 0 : positions.distance(held.commit, position.commit),
    tables: known.filter(({ schema, table }) => selection.matches(schema, table)).map(({ id }) => id),
  };
}

function effectOf(held: Position | null, to: Position): SinkPlan["effect"] {
  if (held === null) return "skip";
  const order = comparePositions(held, to);
  return order === 0 ? "none" : order > 0 ? "replay" : "skip";
}

export function planText({ applied, to, position, note, reachable: range, epoch, sinks }: ResetPlan): string {
  const lines = [
    `reset to ${to}: position ${position}, epoch ${epoch}${note === null ? "" : ` (${note})`}`,
    `the log can be read from ${range.first} to ${range.end}`,
    ...sinks.flatMap((sink) => [
      `${sink.name}: holds ${sink.holds ?? "nothing"}, will be at ${sink.position}`,
      `  ${effectText(sink)}`,
      ...(sink.loses === null ? [] : [`  ${sink.loses}`]),
    ]),
  ];
  lines.push(applied ? "recorded: applied when the daemon starts" : NOT_DONE);
  return lines.join("\n");
}

function effectText({ effect, bytes, tables }: SinkPlan): string {
  const listed = tables.length === 0 ? "no tables" : tables.join(", ");
  switch (effect) {
    case "none":
      return "is at this position already; nothing changes";
    case "replay":
      return `${bytes} bytes of log are applied again; newer rows are not set back for good; then the tables are compared`;
    case "skip":
      return `${bytes} bytes of log are skipped; these tables are read again beside the stream instead: ${listed}`;
    case "gap":
      return (
        `${bytes} bytes of log are skipped, and nothing is read again: daemons that follow this sink's log stop there ` +
        "with MR2010, and each needs `millrace recover`"
      );
    case "anew":
      return `filled again beside the stream, and rows that do not come from the log are removed: ${listed}; ${bytes} bytes of log are skipped`;
    default:
      return effect satisfies never;
  }
}
