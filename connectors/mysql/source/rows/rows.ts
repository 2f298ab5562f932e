/**
 * Rows events: their rows become changes of a block. One event has rows of one table and one operation; every row is
 * numbered, needed or not.
 */
import {
  BEFORE_FULL,
  BEFORE_NONE,
  type Block,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_UPDATE,
} from "../../../../src/core/model/block.ts";
import type { MillraceError } from "../../../../src/core/errors.ts";
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { ZeroDates } from "../../../../src/core/contracts/connector.ts";
import { damaged, fatal, unreadableRows } from "../errors.ts";
import * as code from "../wire/event-header.ts";
import { inflated, Cursor, readPackedSize, readUint16 } from "../wire/bytes.ts";
import { hasColumn, type ImageColumns, RowImages } from "./row-images.ts";
import { AS_HIDDEN, type RowPlan } from "../values/cell-plan.ts";
import { planOf } from "./row-plan.ts";
import type { TableMap } from "./table-map.ts";

/** A flag: the tables of this statement have no more rows. */
const STATEMENT_END = 1;
const BLOCK_TABLE_COUNT_MAX = 0xffff;
/** Header, table id, flags. */
const TABLE_ID_AT = code.HEADER_BYTES;
const FLAGS_AT = TABLE_ID_AT + 6;
const REST_AT = FLAGS_AT + 2;

/**
 * Where the rows of the open transaction go; set by the assembler. `out` writes tuples, and may move to a larger buffer. So
 * a block gets its bytes (`out.bytes`) only when it is given out, and `out` then gets another buffer.
 */
export class RowTarget {
  readonly out: ByteWriter;
  block: Block;
  /** Ordinal of the open transaction in `block`. */
  transaction = 0;
  /** Index of the next row in its transaction. */
  index = 0;
  /** Earlier rows were delivered in a previous run: they are numbered, not appended. */
  skipBelow = 0;
  /** How many such rows there were. */
  skipped = 0;
  /** Their tables, by id. */
  skippedTables = new Set<string>();
  readonly #ordinals = new Map<TableVersion, number>();

  constructor(out: ByteWriter, block: Block) {
    this.out = out;
    this.block = block;
  }

  /** Continues in another block, whose tuples begin at the writer's position. */
  adopt(block: Block, transaction: number): void {
    this.block = block;
    this.transaction = transaction;
    this.#ordinals.clear();
    block.tables.forEach((table, i) => this.#ordinals.set(table, i));
  }

  isSkipped(index: number, table: TableVersion): boolean {
    if (index >= this.skipBelow) return false;
    this.skipped++;
    this.skippedTables.add(table.id);
    return true;
  }

  ordinalOf(table: TableVersion): number {
    const known = this.#ordinals.get(table);
    if (known !== undefined) return known;
    const ordinal = this.block.tables.length;
    invariant(ordinal < BLOCK_TABLE_COUNT_MAX, "a block is cut before it has too many tables");
    this.block.tables.push(table);
    this.#ordinals.set(table, ordinal);
    return ordinal;
  }
}

/** None of the event's rows was appended. */
export class UnreadableRows extends Error {
  readonly known: MillraceError;

  constructor(known: MillraceError) {
    super(known.message, { cause: known });
    this.known = known;
  }
}

export interface RowOptions {
  readonly zeroDates: (table: TableVersion) => ZeroDates;
  readonly metZeroDates?: { count: number };
}

export class Rows {
  readonly target: RowTarget;
  readonly #options: RowOptions;
  readonly #images = new RowImages();

  constructor(target: RowTarget, options: RowOptions) {
    this.target = target;
    this.#options = options;
  }

