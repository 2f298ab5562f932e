/** The reads from the source beside the stream, in portions. */
import { keyShape } from "../../core/model/row-id.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Chunk, KeyText, RowReads } from "../../core/contracts/row-reads.ts";
import type { PendingKey, TableSnapshot, SnapshotScope } from "../../core/contracts/state-store.ts";
import { entry } from "../entry.ts";

/** Rows that one sink could not complete. */
export interface KeyRead {
  readonly kind: "keys";
  readonly tableId: string;
  readonly sinks: readonly string[];
  readonly keys: readonly PendingKey[];
}

/** The next rows of a table, or of a part of it, for all the sinks whose incremental snapshots are at the same key. */
export interface RangeRead {
  readonly kind: "range";
  readonly tableId: string;
  readonly sinks: readonly string[];
  readonly scope: SnapshotScope;
  readonly cursor: KeyText | null;
  readonly snapshots: readonly TableSnapshot[];
}

export type SnapshotRead = KeyRead | RangeRead;

/** `countOf`: how many rows of a table to look up at once. */
export function keyReads(keys: readonly PendingKey[], countOf: (tableId: string) => number): KeyRead[] {
  const groups = Map.groupBy(keys, ({ sink, tableId }) => entry(sink, tableId));
  return [...groups.values()].map((group) => {
    const { tableId, sink } = group[0]!;
    return { kind: "keys", tableId, sinks: [sink], keys: group.slice(0, countOf(tableId)) };
  });
}

/** An incremental snapshot of kind `differences` is not read here: a comparison finds the differences and lists them as keys. */
export function rangeReads(open: readonly TableSnapshot[]): RangeRead[] {
  const ranged = open.filter(({ scope }) => scope.kind !== "differences");
  const groups = Map.groupBy(ranged, ({ tableId, scope, cursor }) => JSON.stringify([tableId, scope, cursor]));
  return [...groups.values()].map((snapshots) => {
    const { tableId, scope, cursor } = snapshots[0]!;
    return { kind: "range", tableId, sinks: snapshots.map(({ sink }) => sink), scope, cursor, snapshots };
  });
}

export async function readRows(
  rows: RowReads,
  table: TableVersion,
  reading: SnapshotRead,
  signal: AbortSignal,
  scanRowCountMax?: number,
): Promise<Chunk> {
  if (reading.kind === "keys") return await rows.readKeys(table, fittingKeys(reading.keys, table).texts, signal);
  const where = reading.scope.kind === "where" ? reading.scope.where : null;
  return await rows.readRange(table, { after: reading.cursor, where, scanRowCountMax }, signal);
}

interface FittingKeys {
  /** Keys that may name rows of the table as it is now. */
  readonly fitting: readonly PendingKey[];
  readonly texts: readonly KeyText[];
  /** Keys that were listed while the table had another key. */
  readonly others: readonly PendingKey[];
}

export function fittingKeys(keys: readonly PendingKey[], table: TableVersion): FittingKeys {
  const now = keyShape(table);
  const fits = ({ key, shape }: PendingKey) => (shape === "" ? key.length === table.key.length : shape === now);
  const fitting = keys.filter(fits);
  return { fitting, texts: fitting.map(({ key }) => key), others: keys.filter((pending) => !fits(pending)) };
}

/** Limits for the read of a chunk. */
export interface ReadLimits {
  /** Aborted when the chunk has become useless. */
  readonly signal: AbortSignal;
  /** The maximum number of rows to look at under a condition. */
  readonly scanRowCountMax: number;
}
