/** The rows of one table of a history, as the body of one insert. */
import { DELETE, isIfHeld, mayLackInserts, PATCH, type TableWrites } from "../../../src/core/model/batch.ts";
import { CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { changeOffset, changeOp, holdsReads } from "../../../src/core/targets/history.ts";
import type { TableLayout } from "../tables/layout.ts";
import { inParts, type BaseRequest } from "./bases.ts";
import { writeLength } from "./cells.ts";
import { basesSql, latestSql, truncatedSql } from "./history.ts";
import { PIECE_BYTES, respelt, type RowsWork } from "./mirror.ts";
import { writeBigInteger } from "./numbers.ts";
import type { RowWriter } from "./row-writer.ts";
import {
  exactTexts,
  shapeOf,
  storedRows,
  type StoredRow,
  STRING_SHAPE,
  textAt,
  UINT32_SHAPE,
  UINT64_SHAPE,
  UINT8_SHAPE,
} from "./stored-rows.ts";

/** After the table's columns: op, offset, version, commit time, exact texts, whether values are unknown. */
const OWN_SHAPES = [STRING_SHAPE, UINT64_SHAPE, UINT64_SHAPE, UINT64_SHAPE, STRING_SHAPE, UINT8_SHAPE];

/** Of a change in the history. */
interface Place {
  readonly version: bigint;
  readonly offset: bigint;
}

/** A change that the history has. */
interface Change extends StoredRow, Place {
  readonly op: string;
  readonly hasUnknown: boolean;
}

export async function* historyRows(work: RowsWork): AsyncGenerator<Buffer> {
  const { writer, writes } = work;
  yield* holdsReads(writes) ? readRows(work) : loggedRows(work);
  if (writer.out.length > 0) yield writer.take();
}

/** Changes of the log. Those that build on a row are found in the history as it was before them. */
async function* loggedRows(work: RowsWork): AsyncGenerator<Buffer> {
  const { writer, writes, left } = work;
  const partial: number[] = [];
  const kept = respelt(work);
  for (let i = 0; i < writes.count; i++) {
    if (kept.has(i)) continue;
    if (writes.action[i] === PATCH) partial.push(i);
    else changeRow(work, i, null);
    if (writer.out.length >= PIECE_BYTES) yield writer.take();
  }
  const there = await writtenBefore(work, partial);
  const building: number[] = [];
  for (const entry of partial) {
    if (there.has(entry)) continue;
    if (writes.fresh[entry] === 1) changeRow(work, entry, null);
    else building.push(entry);
    if (writer.out.length >= PIECE_BYTES) yield writer.take();
  }
  const truncated = building.length > 0 && mayLackInserts(writes.table) ? await lastTruncate(work) : null;
  for (const wanted of inParts(work, building, (entry) => left.unfit.push(entry))) {
    const waiting = new Set(wanted.entries);
    for await (const [entry, base] of latestOf(work, wanted, upTo)) {
      waiting.delete(entry);
      if (isIt(work, entry, base)) continue;
      changeRow(work, entry, isGone(base, truncated) || base.hasUnknown ? null : base);
      if (writer.out.length >= PIECE_BYTES) yield writer.take();
    }
    for (const entry of waiting) changeRow(work, entry, null);
  }
}

/**
 * Those of these entries that are in the history, of an attempt before, or because the log is read again: what they took
 * values from then may not be known now. Of one that takes them from its own key, the look for that row tells it.
 */
async function writtenBefore(work: RowsWork, partial: readonly number[]): Promise<ReadonlySet<number>> {
  const { writes } = work;
  const asked = partial.filter((entry) => writes.fresh[entry] === 1 || writes.moved[entry] === 1);
  const there = new Set<number>();
  for (const wanted of inParts(work, asked, () => undefined, newKeyOffset))
    for await (const [entry, latest] of latestOf(work, wanted, identityOf))
      if (isIt(work, entry, latest)) there.add(entry);
  return there;
}

/** Whether the entry is this row. Its key is listed before the batch ends, and may not have been when its row was written. */
function isIt({ writes, left }: RowsWork, entry: number, { version, offset, hasUnknown }: Change): boolean {
  const own = identityOf(writes, entry);
  if (version !== own.version || offset !== own.offset) return false;
  if (hasUnknown) left.incomplete.push(entry);
  return true;
}

function newKeyOffset(writes: TableWrites, entry: number): number {
  return writes.blocks[writes.block[entry]!]!.after[writes.row[entry]!]!;
}

/** Under another key it is a row before the change: the change itself removes that row. */
function upTo(writes: TableWrites, entry: number): Place {
  const { version, offset } = identityOf(writes, entry);
  if (writes.moved[entry] !== 1) return { version, offset };
  return offset > 0n ? { version, offset: offset - 1n } : { version: version - 1n, offset: OFFSET_MAX };
}

const OFFSET_MAX = 2n ** 64n - 1n;

function identityOf(writes: TableWrites, entry: number): Place {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  return { version: block.transactions.version[block.tx[row]!]!, offset: BigInt(changeOffset(block, row)) };
}

/** For each entry the latest row of its key up to a place. */
async function* latestOf(
  { reads, layout, writes }: RowsWork,
  { entries, literals }: BaseRequest,
  placeOf: (writes: TableWrites, entry: number) => Place,
): AsyncGenerator<readonly [entry: number, base: Change]> {
  const tuples = entries.map((entry, i) => {
    const { version, offset } = placeOf(writes, entry);
    const key = layout.key.length === 1 ? literals[i]! : literals[i]!.slice(1, -1);
    return `(${entry}, ${key}, ${version}, ${offset})`;
  });
  const chunks = await reads.bytes(layout.sqlName, basesSql(layout, tuples));
  for await (const row of storedRows(chunks, [UINT32_SHAPE, ...shapesOf(layout)])) {
    yield [row.bytes.readUInt32LE(row.start[0]), changeOf(layout, { bytes: row.bytes, start: row.start.subarray(1) })];
  }
}

/** Rows that were read beside the stream are changes where the history says something else. */
async function* readRows(work: RowsWork): AsyncGenerator<Buffer> {
  const { reads, writer, layout, writes, left } = work;
  const truncated = await lastTruncate(work);
  const entries = Array.from({ length: writes.count }, (_, i) => i);
  const parts = inParts(work, entries, (entry) => {
    if (writes.action[entry] !== DELETE) left.unfit.push(entry);
  });
  for (const { entries: asked, keys, literals } of parts) {
    const waiting = new Map(keys.map((key, i) => [key, asked[i]!]));
    const chunks = await reads.bytes(layout.sqlName, latestSql(layout, literals));
    for await (const row of storedRows(chunks, shapesOf(layout))) {
      const key = layout.table.key.map((i) => row.bytes.toString("latin1", row.start[i], row.start[i + 1])).join("");
      const entry = waiting.get(key);
      waiting.delete(key);
      if (entry !== undefined) readRow(work, entry, changeOf(layout, row), truncated);
      if (writer.out.length >= PIECE_BYTES) yield writer.take();
    }
    for (const entry of waiting.values()) {
      if (writes.action[entry] !== DELETE) changeRow(work, entry, null);
      if (writer.out.length >= PIECE_BYTES) yield writer.take();
    }
  }
}

/** Where a history was emptied last. */
async function lastTruncate({ reads, layout }: RowsWork): Promise<Place> {
  const [[version = "0", offset = "0"] = []] = await reads.rows(layout.sqlName, truncatedSql(layout));
  return { version: BigInt(version ?? 0), offset: BigInt(offset ?? 0) };
}

/** The key has no row behind this change, or none any more. */
function isGone({ op, version, offset }: Change, truncated: Place | null): boolean {
  if (op === "d" || truncated === null) return op === "d";
  return version < truncated.version || (version === truncated.version && offset < truncated.offset);
}

function readRow(work: RowsWork, entry: number, found: Change, truncated: Place): void {
  const { writer, layout, writes } = work;
  const { version } = identityOf(writes, entry);
  if (found.version > version) return;
  const isOver = isGone(found, truncated);
  const isDelete = writes.action[entry] === DELETE;
  if (isOver && isDelete) return;
  if (!isOver && !isDelete && !found.hasUnknown && isEqual(work, entry, found)) {
    seenRow(writer, layout, found, version);
  } else changeRow(work, entry, null);
}

function isEqual({ writer, layout, writes }: RowsWork, entry: number, { bytes, start }: Change): boolean {
  const block = writes.blocks[writes.block[entry]!]!;
  const { out } = writer;
  const before = out.length;
  const count = layout.columns.length;
  const fits = writer.cells(layout, block.bytes, block.after[writes.row[entry]!]!, null);
  const middle = out.length;
  if (fits) writer.exact();
  const cells = bytes.subarray(start[0], start[count]);
  const exact = bytes.subarray(start[count + 4], start[count + 5]);
  const equal =
    fits && cells.equals(out.bytes.subarray(before, middle)) && exact.equals(out.bytes.subarray(middle, out.length));
  out.length = before;
  return equal;
}

/** The same change, seen at this version: it takes the place of itself. */
function seenRow(writer: RowWriter, layout: TableLayout, found: Change, seen: bigint): void {
  const { out } = writer;
  const count = layout.columns.length;
  const copy = (from: number, to: number): void =>
    out.copy(found.bytes, found.start[from]!, found.start[to]! - found.start[from]!);
  copy(0, count + 2);
  out.byte(0);
  writeBigInteger(out, seen, 8);
  copy(count + 2, count + 5);
}

const map = new CellMap();

/** `base`: the row that unchanged cells come from; null: they are unknown. */
function changeRow({ writer, layout, writes, left }: RowsWork, entry: number, base: Change | null): void {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const action = writes.action[entry]!;
  const tuple = action === DELETE ? block.before[row]! : block.after[row]!;
  const isUnknown = action === PATCH && base === null;
  if (isUnknown && isIfHeld(writes, entry)) return void left.incomplete.push(entry);
  if (!writer.cells(layout, block.bytes, tuple, base, isUnknown)) {
    if (action !== DELETE) left.unfit.push(entry);
    return;
  }
  writer.string(changeOp(writes, entry));
  writeBigInteger(writer.out, BigInt(changeOffset(block, row)), 8);
  if (isUnknown) {
    left.incomplete.push(entry);
    map.read(block.bytes, tuple);
    const names = layout.columns.filter((_, i) => map.kind[i] === CELL_UNCHANGED);
    writeLength(writer.out, names.length);
    for (const { name } of names) writer.string(name);
  } else writer.out.byte(0);
  writeBigInteger(writer.out, 0n, 8);
  writer.stamp(block, row);
  writer.exact();
}

function shapesOf({ columns }: TableLayout) {
  return [...columns.map(({ type }) => shapeOf(type)), ...OWN_SHAPES];
}

function changeOf(layout: TableLayout, row: Omit<StoredRow, "exact">): Change {
  const { bytes, start } = row;
  const at = layout.columns.length;
  return {
    ...row,
    op: textAt(row, at),
    offset: bytes.readBigUInt64LE(start[at + 1]),
    version: bytes.readBigUInt64LE(start[at + 2]),
    exact: exactTexts(textAt(row, at + 4)),
    hasUnknown: bytes[start[at + 5]!] === 1,
  };
}
