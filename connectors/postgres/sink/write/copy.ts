/**
 * Rows as COPY data in binary form. Rate to hold: 1M rows/s of 12 binary columns in Node alone (bench apply-postgres),
 * so rows of the direct path are processed once, in place.
 */
import { DELETE, isIfHeld, PATCH, type TableWrites } from "../../../../src/core/model/batch.ts";
import { type Block, NO_TUPLE } from "../../../../src/core/model/block.ts";
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { changeOffset, changeOp } from "../../../../src/core/targets/history.ts";
import { CELL_BINARY, CELL_TEXT, CELL_UNCHANGED, CellMap, readInt32 } from "../../../../src/core/model/tuple.ts";
import { BINARY_AS_IS, type CellForms, copyField, writeField, writeNull } from "../values/cells.ts";
import {
  STAGED_BASELESS,
  STAGED_DELETE,
  STAGED_IF_HELD,
  STAGED_MOVE,
  STAGED_PATCH,
  STAGED_PUT,
} from "../tables/staged.ts";
import { BinaryStamp } from "../values/stamp.ts";
import type { TargetTable } from "../tables/target-table.ts";
import { type Frames, writeInt32 } from "../wire/frames.ts";

export function stagedAction(writes: TableWrites, entry: number, table: TargetTable): number {
  const action = writes.action[entry];
  if (action === DELETE) return STAGED_DELETE;
  if (action !== PATCH) return STAGED_PUT;
  if (table.history !== null && writes.fresh[entry] === 1) return STAGED_BASELESS;
  if (isIfHeld(writes, entry)) return STAGED_IF_HELD;
  return writes.moved[entry] === 1 ? STAGED_MOVE : STAGED_PATCH;
}

export function isPatch(action: number): boolean {
  return action !== STAGED_PUT && action !== STAGED_DELETE;
}

const stamp = new BinaryStamp();
const after = new CellMap();
const before = new CellMap();

/** Rows for the table itself; false if a cell can only be sent as text. */
export function copyDirect(frames: Frames, table: TargetTable, writes: TableWrites, entries: Uint32Array): boolean {
  stamp.forget();
  frames.beginCopy(true);
  const { forms } = table;
  const fieldCount = table.columnCount + 2;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    const block = writes.blocks[writes.block[entry]!]!;
    const row = writes.row[entry]!;
    const { out } = frames;
    writeCount(out, fieldCount);
    out.copy(stamp.of(block, row), 0, 24);
    if (!writeTuple(out, forms, block.bytes, block.after[row]!)) return false;
    frames.rowWritten();
  }
  frames.endCopy(true);
  return true;
}

/** Rows for the staging table; false if a cell can only be sent as text. */
export function copyStaged(frames: Frames, table: TargetTable, writes: TableWrites, entries: Uint32Array): boolean {
  stamp.forget();
  frames.beginCopy(true);
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    const block = writes.blocks[writes.block[entry]!]!;
    const row = writes.row[entry]!;
    if (!writeStagedRow(frames.out, table, writes, entry, block, row)) return false;
    if (table.history !== null) writeChange(frames.out, writes, entry, block, row);
    frames.rowWritten();
  }
  frames.endCopy(true);
  return true;
}

function writeStagedRow(
  out: ByteWriter,
  table: TargetTable,
  writes: TableWrites,
  entry: number,
  block: Block,
  row: number,
): boolean {
  const action = stagedAction(writes, entry, table);
  writeCount(out, table.stagedFieldCount);
  writeInt32Field(out, entry);
  writeInt32Field(out, action);
  const patched = isPatch(action);
  if (patched) after.read(block.bytes, block.after[row]!);
  if (patched) writeMask(out, after);
  else writeNull(out);
  out.copy(stamp.of(block, row), 0, 24);
  if (action === STAGED_PUT) {
    if (!writeTuple(out, table.forms, block.bytes, block.after[row]!)) return false;
    for (let i = table.keyColumns.length; i > 0; i--) writeNull(out);
    return true;
  }
  if (block.before[row] !== NO_TUPLE) before.read(block.bytes, block.before[row]!);
  if (action === STAGED_DELETE) return writeKeyRow(out, table, block.bytes);
  return writePatchRow(out, table, block.bytes, action === STAGED_MOVE);
}

