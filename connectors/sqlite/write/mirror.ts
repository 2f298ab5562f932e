import type { SQLInputValue, SQLOutputValue } from "node:sqlite";
import { DELETE, PATCH, type TableWrites } from "../../../src/core/model/batch.ts";
import { type Block, NO_TUPLE, OP_UPDATE } from "../../../src/core/model/block.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { writeUnixTimeJson } from "../../../src/core/values/calendar.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import type { KeptColumns } from "../companion.ts";
import { isDataError, rowIgnored, rowRefused, unfitText } from "../errors.ts";
import type { SqliteFile } from "../file.ts";
import { DROP_COLLECTED, type LayoutColumn, MirrorSql, type SqliteLayout } from "../tables/layout.ts";
import { INTEGER, PACKED_UUID } from "../types.ts";
import { CellValues, UnfitText } from "./cells.ts";
import type { Slices } from "./slices.ts";

/** Beside other letters, some collations ignore what can't be printed. */
const NOT_FOLDED = /[^\t-\r -~]/;

/** With fewer entries pages are hardly shared. */
const SORTED_MIN = 64;

/** One table's entries of a batch, while they are written. */
export class TableWrite {
  /** Entries that were not written, because their base row is missing. */
  readonly incomplete: number[] = [];
  readonly refused: { readonly entry: number; readonly error: MillraceError }[] = [];
  readonly file: SqliteFile;
  readonly rows: RowValues;
  readonly layout: SqliteLayout;
  readonly writes: TableWrites;
  readonly #slices: Slices;
  #order: Uint32Array | null = null;
  #newest: number | null = null;
  #newestVersion = 0n;

  constructor(file: SqliteFile, rows: RowValues, slices: Slices, layout: SqliteLayout, writes: TableWrites) {
    this.file = file;
    this.rows = rows;
    this.layout = layout;
    this.writes = writes;
    this.#slices = slices;
  }

  /** From here on `each` goes as the rows lie in the file, so that a page is read and written once for all its rows. */
  inFileOrder(): void {
    const { count, block, row, action, blocks } = this.writes;
    if (count < SORTED_MIN) return;
    const ranks = new Float64Array(count);
    let isSorted = true;
    for (let i = 0; i < count; i++) {
      const { bytes, before, after } = blocks[block[i]!]!;
      const rank = this.rows.rank(this.layout, bytes, (action[i] === DELETE ? before : after)[row[i]!]!);
      if (rank === null) return;
      isSorted &&= i === 0 || rank >= ranks[i - 1]!;
      ranks[i] = rank;
    }
    if (!isSorted) this.#order = Uint32Array.from(ranks.keys()).toSorted((a, b) => ranks[a]! - ranks[b]! || a - b);
  }

  async each(write: (entry: number) => void): Promise<void> {
    const order = this.#order;
    for (let i = 0; i < this.writes.count; i++) {
      this.#refusing(write, order === null ? i : order[i]!);
      if (this.#slices.isOverAt(i)) await this.#slices.next();
    }
  }

  #refusing(write: (entry: number) => void, entry: number): void {
    try {
      write(entry);
    } catch (error) {
      if (!(error instanceof UnfitText)) throw error;
      this.refused.push({ entry, error: unfitText(this.layout.table.id, error.message) });
    }
  }

  /** The key of a row of the highest version that was written; null: none was. */
  newestKey(): readonly SQLInputValue[] | null {
    const entry = this.#newest;
    if (entry === null) return null;
    const block = this.blockOf(entry);
    this.rows.begin(this.writes, entry);
    this.rows.key(this.layout, block.bytes, block.after[this.writes.row[entry]!]!);
    return this.rows.values;
  }

  blockOf(entry: number): Block {
    return this.writes.blocks[this.writes.block[entry]!]!;
  }

  /** Runs the statement that writes the entry's row: see `run`. */
  put(sql: string, entry: number): number | null {
    const changed = this.run(sql, entry);
    if (changed !== 1) return changed;
    const { transactions, tx } = this.blockOf(entry);
    const version = transactions.version[tx[this.writes.row[entry]!]!]!;
    if (version < this.#newestVersion) return changed;
    this.#newest = entry;
    this.#newestVersion = version;
    return changed;
  }

  /** Runs a statement with the values of `rows`. How many rows it changed; null: the row was refused. */
  run(sql: string, entry: number): number | null {
    try {
      return this.file.run(sql, ...this.rows.values);
    } catch (error) {
      if (!isDataError(error) || !this.file.isInTransaction) throw error;
      this.refused.push({ entry, error: rowRefused(error, this.layout.table.id) });
      return null;
    }
  }

  /** A trigger let the statement do nothing. */
  ignored(entry: number): void {
    this.refused.push({ entry, error: rowIgnored(this.layout.table.id) });
  }
}

/** Reads what statements bind from entries. One per sink; its buffers are reused. */
export class RowValues {
  readonly values: SQLInputValue[] = [];
  /** Of the row read last, `u` for each unchanged cell. */
  mask = "";
  readonly #cells = new CellValues();
  readonly #map = new CellMap();
  readonly #time = new ByteWriter(64);
  #block: Block | null = null;
  #tx = -1;
  #version = 0n;
  #commitTime = "";
  readonly #hasTimes: boolean;
  readonly #kept: KeptColumns;

