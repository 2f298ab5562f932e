/** Finds the position in the source's log that `--to` names. */
import type { Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { ChangeLog, SchemaResolver } from "../../core/contracts/change-log.ts";
import type { Positions } from "../../core/contracts/positions.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { SourceRecord } from "../../core/contracts/state-store.ts";
import { cliError } from "../errors.ts";

/** The part of the log that the source still keeps for this daemon. */
interface Reachable {
  readonly first: bigint;
  readonly end: bigint;
}

export interface ChosenOffset {
  readonly position: Position;
  /** Whether to fill the sinks from the source, whatever they hold. */
  readonly anew: boolean;
  /** Explains the position where it is not obvious. */
  readonly note: string | null;
}

export async function reachable(log: ChangeLog, signal: AbortSignal): Promise<Reachable> {
  const first = await log.earliest(signal);
  if (first === null) {
    throw cliError("MR1118", "the source keeps no log for this daemon any more", {
      hint: "`millrace check` says what became of the slot",
    });
  }
  const end = await log.tip(signal);
  return { first, end: end > first ? end : first };
}

export async function chosenOffset(
  to: string,
  source: Pick<Source, "log" | "positions">,
  range: Reachable,
  record: Pick<SourceRecord, "epoch" | "acknowledgedAt">,
  signal: AbortSignal,
): Promise<ChosenOffset> {
  const at = (commit: bigint, anew = false, note: string | null = null): ChosenOffset => {
    return { position: { epoch: record.epoch, commit, index: 0 }, anew, note };
  };
  switch (to) {
    case "earliest":
      return at(range.first);
    case "latest":
      return at(range.end);
    case "snapshot":
      return at(range.end, true);
    default: {
      const timeUs = timeOf(to);
      if (timeUs !== null) {
        const commit = await firstCommitAt(timeUs, source, range, record, signal);
        return at(commit ?? range.end, false, commit === null ? "nothing was committed since that time" : null);
      }
      const commit = positionOf(source.positions, to);
      if (commit < range.first || commit > range.end) throw unreachable(source.positions, `position ${to}`, range);
      return at(commit);
    }
  }
}

function positionOf(positions: Positions, text: string): bigint {
  try {
    return positions.parse(text);
  } catch (error) {
    const wanted = "a position, earliest, latest, snapshot, or a time with its zone such as 2026-11-20T06:43:15Z";
    throw cliError("MR1110", `--to: ${JSON.stringify(text)} is not ${wanted}`, { cause: error });
  }
}

const TIME = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?\s?(Z|[+-]\d\d(?::?\d\d)?)$/i;

/** Microseconds since 1970; null where the text is no time with a zone. */
export function timeOf(text: string): bigint | null {
  const match = TIME.exec(text);
  if (match === null) return null;
  const [, date, minutes, seconds = "00", fraction = "", zone = "Z"] = match;
  const offset = /^z$/i.test(zone) ? "Z" : `${zone.slice(0, 3)}:${zone.slice(3).replace(":", "") || "00"}`;
  const ms = Date.parse(`${date}T${minutes}:${seconds}${offset}`);
  return Number.isNaN(ms) ? null : BigInt(ms) * 1000n + BigInt(fraction.padEnd(6, "0"));
}

/** Null: no change of a captured table was committed since. */
async function firstCommitAt(
  timeUs: bigint,
  source: Pick<Source, "log" | "positions">,
  range: Reachable,
  record: Pick<SourceRecord, "epoch" | "acknowledgedAt">,
  signal: AbortSignal,
): Promise<bigint | null> {
  const from: Position = { epoch: record.epoch, commit: range.first, index: 0 };
  await using stream = await source.log.stream(from, { temporary: true, resolve: unregistered([]) }, signal);
  let sawEarlier = false;
  for (let at = range.first; at < range.end;) {
    const block = await stream.next(signal);
    const { count, commit, commitTimeUs } = block.transactions;
    at = block.until.commit;
    let found: bigint | null = null;
    for (let i = 0; i < count && found === null; i++) {
      if (commitTimeUs[i]! >= timeUs) found = commit[i]!;
      else sawEarlier = true;
    }
    block.release();
    if (found === null) continue;
    if (!sawEarlier && mayBeForgotten(timeUs, record)) throw unreachable(source.positions, "that time", range);
    return found;
  }
  if (!sawEarlier && mayBeForgotten(timeUs, record)) throw unreachable(source.positions, "that time", range);
  return null;
}

/** Log that the source has dropped was committed before `acknowledgedAt`, so later times lose nothing. */
function mayBeForgotten(timeUs: bigint, { acknowledgedAt = null }: Pick<SourceRecord, "acknowledgedAt">): boolean {
  return acknowledgedAt !== null && timeUs < BigInt(Date.parse(acknowledgedAt)) * 1000n;
}

/** For a read that registers no version: other shapes than the registered ones have version 0. */
export function unregistered(registered: readonly TableVersion[]): SchemaResolver {
  const keyOf = ({ id, fingerprint }: Pick<TableVersion, "id" | "fingerprint">) => `${id} ${fingerprint}`;
  const known = new Map(registered.map((version) => [keyOf(version), version]));
  return async (shape, since) => {
    const version = known.get(keyOf(shape)) ?? { ...shape, version: 0, since };
    known.set(keyOf(shape), version);
    return version;
  };
}

const ANOTHER_OFFSET =
  "name a position or a time in between, earliest, latest, or snapshot to read the rows as they are now";

export function unreachable(
  positions: Positions,
  what: string,
  { first, end }: Reachable,
  hint = ANOTHER_OFFSET,
): Error {
  const [from, to] = [first, end].map((position) => positions.format(position));
  return cliError("MR1118", `${what} can't be reached: the log can be read from ${from} to ${to}`, { hint });
}
