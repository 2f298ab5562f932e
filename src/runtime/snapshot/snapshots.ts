/** What operators ask and cancel of rows read beside the stream, with a running daemon or without one. */
import { type Clock, deadline } from "../../core/clock.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { SinkForm } from "../../core/contracts/sink.ts";
import type { RowReads } from "../../core/contracts/row-reads.ts";
import type { SnapshotRequest, SnapshotStore, StoredError } from "../../core/contracts/state-store.ts";
import { conditionRefused, notReadAgain, SINK_AHEAD, snapshotNeeded } from "../errors.ts";

const ANSWER_MS_MAX = 8_000;

/** An operator has asked. Stored and compared: it lets a sink take a table's rows in a shared target. */
export const ASKED = "asked for by an operator";
/** Why a table is read that was suspended. */
export const REINSTATED = "reinstated";
/** Why a table is read that an operator had paused, where tables are not read by themselves. */
export const RESUMED = "an operator let the table go on";

/** Tables, or a part of each, to be read again for one sink. */
export interface Again extends Omit<SnapshotRequest, "tableId"> {
  readonly tableIds: readonly string[];
}

/**
 * Requests that tables are read again while no snapshotter runs. An interrupted incremental snapshot begins again, because
 * the requested rows may be among those that it has passed.
 */
export async function askAgain(snapshots: SnapshotStore, { tableIds, ...request }: Again): Promise<void> {
  const asked = tableIds.map((tableId) => ({ ...request, tableId }));
  await snapshots.again(asked, ({ state }) => state === "waiting");
}

/** A condition that the source does not accept, or that asks what rules hide, is refused before it is stored. */
export async function tryCondition(
  clock: Clock,
  rows: Pick<RowReads, "readRange">,
  tables: readonly TableVersion[],
  where: string,
): Promise<void> {
  using limit = deadline(clock, ANSWER_MS_MAX);
  for (const table of tables) {
    try {
      await rows.readRange(table, { after: null, where, scanRowCountMax: 0 }, limit.signal);
    } catch (error) {
      throw error instanceof Error ? conditionRefused(table.id, error) : error;
    }
  }
}

/** False if there is no such unfinished snapshot. Throws if the sink would lack rows without it. */
export async function cancelSnapshot(snapshots: SnapshotStore, id: number): Promise<boolean> {
  const snapshot = (await snapshots.list()).find((open) => open.id === id);
  if (snapshot === undefined) return false;
  if ((await snapshots.cancel([id])).length > 0) return true;
  throw snapshotNeeded(id, snapshot.tableId, snapshot.sink);
}

/** The sink's position does not fit the log: as long as it has that position, it takes nothing. */
const OF_POSITION: ReadonlySet<string> = new Set(["MR1301", SINK_AHEAD, "MR1317"]);

interface FailedSink {
  readonly name: string;
  readonly form: SinkForm;
  readonly error: StoredError;
}

/** Throws if the request would be stored, and the failed sink stay as it is. `isWhole`: for all rows of all tables. */
export function expectReadable({ name, form, error }: FailedSink, isWhole: boolean): void {
  if (!OF_POSITION.has(error.code)) return;
  // Only a mirror's rows of a later epoch can be replaced.
  if (error.code === SINK_AHEAD && form !== "mirror") throw notReadAgain(name, error, error.hint);
  if (!isWhole)
    throw notReadAgain(name, error, `millrace snapshot start --sink ${name}: it fills the whole sink again`);
}
