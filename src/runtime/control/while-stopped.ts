/** What operators ask of a daemon that does not run: stored for its next start, as `Control` does it in a running one. */
import type { Clock } from "../../core/clock.ts";
import { type StateStore, type SuspendedTable, TABLE_PAUSED } from "../../core/contracts/state-store.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { knownPosition } from "../sink/sink-position.ts";
import { SINK_AHEAD, tablePaused } from "../errors.ts";
import { meetingOf, SuspendedTables } from "../schema/suspended-tables.ts";
import { ASKED, askAgain, REINSTATED, RESUMED } from "../snapshot/snapshots.ts";

export interface StoppedRequest {
  readonly sinks: readonly string[];
  readonly tableIds: readonly string[];
  readonly where: string | null;
  /** All tables: a sink that had failed is filled, whatever it holds. */
  readonly isWhole: boolean;
  /** All configured sinks: each lacks the changes of a suspended table. */
  readonly takers: readonly string[];
}

/** Reads tables again. */
export async function askWhileStopped(
  state: StateStore,
  { sinks, tableIds, where, isWhole, takers }: StoppedRequest,
): Promise<void> {
  const scope = where === null ? ({ kind: "table" } as const) : ({ kind: "where", where } as const);
  const suspended = await state.suspensions.list();
  const asked = new Set(tableIds);
  for (const sink of sinks) {
    const ending = suspended.filter((one) => one.sink === sink && asked.has(one.tableId));
    const lacked = await withTargets(state.suspensions, ending);
    // Invariant: what is read is listed before the suspension ends. What passed by meanwhile is needed, whichever rows were asked for.
    const whole = { sink, tableIds: lacked, scope: { kind: "table" }, reason: ASKED, needed: true } as const;
    await askAgain(state.snapshots, whole);
    await askAgain(state.snapshots, { sink, tableIds, scope, reason: ASKED, needed: false });
    await state.suspensions.reinstate(sink, lacked);
    if (isWhole && where === null) await fillFailed(state, sink);
  }
  // Every sink lacks the changes of a suspended table.
  for (const { sink: only, tableId } of suspended) {
    if (only !== null || !asked.has(tableId)) continue;
    const request = { tableId, scope: { kind: "table" }, reason: REINSTATED, needed: true } as const;
    for (const sink of takers) await state.snapshots.add({ ...request, sink });
    await state.suspensions.reinstate(null, [tableId]);
  }
}

/**
 * Ids of those that have a target of their own. Whose target another table has is paused no more, and comes back by itself when
 * that one is gone, which a running daemon sees.
 */
async function withTargets(
  suspensions: StateStore["suspensions"],
  ending: readonly SuspendedTable[],
): Promise<readonly string[]> {
  await suspensions.suspend(
    ending.flatMap(({ sink, tableId, former }) => (former === undefined ? [] : [{ sink, tableId, error: former }])),
  );
  return ending.filter((one) => meetingOf(one) === null).map(({ tableId }) => tableId);
}

/** A sink that had failed is filled whatever it holds. */
async function fillFailed({ sinks, source }: StateStore, name: string): Promise<void> {
  const record = await sinks.get(name);
  if (record?.error == null) return;
  const log = await source.get();
  const ofLog = log?.acknowledged ?? log?.origin ?? null;
  // The log does not have the position of a sink that is ahead of it.
  const to = record.error.code === SINK_AHEAD ? ofLog : (knownPosition(record) ?? ofLog);
  if (to !== null) await source.reset(new Map([[name, { to, anew: true }]]));
}

/** Pauses tables of a sink, also those that are suspended there. */
export async function pauseWhileStopped(
  { suspensions }: Pick<StateStore, "suspensions">,
  clock: Clock,
  sink: string,
  tableIds: readonly string[],
): Promise<void> {
  const suspended = new SuspendedTables(clock, suspensions, SILENT);
  await suspended.load();
  await suspended.suspend(
    sink,
    tableIds.map((tableId) => ({ tableId, failure: tablePaused(tableId) })),
  );
}

/** Resumes them. `snapshot`: where it is `none`, nobody else lists what the tables lack. */
export async function resumeWhileStopped(
  { suspensions, snapshots }: Pick<StateStore, "suspensions" | "snapshots">,
  snapshot: "initial" | "none",
  sink: string,
  tableIds: readonly string[],
): Promise<void> {
  const paused = (await suspensions.list()).filter((one) => one.sink === sink && one.error.code === TABLE_PAUSED);
  const asked = new Set(tableIds);
  const ids = await withTargets(
    suspensions,
    paused.filter(({ tableId }) => asked.has(tableId)),
  );
  const request = { sink, tableIds: ids, scope: { kind: "table" }, reason: RESUMED, needed: true } as const;
  if (snapshot === "none") await askAgain(snapshots, request);
  await suspensions.reinstate(sink, ids);
}
