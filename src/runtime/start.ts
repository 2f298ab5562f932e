import type { Clock } from "../core/clock.ts";
import { failpoint } from "../core/failpoint.ts";
import { invariant } from "../core/invariant.ts";
import { earliest, type Position } from "../core/model/position.ts";
import type { Crossing, FirstCopy, LogAdmin } from "../core/contracts/log-admin.ts";
import type { LogIdentity } from "../core/contracts/positions.ts";
import type { SinkReset, SourceRecord, StateStore } from "../core/contracts/state-store.ts";
import { isTriedAgain } from "./retry.ts";
import type { SinkRunner } from "./apply/sink-runner.ts";
import { knownPlace } from "./apply/standing.ts";
import { within } from "./within.ts";

/** How long a start waits for sinks to answer before it goes on with those that did. */
export const OPENING_MS_MAX = 10_000;

export interface LogParts {
  readonly clock: Clock;
  readonly admin: LogAdmin;
  readonly state: StateStore;
  readonly runners: readonly SinkRunner[];
  readonly snapshot: "initial" | "none";
}

/** The log as it is stored; at a first start it is made, and there may be a copy of the rows as of its beginning. */
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
 * A source that has another log by now, in which every sink that it knows the place of goes on. One that can't be asked now
 * is asked by the stream.
 */
async function cross(
  { admin, state }: LogParts,
  { epoch }: SourceRecord,
  identity: LogIdentity,
  signal: AbortSignal,
): Promise<void> {
  const records = await state.sinks.all();
  const places = records.flatMap((record) => knownPlace(record)?.commit ?? []);
  let crossing: Crossing | null;
  try {
    crossing = (await admin.cross?.(identity, places, signal)) ?? null;
  } catch (error) {
    if (!isTriedAgain(error)) throw error;
    return;
  }
  if (crossing === null) return;
  const at = (commit: bigint): Position => ({ epoch: epoch + 1, commit, index: 0 });
  const generations = Object.fromEntries(
    Array.from(crossing.generations, ([id, { before, now }]): [string, [string, string]] => [id, [before, now]]),
  );
  const resets = new Map<string, SinkReset>();
  for (const record of records) {
    const place = knownPlace(record);
    if (place === null) continue;
    const to = crossing.places.get(place.commit);
    const from = to === undefined || place.epoch !== epoch ? null : record.written;
    const otherwise = at(crossing.end);
    resets.set(record.name, {
      to: from === null ? otherwise : at(to!),
      anew: record.reset?.anew ?? false,
      crossing: { from, otherwise, generations },
    });
  }
  await state.source.crossed(crossing.identity, at(crossing.from), resets);
}

/** First start: what is about to be made is announced, made, and recorded, in this order. */
async function create(
  { clock, admin, state, runners, snapshot }: LogParts,
  record: SourceRecord | null,
  signal: AbortSignal,
): Promise<FirstCopy | null> {
  // Before sinks are asked: who asks takes their fence over, and they may be another daemon's that runs.
  if (record === null) await admin.expectFree?.(null, signal);
  const epoch = await epochOver(clock, runners, record?.epoch ?? null, signal);
  if (record === null) await state.source.announce(epoch);
  failpoint("source.announced");
  const log = await admin.create({ epoch, wantCopy: snapshot === "initial", resumeIntent: record !== null }, signal);
  failpoint("source.created");
  await state.source.created(log.identity, log.position);
  return log.copy;
}

/**
 * Without state nothing proves that the sinks' positions are of this log: what they hold belongs to an earlier epoch,
 * and is read again. `announced`: by an earlier process, which may have had other sinks.
 */
async function epochOver(
  clock: Clock,
  runners: readonly SinkRunner[],
  announced: number | null,
  signal: AbortSignal,
): Promise<number> {
  // One that does not answer hides no other's answer. Should it hold a later epoch, it stops when it is back.
  const asked = runners.map((runner) => within(clock, OPENING_MS_MAX, runner.epochHeld(signal), signal));
  const held = await Promise.all(asked);
  const epoch = announced ?? 1 + Math.max(0, ...held.map((one) => one ?? 0));
  for (const [i, runner] of runners.entries()) if ((held[i] ?? epoch) >= epoch) runner.missFirstCopy();
  return epoch;
}

/** Where the stream begins: at the lowest place of the sinks that answer in time. The others join later. */
export async function startingPoint(
  { clock, runners }: Pick<LogParts, "clock" | "runners">,
  { acknowledged, origin }: FoundLog["stored"],
  signal: AbortSignal,
): Promise<Position> {
  const opening = runners.map((runner) => runner.begin(signal));
  const standings = (await within(clock, OPENING_MS_MAX, Promise.all(opening), signal)) ?? [];
  const covered = standings.flatMap((standing) => (standing?.kind === "known" ? [standing.covered] : []));
  return earliest(covered) ?? acknowledged ?? origin;
}
