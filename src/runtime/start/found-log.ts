import type { Clock } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import { invariant } from "../../core/invariant.ts";
import { comparePositions, earliest, EPOCH_MAX, latest, type Position } from "../../core/model/position.ts";
import type { TableGenerations } from "../../core/contracts/catalog.ts";
import type { CreatedLog, Crossing, FirstCopy, LogAdmin } from "../../core/contracts/log-admin.ts";
import type { LogIdentity } from "../../core/contracts/positions.ts";
import type { SkippedLog } from "../../core/contracts/source.ts";
import type {
  SinkRecord,
  SinkReset,
  SnapshotStore,
  SourceRecord,
  StateStore,
} from "../../core/contracts/state-store.ts";
import { isTriedAgain } from "../retry.ts";
import type { SinkLife } from "../sink/sink-life.ts";
import { askAgain } from "../snapshot/snapshots.ts";
import { knownPosition, mayHoldMore } from "../sink/sink-position.ts";
import { type WaitingStart, whenAnswered } from "./start-waits.ts";
import { epochsUsedUp } from "../errors.ts";
import { withTimeout } from "../../core/waiting.ts";

/** How long a start waits for sinks to answer before it continues with those that did. */
export const OPENING_MS_MAX = 10_000;

const GAP_REASON = "the log between was lost";

interface LogParts {
  readonly clock: Clock;
  readonly admin: LogAdmin;
  readonly state: StateStore;
  readonly lives: readonly SinkLife[];
  readonly snapshot: "initial" | "none";
  /** Ids of the captured tables that a sink takes. */
  readonly tablesOf: (sink: string) => readonly string[];
  readonly waiting: WaitingStart;
}

/** The log as the state has it. A first start creates the log, and may also bring a copy of the rows as of its beginning. */
export interface FoundLog {
  readonly stored: SourceRecord & { readonly origin: Position };
  readonly copy: FirstCopy | null;
}

export async function findLog(parts: LogParts, signal: AbortSignal): Promise<FoundLog> {
  const before = await parts.state.source.get();
  if (before?.identity) await cross(parts, before, before.identity, signal);
  const record = await parts.state.source.get();
  const copy = record?.identity ? null : await create(parts, record, signal);
  const stored = await parts.state.source.get();
  invariant(stored?.identity != null && stored.origin !== null, "a started source has an identity and an origin");
  return { stored: { ...stored, origin: stored.origin }, copy };
}

/**
 * The source has another log now: the sinks continue there whose counterpart position is known. If the source can't be
 * reached now, the stream asks it later.
 */
async function cross(
  parts: LogParts,
  { epoch }: SourceRecord,
  identity: LogIdentity,
  signal: AbortSignal,
): Promise<void> {
  const { admin, lives, state } = parts;
  const records = await state.sinks.all();
  const positions = records.flatMap((record) => knownPosition(record)?.commit ?? []);
  let crossing: Crossing | null;
  try {
    crossing = (await admin.cross?.(identity, positions, signal)) ?? null;
  } catch (error) {
    if (!isTriedAgain(error)) throw error;
    return;
  }
  if (crossing === null) return;
  const sinks = lives.map(({ worker }) => worker.sink);
  if (crossing.leftAt !== undefined && !(await mayHoldMore(sinks, state.bonds))) return;
  const at = (commit: bigint): Position => ({ epoch: epoch + 1, commit, index: 0 });
  if (crossing.compared !== undefined) {
    const resets = await overGap(parts, records, at(crossing.end), crossing.compared);
    failpoint("start.gap-listed");
    await state.source.crossed(crossing.identity, at(crossing.from), resets);
    return;
  }
  const generations = Object.fromEntries(
    Array.from(crossing.generations, ([id, { before, now }]): [string, [string, string]] => [id, [before, now]]),
  );
  const common = { epoch, commit: crossing.leftAt ?? highest(crossing.positions.keys()), index: 0 };
  const isContinued = crossing.leftAt === undefined ? {} : ({ isContinued: true } as const);
  const resets = new Map<string, SinkReset>();
  for (const record of records) {
    const position = knownPosition(record);
    if (position === null) continue;
    const to = crossing.positions.get(position.commit);
    const from = to === undefined || position.epoch !== epoch ? null : record.checkpoint;
    const otherwise = at(crossing.end);
    resets.set(record.name, {
      to: from === null ? otherwise : at(to!),
      anew: record.reset?.anew ?? false,
      crossing: { from, common, otherwise, generations, ...isContinued },
    });
  }
  await state.source.crossed(crossing.identity, at(crossing.from), resets);
}

function highest(positions: Iterable<bigint>): bigint {
  let found = 0n;
  for (const position of positions) if (position > found) found = position;
  return found;
}

/** Every sink continues at `to`, and its tables are compared. One that is to be filled whatever it holds is filled there. */
async function overGap(
  { state, lives, tablesOf }: LogParts,
  records: readonly SinkRecord[],
  to: Position,
  generations: TableGenerations,
): Promise<ReadonlyMap<string, SinkReset>> {
  const resets = new Map<string, SinkReset>();
  for (const { name } of lives) {
    const isAnew = records.find((record) => record.name === name)?.reset?.anew === true;
    const keeps = isAnew ? undefined : await listComparisons(state.snapshots, name, tablesOf(name), generations);
    resets.set(name, { to, anew: isAnew, ...(keeps === undefined ? {} : { keeps }) });
  }
  return resets;
}

