/** The status without a daemon: the last facts in the state store. */
import type { Place } from "../../config/load.ts";
import { systemClock, timestampBefore } from "../../core/clock.ts";
import { statusDocument } from "../../core/conditions/conditions.ts";
import { NUMBERED } from "../../core/contracts/positions.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import {
  isRunning,
  letterFacts,
  pipelineStatus,
  type SinkStatus,
  snapshotStatus,
  type StatusDocument,
} from "../../core/contracts/status.ts";
import { LEASE_MS } from "../../daemon/lease.ts";
import { pastOf } from "../../reconcile/report/past.ts";
import { roomsOfState } from "../../state/open.ts";
import { withNest } from "../options.ts";
import { liveHolder, readState, storedPositions } from "../state.ts";

const NOT_STORED = { paused: false, error: null, lost: null, covered: null, checkpoint: null };

export async function storedStatus(place: Place): Promise<StatusDocument> {
  return await readState(place, async (state) => await statusIn(place, state));
}

async function statusIn(place: Place, state: StateStore): Promise<StatusDocument> {
  const positions = await storedPositions(place, state);
  const spell = (commit: bigint | undefined, of = positions) => (commit === undefined ? null : of.format(commit));
  const record = await state.source.get();
  const position = spell(record?.acknowledged?.commit ?? record?.origin?.commit);
  const letters = await state.deadLetters.waiting();
  const records = await state.sinks.all();
  const sinks = withNest(place).sinks.map(({ name, isOfDocuments }) => {
    const {
      paused,
      lost = null,
      covered,
      checkpoint,
      ...record
    } = records.find((one) => one.name === name) ?? NOT_STORED;
    // Whether the source still fails only a daemon can tell.
    const error = record.error?.isOfSource === true ? null : record.error;
    const stored: Partial<SinkStatus> = {
      state: paused ? "paused" : error === null ? "stopped" : "failed",
      position: spell((covered ?? checkpoint)?.commit, isOfDocuments ? NUMBERED : positions),
      error,
      needsPerson: !paused && error !== null,
      lost,
    };
    return [name, { ...stored, ...letterFacts(letters.get(name)) }] as const;
  });
  const suspended = (await state.suspensions.list()).map(({ tableId: table, sink, error }) => {
    return { table, sink, error, mayReturn: false };
  });
  const captured = (await state.schemas.list()).length - suspended.filter(({ sink }) => sink === null).length;
  const open = await state.snapshots.list();
  const keyCounts = [...(await state.snapshots.countKeys()).values()].flatMap((tables) => [...tables.values()]);
  const heldBy = await liveHolder(state);
  const ended = heldBy === null ? await state.ending.get() : null;
  const unreleased = heldBy === null ? await state.lease.unreleased() : null;
  const known = pipelineStatus(
    { ...place, ...withNest(place) },
    {
      source: { position, acknowledged: position },
      sinks: new Map(sinks),
      tables: { captured, suspended },
      unfinishedSnapshots: keyCounts.reduce((sum, count) => sum + count, open.length),
      snapshots: open.map((snapshot) => snapshotStatus(snapshot)).filter(isRunning),
      ...(heldBy === null ? {} : { heldBy }),
      ...(ended === null ? {} : { ended }),
      ...(unreleased === null ? {} : { lastSeenAt: timestampBefore(systemClock, LEASE_MS - unreleased.leftMs) }),
    },
  );
  const reconcile = { next: null, failure: null, ...pastOf(await state.reports.list()) };
  return statusDocument(known, { state: { error: null, rooms: roomsOfState(place.state) }, reconcile });
}