  /**
   * Appends the rows of the event between `start` and `end`, with header but without checksum. The table's version must be
   * known. Returns true if the statement ends with it.
   */
  append(type: number, bytes: Uint8Array, start: number, end: number, map: TableMap): boolean {
    const { target } = this;
    const { block, index, skipped } = target;
    const { count } = block;
    const { length } = target.out;
    try {
      this.#append(type, bytes, start, end, map);
    } catch (error) {
      const known = unreadableRows(`${map.schema}.${map.table}`, error);
      if (known === undefined) throw error;
      block.count = count;
      target.out.length = length;
      target.index = index;
      target.skipped = skipped;
      // Of rows that nobody gets, only their number is lost.
      if (map.version !== null) throw new UnreadableRows(known);
    }
    return (readUint16(bytes, start + FLAGS_AT) & STATEMENT_END) !== 0;
  }

  #append(type: number, source: Uint8Array, start: number, end: number, map: TableMap): void {
    const header = new Cursor(source, start + REST_AT, end);
    if (hasExtra(type)) header.span(header.uint(2) - 2);
    const columnCount = header.packed();
    if (columnCount !== map.types.length) throw damaged(`rows of ${map.schema}.${map.table} have other columns`);
    const kind = operationOf(type);
    const present = readColumns(header, columnCount);
    const presentAfter = kind === OP_UPDATE ? readColumns(header, columnCount) : present;
    let bytes = source;
    let at = header.at;
    let until = end;
    if (isCompressed(type)) {
      bytes = uncompressed(header);
      at = 0;
      until = bytes.length;
    }
    const { version } = map;
    invariant(version !== undefined, "rows are read when their table has been looked up");
    if (version === null) {
      this.target.index += this.#images.count(map, kind, present, presentAfter, bytes, at, until, type);
      return;
    }
    map.plan ??= planOf(map, version.key, {
      ...this.#options,
      zeroDates: this.#options.zeroDates(version),
      columns: version.columns,
    });
    const images = this.#images;
    images.open(map, map.plan, this.target.out, bytes, until);
    const isVersioned = map.plan.rowEnd >= 0;
    this.#refusePartial(map, map.plan, kind, present);
    if (isVersioned) this.#refusePartial(map, map.plan, kind, presentAfter);
    const ordinal = this.target.ordinalOf(version);
    while (at < until) {
      if (isVersioned) at = this.#versioned(images, kind, present, presentAfter, at, ordinal);
      else if (kind === OP_CREATE) at = this.#create(images, present, at, ordinal);
      else if (kind === OP_DELETE) at = this.#delete(images, present, at, ordinal);
      else at = this.#update(images, present, presentAfter, at, ordinal, type === code.PARTIAL_UPDATE_ROWS);
    }
    if (at !== until) throw damaged(`rows of ${map.schema}.${map.table} end beyond their event`);
  }

