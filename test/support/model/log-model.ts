/**
 * A source's table and its log, and a sink that obeys the documented semantics of `TableWrites`, all in plain maps: what
 * property tests of compaction compare with.
 */
import { DELETE, PATCH, type TableWrites } from "../../../src/core/model/batch.ts";
import type { Block } from "../../../src/core/model/block.ts";
import { type Position, rowVersion } from "../../../src/core/model/position.ts";
import { keyText } from "../../../src/core/model/row-id.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { CELL_BINARY, CELL_NULL, CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { blockOf, type Cell, type Change, UNCHANGED } from "./blocks.ts";

/** Whole rows as text, numbers in digits. */
export type Row = readonly (string | null)[];

export interface LogChange extends Change {
  readonly commit: bigint;
  readonly index: number;
}

/** The rows after each transaction, by the transaction's commit position. */
export type History = ReadonlyMap<bigint, ReadonlyMap<string, Row>>;

export function keyOfRow(table: TableVersion, row: readonly Cell[]): string {
  return JSON.stringify(table.key.map((ordinal) => row[ordinal]));
}

/** Cuts changes into blocks before the ordinals in `cuts`; each block ends exactly where the next begins. */
export function blocksOf(changes: readonly LogChange[], cuts: readonly number[]): Block[] {
  const starts = [0, ...[...new Set(cuts)].filter((c) => c > 0 && c < changes.length).toSorted((a, b) => a - b)];
  return starts.map((start, i) => {
    const next = starts[i + 1] ?? changes.length;
    const part = changes.slice(start, next);
    return blockOf(part, { until: positionBefore(changes, next) });
  });
}

function positionBefore(changes: readonly LogChange[], ordinal: number): Position {
  const next = changes[ordinal];
  const last = changes[ordinal - 1];
  if (next !== undefined && last !== undefined && next.commit === last.commit) {
    return { epoch: 1, commit: next.commit, index: next.index };
  }
  return { epoch: 1, commit: (last?.commit ?? 0n) + 1n, index: 0 };
}

/** Writes every cell of a change in binary form: `int4` as four bytes, everything else as its UTF-8. */
export function inBinary(change: LogChange): LogChange {
  const { after, before, table } = change;
  const cells = (tuple: readonly Cell[]) =>
    tuple.map((cell, i): Cell => {
      if (typeof cell !== "string") return cell;
      if (table.columns[i]?.type.kind !== "int") return Buffer.from(cell);
      const bytes = Buffer.alloc(4);
      bytes.writeInt32BE(Number(cell));
      return bytes;
    });
  return {
    ...change,
    ...(after === undefined ? {} : { after: cells(after) }),
    ...(before === undefined ? {} : { before: cells(before) }),
  };
}

const map = new CellMap();

/** The cells of a tuple as a row; UNCHANGED where the log did not carry one. */
export function cellsOf(table: TableVersion, bytes: Uint8Array, offset: number): Cell[] {
  map.read(bytes, offset);
  return table.columns.map((column, i) => {
    if (map.kind[i] === CELL_NULL) return null;
    if (map.kind[i] === CELL_UNCHANGED) return UNCHANGED;
    const value = Buffer.from(bytes.buffer, bytes.byteOffset + map.start[i]!, map.length[i]);
    if (map.kind[i] === CELL_BINARY && column.type.kind === "int") return String(value.readInt32BE());
    return value.toString("utf8");
  });
}

interface Held {
  readonly row: Row;
  readonly version: bigint;
}

interface Entry {
  readonly action: number;
  readonly key: string;
  /** The key of a PATCH's base. */
  readonly base: string;
  readonly cells: readonly Cell[];
  readonly version: bigint;
  readonly fresh: boolean;
}

/** A sink without transactions: guarded by versions, hard deletes, no tombstones. */
export class ModelSink {
  readonly table: TableVersion;
  readonly rows = new Map<string, Held>();
  /** Keys to be read from the source. */
  readonly pending = new Set<string>();

  constructor(table: TableVersion) {
    this.table = table;
  }

  fill(rows: ReadonlyMap<string, Row>, version: bigint): void {
    for (const [key, row] of rows) this.rows.set(key, { row, version });
  }

  list(bytes: Uint8Array, offset: number): void {
    this.pending.add(keyOfRow(this.table, keyCells(this.table, bytes, offset)));
  }

