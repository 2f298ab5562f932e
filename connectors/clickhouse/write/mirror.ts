/** The rows of one table of a mirror, as the body of one insert. */
import { DELETE, isDoubted, PATCH, type TableWrites } from "../../../src/core/model/batch.ts";
import { NO_TUPLE } from "../../../src/core/model/block.ts";
import { judgeBase } from "../../../src/core/targets/base-rows.ts";
import type { Reads } from "../current.ts";
import type { TableLayout } from "../tables/layout.ts";
import { type Base, inParts, readBases } from "./bases.ts";
import type { RowWriter } from "./row-writer.ts";

/** The body's pieces: rows are rendered while the server reads the piece before. */
export const PIECE_BYTES = 256 * 1024;

/** The rows of one table and batch, and what writes them. */
export interface RowsWork {
  readonly reads: Reads;
  readonly writer: RowWriter;
  readonly layout: TableLayout;
  readonly writes: TableWrites;
  readonly left: UnwrittenEntries;
}

/** What a table's rows left over. */
export class UnwrittenEntries {
  /** Entries whose base row is missing. */
  readonly incomplete: number[] = [];
  /** Entries whose key does not fit. */
  readonly unfit: number[] = [];
  /** Entries that a constraint refuses. */
  readonly refused: number[] = [];
}

/** Every column is as it was in the row that a target's rows follow. */
const SHOWS_ALL = { of: () => 0n };

/**
 * Renders a table's entries. Invariant: rows that changes build on are read before an entry that deletes such a row is
 * given to the server.
 */
export async function* mirrorRows(work: RowsWork): AsyncGenerator<Buffer> {
  const { reads, writer, layout, writes, left } = work;
  const isSoft = layout.form.deletes === "soft";
  const kept = respelt(work);
  const building = buildingEntries(writes, isSoft).filter((entry) => !kept.has(entry));
  const built = new Set(building);
  const parts = inParts(work, building, (entry) => {
    // A row that could not be written does not exist, so its delete has nothing to do.
    if (writes.action[entry] !== DELETE) left.unfit.push(entry);
  });
  for (const { entries, keys, literals } of parts) {
    const missing = new Map<string, number[]>();
    for (const [i, key] of keys.entries()) missing.set(key, [...(missing.get(key) ?? []), entries[i]!]);
    for await (const [key, base] of readBases(reads, layout, literals)) {
      const found = missing.get(key) ?? [];
      missing.delete(key);
      for (const entry of found) buildOn(work, entry, base);
      if (writer.out.length >= PIECE_BYTES) yield writer.take();
    }
    for (const entry of [...missing.values()].flat()) {
      if (writes.action[entry] !== DELETE) left.incomplete.push(entry);
    }
  }
  for (let i = 0; i < writes.count; i++) {
    if (built.has(i) || kept.has(i)) continue;
    plainRow(work, i);
    if (writer.out.length >= PIECE_BYTES) yield writer.take();
  }
  if (writer.out.length > 0) yield writer.take();
}

/**
 * Deletes by changes of keys after which the key is the same here: a zero has changed its sign. Of two rows with one version
 * the delete would win.
 */
export function respelt({ writer, layout, writes }: RowsWork): ReadonlySet<number> {
  const { count, action, deleteCount } = writes;
  const entries = new Set<number>();
  if (deleteCount === 0 || !layout.key.some(({ type }) => type.form.kind === "float")) return entries;
  for (let i = 0; i < count; i++) {
    if (action[i] !== DELETE) continue;
    const { bytes, before, after } = writes.blocks[writes.block[i]!]!;
    const row = writes.row[i]!;
    if (after[row] === NO_TUPLE) continue;
    const [old, own] = [before[row]!, after[row]!].map((tuple) => writer.keyOf(layout, bytes, tuple));
    if (old !== null && old === own) entries.add(i);
  }
  return entries;
}

/**
 * Entries that need the row in the target: patches, deletes that keep the row, and those of rows that may never have been here:
 * a deleted row shows its key to views, and to who reads without FINAL.
 */
function buildingEntries(writes: TableWrites, isSoft: boolean): readonly number[] {
  const { table, count, action, blocks, block, row, patchCount, deleteCount } = writes;
  const building: number[] = [];
  const looksForDeletes = deleteCount > 0 && (isSoft || table.ruled?.filtered === true);
  if (patchCount === 0 && !looksForDeletes) return building;
  for (let i = 0; i < count; i++) {
    const isLookedFor =
      action[i] === PATCH || (action[i] === DELETE && (isSoft || isDoubted(table, blocks[block[i]!]!, row[i]!)));
    if (isLookedFor) building.push(i);
  }
  return building;
}

/** A put, or a delete that leaves only the key. */
function plainRow({ writer, layout, writes, left }: RowsWork, entry: number): void {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const isDelete = writes.action[entry] === DELETE;
  const fits = isDelete
    ? writer.keyCells(layout, block.bytes, block.before[row]!)
    : writer.cells(layout, block.bytes, block.after[row]!, null);
  if (fits) close(writer, writes, entry, isDelete);
  else if (!isDelete) left.unfit.push(entry);
}

/** A patch, or a delete of a row that is here. */
function buildOn({ writer, layout, writes, left }: RowsWork, entry: number, base: Base): void {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  if (writes.action[entry] === DELETE) {
    // What was marked before keeps its version.
    if (base.isDeleted) return;
    if (layout.form.deletes === "soft") writer.storedCells(layout, base);
    else writer.keyCells(layout, block.bytes, block.before[row]!);
    close(writer, writes, entry, true);
    return;
  }
  const judged = judgeBase({ target: { floors: SHOWS_ALL }, writes, entry }, base.version);
  if (base.isDeleted || judged === "missing") left.incomplete.push(entry);
  else if (judged === "found") {
    if (writer.cells(layout, block.bytes, block.after[row]!, base)) close(writer, writes, entry, false);
    else left.unfit.push(entry);
  }
}

function close(writer: RowWriter, writes: TableWrites, entry: number, isDeleted: boolean): void {
  writer.stamp(writes.blocks[writes.block[entry]!]!, writes.row[entry]!);
  writer.out.byte(isDeleted ? 1 : 0);
  writer.exact();
}