/**
 * Lists the comparison of each of these tables of a sink that exists now, whatever the sink holds of it. Returns what the sink
 * keeps: no rows that are not compared. Invariant: this is stored before the sink's position moves over the gap.
 */
export async function listComparisons(
  snapshots: SnapshotStore,
  sink: string,
  tableIds: readonly string[],
  generations: TableGenerations,
): Promise<NonNullable<SinkReset["keeps"]>> {
  const kept = tableIds.flatMap((id): readonly [string, string][] => {
    const generation = generations.get(id);
    return generation === undefined ? [] : [[id, generation]];
  });
  const request = { sink, scope: { kind: "differences" }, reason: GAP_REASON, needed: true } as const;
  await askAgain(snapshots, { ...request, tableIds: kept.map(([id]) => id) });
  return Object.fromEntries(kept);
}

/**
 * First start: it announces itself, then that it makes the log if it finds none to adopt, creates it, and records it, in this
 * order. A log that was there before is never taken for what an attempt that failed has left.
 */
async function create(
  { clock, admin, state, lives, snapshot, waiting }: LogParts,
  record: SourceRecord | null,
  signal: AbortSignal,
): Promise<FirstCopy | null> {
  // Before the sinks are opened: opening takes over their fence, and another running daemon may own them.
  if (record === null) await whenAnswered(waiting, async () => await admin.expectFree?.(null, signal), signal);
  const epoch = await epochOver(clock, lives, record?.epoch ?? null, signal);
  if (record === null) await state.source.announce(epoch);
  failpoint("source.announced");
  let resumeIntent = record?.makes === true;
  const making = async (): Promise<void> => {
    await state.source.making();
    resumeIntent = true;
  };
  const make = (): Promise<CreatedLog> =>
    admin.create({ epoch, wantCopy: snapshot === "initial", resumeIntent, making }, signal);
  const log = await whenAnswered(waiting, make, signal);
  failpoint("source.created");
  await state.source.created(log.identity, log.position);
  return log.copy;
}

/**
 * Without state nothing proves that the sinks' positions belong to this log. So their rows count as those of an earlier
 * epoch, and are read again. `announced`: the epoch that an earlier process announced, which may have had other sinks.
 */
async function epochOver(
  clock: Clock,
  lives: readonly SinkLife[],
  announced: number | null,
  signal: AbortSignal,
): Promise<number> {
  // Asked separately, so that a sink that does not answer hides no other sink's answer. If that sink holds a later epoch,
  // it stops when it is back.
  const limits = { clock, signal, timeoutMs: OPENING_MS_MAX, late: () => null };
  const asked = lives.map((life) => withTimeout(life.epochHeld(signal), limits));
  const held = await Promise.all(asked);
  const epoch = announced ?? 1 + Math.max(0, ...held.map((one) => one ?? 0));
  if (epoch > EPOCH_MAX) throw epochsUsedUp(epoch);
  for (const [i, life] of lives.entries()) if ((held[i] ?? epoch) >= epoch) life.missFirstCopy();
  return epoch;
}

/**
 * The part of the log that sinks which get other positions may pass over, whichever of them begins first, and whatever the others
 * read; null: none does.
 */
export function skippedLog(
  { acknowledged }: Pick<SourceRecord, "acknowledged">,
  records: readonly SinkRecord[],
): SkippedLog | null {
  const [moved, read] = [records.filter(isMoved), records.filter((record) => !isMoved(record))];
  const known = latest(acknowledged, ...read.map(knownPosition));
  const isBeyond = (position: Position): boolean => known === null || comparePositions(position, known) > 0;
  // One that crosses reads on only if it is where the state knows it.
  const otherwise = read.flatMap(({ reset }) => reset?.crossing?.otherwise ?? []);
  const to = [...moved.flatMap((record) => knownPosition(record) ?? []), ...otherwise].filter(isBeyond);
  const [first, last] = [earliest(to), latest(...to)];
  if (first === undefined || last === null) return null;
  if (known?.epoch !== last.epoch) return { from: null, to: first, isThere: false };
  const isThere = records.some((record) => {
    const begin = record.paused ? null : knownPosition(record);
    return begin?.epoch === last.epoch && !isBeyond(begin);
  });
  return { from: known, to: last, isThere };
}

/**
 * The part of the log between what the state knows and the furthest sink; null: there is none. The last daemon was killed, or the
 * state is an older copy, under which nobody has read that part. The two look alike, except by what a daemon keeps at once.
 */
export function unknownLog(known: Position, furthest: Position): SkippedLog | null {
  if (known.epoch !== furthest.epoch || comparePositions(furthest, known) <= 0) return null;
  return { from: known, to: furthest, isThere: true };
}

/** True for a sink that surely begins where something else than its own reading has brought it. */
function isMoved({ reset }: SinkRecord): boolean {
  return reset != null && (reset.crossing === undefined || reset.crossing.from === null);
}

/** The position where the stream begins: the lowest one of the sinks that answer in time. The other sinks join later. */
export async function startingPoint(
  { clock, lives }: Pick<LogParts, "clock" | "lives">,
  { acknowledged, origin }: FoundLog["stored"],
  signal: AbortSignal,
): Promise<Position> {
  const opening = Promise.all(lives.map((life) => life.begin(signal)));
  const begun = await withTimeout(opening, { clock, signal, timeoutMs: OPENING_MS_MAX, late: () => [] });
  const covered = begun.flatMap((from) => (from?.kind === "known" ? [from.covered] : []));
  return earliest(covered) ?? acknowledged ?? origin;
}
