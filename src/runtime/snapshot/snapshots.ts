/** What operators see and cancel of rows read beside the stream, with a running daemon or without one. */
import { type Clock, deadline } from "../../core/clock.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { RowReads } from "../../core/contracts/row-reads.ts";
import type {
  TableSnapshot,
  SnapshotRequest,
  SnapshotStore,
  StateStore,
  StoredError,
} from "../../core/contracts/state-store.ts";
import type { SnapshotStatus } from "../../core/contracts/status.ts";
import { conditionRefused, SINK_AHEAD, snapshotNeeded } from "../errors.ts";
import { knownPosition } from "../sink/sink-position.ts";

const ANSWER_MS_MAX = 8_000;

/** `error`: why it makes no progress, as far as the daemon knows. */
export function snapshotStatus(snapshot: TableSnapshot, error: StoredError | null = null): SnapshotStatus {
  const { id, tableId, sink, scope, reason, needed, state, rowsDone, chunksDone, resumedCount } = snapshot;
  const { attempt: restartedCount, createdAt, startedAt, endedAt } = snapshot;
  const progress = { rowsDone, chunksDone, resumedCount, restartedCount };
  return { id, tableId, sink, scope, reason, needed, state, error, ...progress, createdAt, startedAt, endedAt };
}

/** Why a table is read that an operator had paused, where tables are not read by themselves. */
export const RESUMED = "an operator let the table go on";

/** Tables, or a part of each, to be read again for one sink. */
export interface Again extends Omit<SnapshotRequest, "tableId"> {
  readonly tableIds: readonly string[];
}

/**
 * Requests that tables are read again while no snapshotter runs. An interrupted incremental snapshot begins again, because the requested rows
 * may be among those that it has passed.
 */
export async function askAgain(snapshots: SnapshotStore, { tableIds, ...request }: Again): Promise<void> {
  for (const tableId of tableIds) await snapshots.again({ ...request, tableId }, ({ state }) => state === "waiting");
}

/** A request to a daemon that does not run. */
export interface StoppedRequest {
  readonly sinks: readonly string[];
  readonly tableIds: readonly string[];
  readonly where: string | null;
  /** All tables: a sink that had failed is filled, whatever it holds. */
  readonly isWhole: boolean;
  /** All configured sinks: each lacks the changes of a suspended table. */
  readonly takers: readonly string[];
}

/** Stores a request for the next start. A running daemon does the same in `Control.startSnapshot`. */
export async function askWhileStopped(
  state: StateStore,
  { sinks, tableIds, where, isWhole, takers }: StoppedRequest,
): Promise<void> {
  const scope = where === null ? ({ kind: "table" } as const) : ({ kind: "where", where } as const);
  const suspended = await state.schemas.suspended();
  for (const sink of sinks) {
    await state.suspensions.reinstate(sink, tableIds);
    await askAgain(state.snapshots, { sink, tableIds, scope, reason: "asked for by an operator", needed: false });
    if (isWhole && where === null) await fillFailed(state, sink);
  }
  // Every sink lacks the changes of a suspended table.
  for (const tableId of tableIds.filter((id) => suspended.has(id))) {
    const request = { tableId, scope: { kind: "table" }, reason: "reinstated", needed: true } as const;
    for (const sink of takers) await state.snapshots.add({ ...request, sink });
    await state.schemas.reinstate(tableId);
  }
}

/** A sink that had failed is filled whatever it holds, as in a running daemon. */
async function fillFailed({ sinks, source }: StateStore, name: string): Promise<void> {
  const record = await sinks.get(name);
  if (record?.error == null) return;
  const log = await source.get();
  const ofLog = log?.acknowledged ?? log?.origin ?? null;
  // The log does not have the place of a sink that is ahead of it.
  const place = record.error.code === SINK_AHEAD ? ofLog : (knownPosition(record) ?? ofLog);
  if (place !== null) await source.reset(new Map([[name, { to: place, anew: true }]]));
}

/**
 * A condition that the source does not accept would be tried for ever. So it is tested with a query for no row before it is
 * stored.
 */
export async function tryCondition(
  clock: Clock,
  rows: Pick<RowReads, "readRange">,
  tables: readonly TableVersion[],
  where: string,
): Promise<void> {
  using limit = deadline(clock, ANSWER_MS_MAX);
  for (const table of tables) {
    try {
      await rows.readRange(table, { after: null, where: `(${where}\n) AND 1 = 0` }, limit.signal);
    } catch (error) {
      throw error instanceof Error ? conditionRefused(table.id, error) : error;
    }
  }
}

/** The sink has a part of it. */
export function isRunning({ state }: SnapshotStatus): boolean {
  return state === "running";
}

/** False if there is no such unfinished snapshot. Throws if the sink would lack rows without it. */
export async function cancelSnapshot(snapshots: SnapshotStore, id: number): Promise<boolean> {
  const snapshot = (await snapshots.list()).find((open) => open.id === id);
  if (snapshot === undefined) return false;
  if (await snapshots.cancel(id)) return true;
  throw snapshotNeeded(id, snapshot.tableId, snapshot.sink);
}
