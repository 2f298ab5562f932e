/**
 * Sorts entries by key, so that the upsert visits the target's index in order (measured: 160k against 134k rows/s).
 * Only locality matters: keys are ordered by a number computed from the first key column, which need not be unique.
 */
import { DELETE, type TableWrites } from "../../../../src/core/model/batch.ts";
import { CELL_BINARY, readInt32 } from "../../../../src/core/model/tuple.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import { cellEnd } from "../values/cells.ts";

/** The low bits of a packed number hold the entry's index; together with the key's 32 bits they fit into a double. */
const PLACE_COUNT_MAX = 2 ** 20;
/** Longer numbers count as equal: a sum over a thousand digits would be infinite. */
const DIGITS_MAX = 1e18;
const KEY_STEPS = 2 ** 32 - 1;

let keys = new Float64Array(1024);
let packed = new Float64Array(1024);

export function sortByKey(writes: TableWrites, entries: Uint32Array): Uint32Array {
  const count = entries.length;
  if (count < 2 || count > PLACE_COUNT_MAX) return entries;
  if (count > keys.length) {
    keys = new Float64Array(count * 2);
    packed = new Float64Array(count * 2);
  }
  const column = writes.table.key[0];
  const numeric = isNumeric(writes.table.columns[column]!.type);
  const skipped = numeric ? 0 : commonPrefixLength(writes, entries, column);
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < count; i++) {
    const key = keyNumber(writes, entries[i]!, column, numeric, skipped);
    keys[i] = key;
    if (key < low) low = key;
    if (key > high) high = key;
  }
  const scale = high > low ? KEY_STEPS / (high - low) : 0;
  for (let i = 0; i < count; i++) packed[i] = Math.floor((keys[i]! - low) * scale) * PLACE_COUNT_MAX + i;
  const order = packed.subarray(0, count).toSorted();
  return Uint32Array.from(order, (value) => entries[value % PLACE_COUNT_MAX]!);
}

function isNumeric(type: ColumnType): boolean {
  return type.kind === "int" || type.kind === "decimal";
}

/** The position of the last found cell. */
const cell: { bytes: Uint8Array; kind: number; start: number; end: number } = {
  bytes: new Uint8Array(),
  kind: 0,
  start: 0,
  end: 0,
};

function find(writes: TableWrites, entry: number, column: number): void {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const { bytes } = block;
  const tuple = writes.action[entry] === DELETE ? block.before[row]! : block.after[row]!;
  let at = tuple + 2;
  for (let i = 0; i < column; i++) at = cellEnd(bytes[at]!, bytes, at + 1);
  cell.bytes = bytes;
  cell.kind = bytes[at]!;
  cell.end = cellEnd(cell.kind, bytes, at + 1);
  cell.start = Math.min(at + 5, cell.end);
}

/** Bytes with which all keys begin (`user-000…`): they do not affect the order. */
function commonPrefixLength(writes: TableWrites, entries: Uint32Array, column: number): number {
  find(writes, entries[0]!, column);
  const { bytes, start } = cell;
  let length = cell.end - start;
  for (let i = 1; i < entries.length && length > 0; i++) {
    find(writes, entries[i]!, column);
    length = Math.min(length, cell.end - cell.start);
    for (let b = 0; b < length; b++) if (bytes[start + b] !== cell.bytes[cell.start + b]) length = b;
  }
  return length;
}

function keyNumber(writes: TableWrites, entry: number, column: number, numeric: boolean, skipped: number): number {
  find(writes, entry, column);
  const { bytes, kind, start, end } = cell;
  if (!numeric) return prefix(bytes, start + skipped, end);
  return kind === CELL_BINARY ? integer(bytes, start, end - start) : digits(bytes, start, end);
}

/** A big-endian integer, to the 53 bits that the order needs. */
function integer(bytes: Uint8Array, start: number, length: number): number {
  if (length === 8) return readInt32(bytes, start) * 2 ** 32 + (readInt32(bytes, start + 4) >>> 0);
  if (length === 4) return readInt32(bytes, start);
  return prefix(bytes, start, start + length);
}

function digits(bytes: Uint8Array, start: number, end: number): number {
  const negative = bytes[start] === 0x2d;
  let value = 0;
  for (let i = negative ? start + 1 : start; i < end; i++) {
    const digit = bytes[i]! - 0x30;
    if (digit < 0 || digit > 9 || value > DIGITS_MAX) break;
    value = value * 10 + digit;
  }
  return negative ? -value : value;
}

/** The first six bytes as a number: orders texts and uuids as far as their beginnings differ. */
function prefix(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let i = start; i < start + 6; i++) value = value * 256 + (i < end ? bytes[i]! : 0);
  return value;
}