  /**
   * MariaDB's history is in the log as rows, too: one that is deleted is updated to be valid until now, and an update puts
   * the old row beside the new one.
   */
  #versioned(
    images: RowImages,
    kind: number,
    columns: ImageColumns,
    columnsAfter: ImageColumns,
    at: number,
    table: number,
  ): number {
    const was = images.isPresent(columns, at);
    if (kind === OP_UPDATE) {
      const behind = images.passed(columns, at);
      const is = images.isPresent(columnsAfter, behind);
      if (was && is) return this.#update(images, columns, columnsAfter, at, table, false);
      if (was) this.#delete(images, columns, at, table);
      if (is) return this.#create(images, columnsAfter, behind, table);
      if (!was) this.target.index++;
      return images.passed(columnsAfter, behind);
    }
    if (was && kind === OP_CREATE) return this.#create(images, columns, at, table);
    if (was) return this.#delete(images, columns, at, table);
    this.target.index++;
    return images.passed(columns, at);
  }

  #create(images: RowImages, columns: ImageColumns, at: number, table: number): number {
    const { target } = this;
    const from = target.out.length;
    const next = images.row(columns, at);
    this.#put(OP_CREATE, table, from, NO_TUPLE, BEFORE_NONE, from);
    return next;
  }

  #delete(images: RowImages, columns: ImageColumns, at: number, table: number): number {
    const from = this.target.out.length;
    const next = images.row(columns, at);
    this.#put(OP_DELETE, table, NO_TUPLE, from, BEFORE_FULL, from);
    return next;
  }

  #update(
    images: RowImages,
    columns: ImageColumns,
    columnsAfter: ImageColumns,
    at: number,
    table: number,
    isPartial: boolean,
  ): number {
    const { out } = this.target;
    const before = out.length;
    const behind = isPartial ? images.rowWithPlaces(columns, at) : images.row(columns, at);
    const after = out.length;
    const next = isPartial ? images.partial(columnsAfter, behind, before) : images.row(columnsAfter, behind, before);
    this.#put(OP_UPDATE, table, after, before, BEFORE_FULL, before);
    return next;
  }

  /** `from`: the writer's position before this row, to return to if the row is not needed. */
  #put(op: number, table: number, after: number, before: number, beforeKind: number, from: number): void {
    const { target } = this;
    const index = target.index++;
    if (target.isSkipped(index, target.block.tables[table]!)) target.out.length = from;
    else target.block.append(op, table, after, before, beforeKind, target.transaction, index);
  }

  /** Values that an image other than FULL leaves out are lost. */
  #refusePartial(map: TableMap, plan: RowPlan, kind: number, present: ImageColumns): void {
    const { rowEnd } = plan;
    const lacking = missingColumn(plan, present);
    if (lacking < 0 && (rowEnd < 0 || hasColumn(present, rowEnd))) return;
    const what = kind === OP_CREATE ? "a new row" : kind === OP_DELETE ? "a deleted row" : "the old row of an update";
    const missing = JSON.stringify(map.metadata.names[lacking < 0 ? rowEnd : lacking]);
    const found = `${what} of ${map.schema}.${map.table} has ${present.count} of its ${map.types.length} columns`;
    throw new UnreadableRows(fatal("MR2103", `${found} in the log, and lacks ${missing}`));
  }
}

/** The first column with a cell that the image lacks; -1: it has every cell. */
function missingColumn({ cellsEnd, code }: RowPlan, columns: ImageColumns): number {
  for (let i = columns.lead; i < cellsEnd; i++) if (code[i] !== AS_HIDDEN && !hasColumn(columns, i)) return i;
  return -1;
}

/** From version 2 on, the flags may be followed by more, beginning with its length. */
function hasExtra(type: number): boolean {
  return (
    (type >= code.WRITE_ROWS && type <= code.DELETE_ROWS) ||
    type === code.PARTIAL_UPDATE_ROWS ||
    (type >= code.MARIADB_WRITE_ROWS_COMPRESSED && type <= code.MARIADB_DELETE_ROWS_COMPRESSED)
  );
}

function isCompressed(type: number): boolean {
  return type >= code.MARIADB_WRITE_ROWS_COMPRESSED_V1 && type <= code.MARIADB_DELETE_ROWS_COMPRESSED;
}

function operationOf(type: number): number {
  switch (type) {
    case code.WRITE_ROWS:
    case code.WRITE_ROWS_V1:
    case code.MARIADB_WRITE_ROWS_COMPRESSED:
    case code.MARIADB_WRITE_ROWS_COMPRESSED_V1:
      return OP_CREATE;
    case code.DELETE_ROWS:
    case code.DELETE_ROWS_V1:
    case code.MARIADB_DELETE_ROWS_COMPRESSED:
    case code.MARIADB_DELETE_ROWS_COMPRESSED_V1:
      return OP_DELETE;
    default:
      return OP_UPDATE;
  }
}

function readColumns(header: Cursor, columnCount: number): ImageColumns {
  const bits = header.span((columnCount + 7) >> 3);
  let count = 0;
  let lead = 0;
  for (let i = 0; i < columnCount; i++) {
    if (((bits[i >> 3]! >> (i & 7)) & 1) === 0) continue;
    if (count++ === i) lead = count;
  }
  return { bits, count, lead };
}

function uncompressed(header: Cursor): Uint8Array {
  const size = readPackedSize(header, "compressed rows");
  return inflated(header.span(header.end - header.at), "zlib", size, "compressed rows");
}