  /**
   * Applies a batch. `crashAfter`: only so many of its row operations, as a crash half-way leaves them. `without`: entries
   * that the target refuses.
   */
  apply(writes: TableWrites, crashAfter = Infinity, without: ReadonlySet<number> = new Set()): void {
    const all = entriesOf(writes);
    checkPromises(all);
    const entries = all.filter((_, i) => !without.has(i));
    // All bases are read before anything is written.
    const puts: { key: string; row: Row; version: bigint }[] = [];
    for (const entry of entries) {
      if (entry.action === DELETE) continue;
      // As the runtime does: what comes from a key that waits to be read, and may be old there, is to be read too.
      if (entry.base !== entry.key && this.pending.has(entry.base)) this.pending.add(entry.key);
      const row = entry.action === PATCH ? this.#patched(entry) : whole(entry.cells);
      if (row === null) this.pending.add(entry.key);
      else puts.push({ key: entry.key, row, version: entry.version });
    }
    let left = crashAfter;
    for (const { key, row, version } of puts) {
      if (left-- <= 0) return;
      if ((this.rows.get(key)?.version ?? 0n) <= version) this.rows.set(key, { row, version });
    }
    for (const entry of entries) {
      if (entry.action !== DELETE) continue;
      if (left-- <= 0) return;
      if ((this.rows.get(entry.key)?.version ?? 0n) <= entry.version) this.rows.delete(entry.key);
    }
  }

  /** The entries that lack their base. */
  missing(writes: TableWrites): number[] {
    return entriesOf(writes).flatMap((entry, i) =>
      entry.action === PATCH && this.#patched(entry) === null ? [i] : [],
    );
  }

  /** Reads the listed keys from the source as it is at `version`. */
  readPending(source: ReadonlyMap<string, Row>, version: bigint): void {
    for (const key of this.pending) {
      const row = source.get(key);
      if ((this.rows.get(key)?.version ?? 0n) > version) continue;
      if (row === undefined) this.rows.delete(key);
      else this.rows.set(key, { row, version });
    }
    this.pending.clear();
  }

  /** Null: the base is missing, or another row stands in its place by now. */
  #patched(entry: Entry): Row | null {
    const base = this.rows.get(entry.base);
    if (base === undefined) return null;
    const moved = entry.base !== entry.key;
    if (moved ? base.version >= entry.version : base.version > entry.version) return null;
    return whole(entry.cells.map((cell, i) => (cell === UNCHANGED ? base.row[i]! : cell)));
  }
}

/** What batch.ts promises of every `TableWrites`. */
function checkPromises(entries: readonly Entry[]): void {
  const byKey = new Map(entries.map((entry) => [entry.key, entry]));
  if (byKey.size < entries.length) throw new Error("a key has two entries");
  for (const { action, key, base } of entries) {
    if (action !== PATCH || base === key) continue;
    const other = byKey.get(base);
    if (other !== undefined && other.action !== DELETE) throw new Error("a base is written by another entry");
  }
}

function entriesOf(writes: TableWrites): Entry[] {
  const { table } = writes;
  const entries = Array.from({ length: writes.count }, (_, i): Entry => {
    const block = writes.blocks[writes.block[i]!]!;
    const row = writes.row[i]!;
    const action = writes.action[i]!;
    const own = action === DELETE ? block.before[row]! : block.after[row]!;
    const key = keyOfRow(table, keyCells(table, block.bytes, own));
    const moved = writes.moved[i] === 1;
    if (moved && action !== PATCH) throw new Error("only a PATCH is moved");
    return {
      action,
      key,
      base: moved ? keyOfRow(table, keyCells(table, block.bytes, block.before[row]!)) : key,
      cells: cellsOf(table, block.bytes, own),
      version: block.transactions.version[block.tx[row]!]!,
      fresh: writes.fresh[i] === 1,
    };
  });
  const count = (action: number) => entries.filter((entry) => entry.action === action).length;
  if (count(DELETE) !== writes.deleteCount || count(PATCH) !== writes.patchCount) throw new Error("counts are wrong");
  return entries;
}

/** As a sink gets the key: through core's own decoding, so that a key cell without a value is noticed. */
function keyCells(table: TableVersion, bytes: Uint8Array, offset: number): Cell[] {
  const texts = keyText(table, bytes, offset);
  const cells: Cell[] = table.columns.map(() => null);
  table.key.forEach((ordinal, i) => (cells[ordinal] = texts[i]!));
  return cells;
}

function whole(cells: readonly Cell[]): Row {
  return cells.map((cell) => {
    if (cell === null || typeof cell === "string") return cell;
    throw new Error("a cell that the log did not carry would be written");
  });
}

export function versionOf(commit: bigint): bigint {
  return rowVersion(1, commit);
}