  /** Without times the column is empty: 27 bytes less for each row. */
  constructor(hasTimes: boolean, kept: KeptColumns) {
    this.#hasTimes = hasTimes;
    this.#kept = kept;
  }

  get version(): bigint {
    return this.#version;
  }

  get commitTime(): string {
    return this.#commitTime;
  }

  begin(writes: TableWrites, entry: number): void {
    const block = writes.blocks[writes.block[entry]!]!;
    const tx = block.tx[writes.row[entry]!]!;
    this.values.length = 0;
    this.#cells.over(block.bytes);
    if (block === this.#block && tx === this.#tx) return;
    this.#block = block;
    this.#tx = tx;
    this.#version = this.#kept.stored(block.transactions.version[tx]!);
    this.#commitTime = this.#hasTimes ? this.timeText(block.transactions.commitTimeUs[tx]!) : "";
  }

  timeText(us: bigint): string {
    this.#time.reset();
    writeUnixTimeJson(this.#time, us);
    return this.#time.bytes.toString("latin1", 0, this.#time.length);
  }

  /** Adds the cells of a tuple; of unchanged ones null, or nothing. */
  cells(layout: SqliteLayout, bytes: Uint8Array, offset: number, unchanged: "null" | "left out" | "none"): void {
    invariant(offset !== NO_TUPLE, "a row that is written has a tuple");
    const map = this.#map;
    map.read(bytes, offset);
    const { columns } = layout;
    const { values } = this;
    for (let c = 0; c < columns.length; c++) {
      const column = columns[c]!;
      const i = column.ordinal;
      const kind = map.kind[i]!;
      if (kind === CELL_NULL) values.push(null);
      else if (kind === CELL_UNCHANGED) {
        invariant(unchanged !== "none" && !column.isKey, "only a patch has unchanged cells, and none in its key");
        if (unchanged === "null") values.push(null);
      } else values.push(this.#read(column));
    }
  }

  /** The same without the key's cells, of those that the log carried; sets `mask`. */
  carried(layout: SqliteLayout, bytes: Uint8Array, offset: number): void {
    const map = this.#map;
    map.read(bytes, offset);
    const { columns } = layout;
    this.mask = maskOf(map, layout);
    for (let c = 0; c < columns.length; c++) {
      const column = columns[c]!;
      const i = column.ordinal;
      const kind = map.kind[i]!;
      if (column.isKey || kind === CELL_UNCHANGED) continue;
      if (kind === CELL_NULL) this.values.push(null);
      else this.values.push(this.#read(column));
    }
  }

  #read({ sqlite, source, isFolded, ordinal: i }: LayoutColumn): SQLInputValue {
    const { kind, start, length } = this.#map;
    const value = this.#cells.read(sqlite.form, source.type, kind[i]!, start[i]!, length[i]!);
    if (isFolded && typeof value === "string" && NOT_FOLDED.test(value))
      throw new UnfitText(
        `has other letters than ASCII's in ${JSON.stringify(source.name)}, by which documents join, and its collation ignores case`,
      );
    return value;
  }

  maskAt(layout: SqliteLayout, bytes: Uint8Array, offset: number): string {
    this.#map.read(bytes, offset);
    return maskOf(this.#map, layout);
  }

  key({ key }: SqliteLayout, bytes: Uint8Array, offset: number): void {
    invariant(offset !== NO_TUPLE, "a row that is looked for has a tuple");
    const map = this.#map;
    map.read(bytes, offset);
    for (let k = 0; k < key.length; k++) {
      const { sqlite, source, ordinal: i } = key[k]!;
      this.values.push(this.#cells.read(sqlite.form, source.type, map.kind[i]!, map.start[i]!, map.length[i]!));
    }
  }

  /** Smaller for a row that lies before another one; null: not known. */
  rank({ key }: SqliteLayout, bytes: Uint8Array, offset: number): number | null {
    const { sqlite, source, ordinal: i } = key[0]!;
    if (sqlite.form !== INTEGER && sqlite.form !== PACKED_UUID) return null;
    this.#cells.over(bytes);
    this.#map.read(bytes, offset);
    const { kind, start, length } = this.#map;
    const value = this.#cells.read(sqlite.form, source.type, kind[i]!, start[i]!, length[i]!);
    if (typeof value === "number" || typeof value === "bigint") return Number(value);
    return value instanceof Uint8Array ? readUint48(value) : null;
  }

  tail(): void {
    this.values.push(this.#version, this.#commitTime);
  }

  /** Keeps no block alive. */
  release(): void {
    this.#block = null;
    this.#cells.release();
    this.values.length = 0;
  }
}

function readUint48(bytes: Uint8Array): number {
  let value = 0;
  for (let i = 0; i < 6; i++) value = value * 256 + bytes[i]!;
  return value;
}

function maskOf({ kind }: CellMap, { columns }: SqliteLayout): string {
  let mask = "";
  for (let c = 0; c < columns.length; c++) mask += kind[columns[c]!.ordinal] === CELL_UNCHANGED ? "u" : "t";
  return mask;
}

/**
 * Writes one table's entries inside the batch's transaction. Invariant: the rows that lend cells to another key are read
 * before anything is written, and deletes precede puts, so that of two keys that SQLite takes for one the put wins.
 */
export class MirrorWriter {
  readonly #sql = new WeakMap<SqliteLayout, MirrorSql>();

  async write(at: TableWrite): Promise<void> {
    const sql = this.#of(at.layout);
    const { patchCount, deleteCount, action, moved } = at.writes;
    at.inFileOrder();
    const hasMoved = patchCount > 0 && moved.includes(1);
    const isMoved = (i: number): boolean => action[i] === PATCH && moved[i] === 1;
    if (hasMoved) {
      at.file.exec(sql.makeCollected);
      await at.each((i) => {
        if (isMoved(i)) collect(at, sql, i);
      });
    }
    if (deleteCount > 0)
      await at.each((i) => {
        if (action[i] === DELETE) remove(at, sql, i);
      });
    await at.each((i) => {
      if (action[i] === PATCH) {
        if (moved[i] !== 1) patch(at, sql, i);
      } else if (action[i] !== DELETE) put(at, sql, i);
    });
    if (hasMoved) {
      const unfound = new Set(at.incomplete);
      await at.each((i) => {
        if (!isMoved(i) || unfound.has(i)) return;
        at.rows.values.length = 0;
        at.rows.values.push(i);
        if (at.put(sql.putCollected, i) === 0) expectPut(at, sql, i);
      });
      at.file.exec(DROP_COLLECTED);
    }
    at.incomplete.sort((a, b) => a - b);
  }

  #of(layout: SqliteLayout): MirrorSql {
    let sql = this.#sql.get(layout);
    if (sql === undefined) this.#sql.set(layout, (sql = new MirrorSql(layout)));
    return sql;
  }
}

function put(at: TableWrite, sql: MirrorSql, entry: number): void {
  const { rows, layout, writes } = at;
  const block = at.blockOf(entry);
  rows.begin(writes, entry);
  const row = writes.row[entry]!;
  rows.cells(layout, block.bytes, block.after[row]!, "none");
  rows.tail();
  if (sql.change !== null && block.op[row] === OP_UPDATE && at.put(sql.change, entry) !== 0) return;
  if (at.put(sql.put, entry) === 0) expectPut(at, sql, entry);
}

/** Nothing was written: the row that is there is newer, or a trigger ignored this one. */
function expectPut(at: TableWrite, sql: MirrorSql, entry: number): void {
  const { rows, layout, writes } = at;
  const block = at.blockOf(entry);
  rows.begin(writes, entry);
  rows.key(layout, block.bytes, block.after[writes.row[entry]!]!);
  const [there] = at.file.rows(sql.version, ...rows.values);
  if (there === undefined || isOlder(there, at)) at.ignored(entry);
}

/** A row of `MirrorSql.version` that would have been written. */
function isOlder([version]: readonly SQLOutputValue[], { rows }: TableWrite): boolean {
  return typeof version === "bigint" && version <= rows.version;
}

function patch(at: TableWrite, sql: MirrorSql, entry: number): void {
  const { rows, layout, writes } = at;
  const block = at.blockOf(entry);
  const offset = block.after[writes.row[entry]!]!;
  rows.begin(writes, entry);
  rows.key(layout, block.bytes, offset);
  rows.carried(layout, block.bytes, offset);
  rows.tail();
  const { patch: whole, change } = sql.patch(rows.mask);
  if (change !== null && at.put(change, entry) !== 0) return;
  if (at.put(whole, entry) !== 0) return;
  const [there] = at.file.rows(sql.version, ...rows.values.slice(0, layout.key.length));
  // A newer row stays as it is.
  if (there?.[1] !== 0n) at.incomplete.push(entry);
  else if (isOlder(there, at)) at.ignored(entry);
}

function collect(at: TableWrite, sql: MirrorSql, entry: number): void {
  const { rows, layout, writes } = at;
  const block = at.blockOf(entry);
  const row = writes.row[entry]!;
  rows.begin(writes, entry);
  rows.key(layout, block.bytes, block.before[row]!);
  rows.cells(layout, block.bytes, block.after[row]!, "left out");
  rows.tail();
  rows.values.push(entry);
  const mask = rows.maskAt(layout, block.bytes, block.after[row]!);
  if (at.run(sql.collect(mask), entry) === 0) at.incomplete.push(entry);
}

function remove(at: TableWrite, sql: MirrorSql, entry: number): void {
  const { rows, layout, writes } = at;
  const block = at.blockOf(entry);
  rows.begin(writes, entry);
  rows.key(layout, block.bytes, block.before[writes.row[entry]!]!);
  rows.tail();
  // A hard delete has no use for the time.
  if (layout.form.deletes === "hard") rows.values.pop();
  if (at.run(sql.remove, entry) !== 0) return;
  const [there] = at.file.rows(sql.version, ...rows.values.slice(0, layout.key.length));
  if (there !== undefined && isOlder(there, at)) at.ignored(entry);
}