const OFFSET = Buffer.alloc(12);
OFFSET.writeInt32BE(8, 0);

/** The columns of a history besides the row. */
function writeChange(out: ByteWriter, writes: TableWrites, entry: number, block: Block, row: number): void {
  out.reserve(5);
  writeInt32(out.bytes, out.length, 1);
  out.length += 4;
  out.byte(changeOp(writes, entry).charCodeAt(0));
  const offset = changeOffset(block, row);
  OFFSET.writeUInt32BE(Math.floor(offset / 2 ** 32), 4);
  OFFSET.writeUInt32BE(offset % 2 ** 32, 8);
  out.copy(OFFSET, 0, 12);
}

/** Only the key of the old row counts; the base key stays empty. */
function writeKeyRow(out: ByteWriter, table: TargetTable, bytes: Uint8Array): boolean {
  for (let i = 0; i < table.columnCount; i++) {
    if (table.inDelete[i] === 0) writeNull(out);
    else if (!writeCell(out, table.forms, before, i, bytes)) return false;
  }
  for (let i = table.keyColumns.length; i > 0; i--) writeNull(out);
  return true;
}

/** The base key is the old key if the key changed, or if the new tuple omits a key that is stored out of line. */
function writePatchRow(out: ByteWriter, table: TargetTable, bytes: Uint8Array, moved: boolean): boolean {
  for (let i = 0; i < table.columnCount; i++) if (!writeCell(out, table.forms, after, i, bytes)) return false;
  for (const i of table.keyColumns) {
    const cells = moved || after.kind[i] === CELL_UNCHANGED ? before : after;
    if (!writeCell(out, table.forms, cells, i, bytes)) return false;
  }
  return true;
}

function writeCell(out: ByteWriter, forms: CellForms, cells: CellMap, i: number, bytes: Uint8Array): boolean {
  return writeField(out, forms, i, cells.kind[i]!, bytes, cells.start[i]!, cells.length[i]!);
}

/** A whole tuple, field by field; nulls and unchanged cells become null. */
function writeTuple(out: ByteWriter, forms: CellForms, bytes: Uint8Array, offset: number): boolean {
  const count = (bytes[offset]! << 8) | bytes[offset + 1]!;
  const { binary } = forms;
  let at = offset + 2;
  for (let i = 0; i < count; i++) {
    const kind = bytes[at++]!;
    if (kind === CELL_BINARY && binary[i] === BINARY_AS_IS) {
      // Length and bytes have the same layout in the tuple and in the field.
      const size = 4 + readInt32(bytes, at);
      out.copy(bytes, at, size);
      at += size;
    } else if (kind === CELL_BINARY || kind === CELL_TEXT) {
      const length = readInt32(bytes, at);
      if (!writeField(out, forms, i, kind, bytes, at + 4, length)) return false;
      at += 4 + length;
    } else {
      writeNull(out);
    }
  }
  return true;
}

function writeCount(out: ByteWriter, count: number): void {
  out.reserve(2);
  out.bytes[out.length] = count >> 8;
  out.bytes[out.length + 1] = count;
  out.length += 2;
}

function writeInt32Field(out: ByteWriter, value: number): void {
  out.reserve(8);
  writeInt32(out.bytes, out.length, 4);
  writeInt32(out.bytes, out.length + 4, value);
  out.length += 8;
}

let mask = new Uint8Array(8);

/** Bit i (in the counting of get_bit) is set if cell i is unchanged. */
export function maskOf(cells: CellMap): Uint8Array {
  const length = (cells.count + 7) >> 3;
  if (length > mask.length) mask = new Uint8Array(length * 2);
  mask.fill(0, 0, length);
  for (let i = 0; i < cells.count; i++) if (cells.kind[i] === CELL_UNCHANGED) mask[i >> 3]! |= 1 << (i & 7);
  return mask.subarray(0, length);
}

function writeMask(out: ByteWriter, cells: CellMap): void {
  const bits = maskOf(cells);
  copyField(out, bits, 0, bits.length);
}
