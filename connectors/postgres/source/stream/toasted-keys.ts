/**
 * A key value that is stored out of line and did not change is missing in the new tuple of an update, like any such value;
 * the server then sends the old key too. Other parts rely on whole keys, so the value is inserted here.
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { CELL_UNCHANGED, CellMap } from "../../../../src/core/model/tuple.ts";
import { TupleWriter } from "../../../../src/core/model/tuple-writer.ts";

const older = new CellMap();
const newer = new CellMap();

/** How many bytes the new tuple grows when its key is completed from the old one; 0: the key is whole. */
export function missingKeyBytes(table: TableVersion, bytes: Uint8Array, before: number, after: number): number {
  newer.read(bytes, after);
  if (!table.key.some((ordinal) => newer.kind[ordinal] === CELL_UNCHANGED)) return 0;
  older.read(bytes, before);
  let count = 0;
  // A kind byte exists already; a length and the value do not.
  for (const ordinal of table.key) if (newer.kind[ordinal] === CELL_UNCHANGED) count += 4 + older.length[ordinal]!;
  return count;
}

/** Writes the new tuple with a whole key over itself; the bytes after it were moved away before. */
export function completeKey(table: TableVersion, bytes: Uint8Array, before: number, after: number): void {
  older.read(bytes, before);
  const length = newer.read(bytes, after) - after;
  const out = new ByteWriter(length + missingKeyBytes(table, bytes, before, after));
  const tuple = new TupleWriter(out);
  tuple.begin(newer.count);
  for (let i = 0; i < newer.count; i++) {
    const isMissing = newer.kind[i] === CELL_UNCHANGED && table.key.includes(i);
    tuple.copyCell(bytes, isMissing ? older : newer, i);
  }
  bytes.set(out.view(), after);
}
