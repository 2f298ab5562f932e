/**
 * A stretch of the log as bytes, for another process: what a stream shows, with the shapes of its tables, in the order of the
 * log. Layout, all numbers big-endian:
 *
 *   Byte form (1); Int32 length and text of the positions `from until`; then records, each begun by its kind:
 *   table        Int32 length and JSON of the shape; tables count from 0
 *   transaction  UInt64 commit position, Int64 commit time, UInt32 xid, Int32 length and JSON of the origin
 *   row          Byte op, Byte kind of the old tuple, Byte which tuples follow, UInt16 table, UInt32 index, the tuples
 *   mark         Int32 length and JSON of the message
 *   lost         Int32 length and id of a table
 *   shape        Int32 length and JSON of a table's shape
 *   renamed      Int32 length and JSON of the commit position and of tables and columns that have other names from there on
 */
import type { TableShape } from "../contracts/catalog.ts";
import type { Rename, StreamOptions } from "../contracts/change-log.ts";
import type { ByteWriter } from "../bytes.ts";
import {
  BEFORE_NONE,
  Block,
  type LogMessage,
  NO_TUPLE,
  OP_IF_HELD,
  OP_TRUNCATE,
  OP_UNTOLD,
  type TransactionOrigin,
} from "./block.ts";
import type { TruncateInLog } from "./batch.ts";
import { commitOf, comparePositions, parsePosition, type Position, rowVersion, serializePosition } from "./position.ts";
import type { TableVersion } from "./schema.ts";
import { CellMap, tupleEnd, TupleWriter } from "./tuple.ts";

const FORM = 1;
const TABLE = 1;
const TRANSACTION = 2;
const ROW = 3;
const MARK = 4;
const LOST = 5;
const SHAPE = 6;
const RENAMED = 7;
const HAS_AFTER = 1;
const HAS_BEFORE = 2;
const TRANSACTION_BYTES = 20;
const ROW_BYTES = 9;

/** The bytes are not those of a frame, or come from a later version of Millrace. */
export class UnreadableFrame extends Error {}

export class FrameWriter {
  readonly #out: ByteWriter;
  readonly #shapeOf: (table: TableVersion) => TableShape;
  readonly #tables = new Map<TableVersion, number>();
  #commit: bigint | null = null;
  readonly #cells = new CellMap();

  /** `shapeOf`: what a reader is told of a table. */
  constructor(
    out: ByteWriter,
    { from, until }: { readonly from: Position; readonly until: Position },
    shapeOf: (table: TableVersion) => TableShape,
  ) {
    this.#out = out;
    this.#shapeOf = shapeOf;
    out.byte(FORM);
    this.#text(`${serializePosition(from)} ${serializePosition(until)}`);
  }

  rows(block: Block, from: number, to: number): void {
    const { bytes, tables, transactions } = block;
    for (let row = from; row < to; row++) {
      const ordinal = this.#table(tables[block.table[row]!]!);
      const of = block.tx[row]!;
      const { commit, commitTimeUs, xid, origins } = transactions;
      this.#transaction(commit[of]!, commitTimeUs[of]!, xid[of]!, origins[of]);
      const after = block.after[row]!;
      const before = block.before[row]!;
      // Readers get the key alone, whatever they hold.
      const isIfHeld = block.op[row] === OP_IF_HELD;
      const op = isIfHeld ? OP_UNTOLD : block.op[row]!;
      this.#row(op, block.beforeKind[row]!, ordinal, block.index[row]!, after, before);
      if (isIfHeld) this.#key(tables[block.table[row]!]!, bytes, after);
      else if (after !== NO_TUPLE) this.#out.copy(bytes, after, tupleEnd(bytes, after) - after);
      if (before !== NO_TUPLE) this.#out.copy(bytes, before, tupleEnd(bytes, before) - before);
    }
  }

  #key({ key }: TableVersion, bytes: Uint8Array, offset: number): void {
    const cells = this.#cells;
    cells.read(bytes, offset);
    const tuples = new TupleWriter(this.#out);
    tuples.begin(cells.count);
    for (let i = 0; i < cells.count; i++) {
      if (key.includes(i)) tuples.copyCell(bytes, cells, i);
      else tuples.unchanged();
    }
  }

  truncate(table: TableVersion, version: bigint, { index, commitTimeUs, xid, origin }: TruncateInLog): void {
    const ordinal = this.#table(table);
    this.#transaction(commitOf(version), commitTimeUs, xid, origin);
    this.#row(OP_TRUNCATE, BEFORE_NONE, ordinal, index, NO_TUPLE, NO_TUPLE);
  }

  mark({ content, position, recordPosition, transactional }: Omit<LogMessage, "at" | "prefix">): void {
    this.#out.byte(MARK);
    const places = { position: String(position), recordPosition: recordPosition?.toString() };
    this.#text(JSON.stringify({ ...places, transactional, content: Buffer.from(content).toString("base64") }));
  }

  /** Rows of the table changed whose changes the log does not have. */
  lost(tableId: string): void {
    this.#out.byte(LOST);
    this.#text(tableId);
  }

  shape(table: TableVersion): void {
    this.#out.byte(SHAPE);
    this.#text(JSON.stringify(this.#shapeOf(table)));
  }

  renamed(renames: readonly Rename[], commit: bigint): void {
    this.#out.byte(RENAMED);
    this.#text(JSON.stringify({ commit: String(commit), renames }));
  }

  #table(table: TableVersion): number {
    const known = this.#tables.get(table);
    if (known !== undefined) return known;
    const ordinal = this.#tables.size;
    this.#tables.set(table, ordinal);
    this.#out.byte(TABLE);
    this.#text(JSON.stringify(this.#shapeOf(table)));
    return ordinal;
  }

  #transaction(commit: bigint, timeUs: bigint, xid: number, origin: TransactionOrigin | undefined): void {
    if (this.#commit === commit) return;
    this.#commit = commit;
    const out = this.#out;
    out.byte(TRANSACTION);
    out.reserve(TRANSACTION_BYTES);
    out.length = out.bytes.writeBigUInt64BE(commit, out.length);
    out.length = out.bytes.writeBigInt64BE(timeUs, out.length);
    out.length = out.bytes.writeUInt32BE(xid, out.length);
    this.#text(origin === undefined ? "" : JSON.stringify(origin));
  }

  #row(op: number, beforeKind: number, table: number, index: number, after: number, before: number): void {
    const out = this.#out;
    out.byte(ROW);
    out.reserve(ROW_BYTES);
    const { bytes } = out;
    bytes[out.length++] = op;
    bytes[out.length++] = beforeKind;
    bytes[out.length++] = (after === NO_TUPLE ? 0 : HAS_AFTER) | (before === NO_TUPLE ? 0 : HAS_BEFORE);
    out.length = bytes.writeUInt16BE(table, out.length);
    out.length = bytes.writeUInt32BE(index, out.length);
  }

  #text(text: string): void {
    const out = this.#out;
    const bytes = Buffer.from(text, "utf8");
    out.reserve(4);
    out.length = out.bytes.writeInt32BE(bytes.length, out.length);
    out.copy(bytes, 0, bytes.length);
  }
}

export interface FrameReading {
  /** The epoch of the positions and versions that the reader gives to the rows. */
  readonly epoch: number;
  /** Rows and marks before it are left out; null: none is. */
  readonly since: Position | null;
  /** A mark as it is shown; null: it is left out. */
  readonly markOf: (content: Uint8Array) => Pick<LogMessage, "prefix" | "content"> | null;
  /** The version of a table whose first row is at `position`; null: its rows are left out. */
  readonly tableOf: (shape: TableShape, position: Position) => Promise<TableVersion | null>;
  /** `StreamOptions.onRenamed` */
  readonly onRenamed?: StreamOptions["onRenamed"];
  /** Whether names mean other tables at this commit position than at that of the transaction before. Absent: they never do. */
  readonly areNamesOthers?: (commit: bigint) => boolean;
}

export class Frame {
  readonly #bytes: Buffer;
  #at = 0;
  /** In the writer's epoch. */
  readonly from: Position;
  readonly until: Position;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    if (bytes.length === 0 || bytes[this.#at++] !== FORM) throw new UnreadableFrame("an unknown form of a frame");
    const [from, until] = this.#text().split(" ");
    this.from = placeIn(from);
    this.until = placeIn(until);
  }

  /** Once. */
  async read(reading: FrameReading): Promise<FrameContent> {
    const bytes = this.#bytes;
    const block = new Block(bytes);
    block.byteCount = bytes.length;
    block.until = { ...this.until, epoch: reading.epoch };
    const shapes: TableShape[] = [];
    const ordinals = new Map<number, number | null>();
    const lost: string[] = [];
    const announced: TableShape[] = [];
    let transaction: Transaction | null = null;
    while (this.#at < bytes.length) {
      const kind = bytes[this.#at++];
      if (kind === TABLE) shapes.push(JSON.parse(this.#text()));
      else if (kind === LOST) lost.push(this.#text());
      else if (kind === SHAPE) announced.push(JSON.parse(this.#text()));
      else if (kind === MARK) this.#mark(block, reading);
      else if (kind === RENAMED) await this.#renamed(reading);
      else if (kind === TRANSACTION) {
        transaction = this.#transaction();
        if (reading.areNamesOthers?.(transaction.commit)) ordinals.clear();
      } else if (kind === ROW && transaction !== null) {
        const row = this.#row();
        const position = { epoch: reading.epoch, commit: transaction.commit, index: row.index };
        if (reading.since !== null && comparePositions(position, reading.since) < 0) continue;
        let ordinal = ordinals.get(row.table);
        if (ordinal === undefined) {
          const shape = shapes[row.table];
          if (shape === undefined) throw new UnreadableFrame("a row of an unknown table");
          const table = await reading.tableOf(shape, position);
          ordinal = table === null ? null : block.tables.push(table) - 1;
          ordinals.set(row.table, ordinal);
        }
        if (ordinal === null) continue;
        const { op, after, before, beforeKind, index } = row;
        transaction.ordinal ??= addTransaction(block, transaction, reading.epoch);
        block.append(op, ordinal, after, before, beforeKind, transaction.ordinal, index);
      } else throw new UnreadableFrame("an unknown kind of record");
    }
    return { block, lost, announced };
  }

  #mark(block: Block, { since, epoch, markOf }: FrameReading): void {
    const { content, position, recordPosition, transactional }: Record<string, string> & { transactional: boolean } =
      JSON.parse(this.#text());
    const place = { epoch, commit: BigInt(position!), index: 0 };
    if (since !== null && comparePositions({ ...place, index: Infinity }, since) < 0) return;
    const mark = markOf(Buffer.from(content!, "base64"));
    if (mark === null) return;
    block.messages.push({
      at: block.count,
      ...mark,
      position: place.commit,
      ...(recordPosition === undefined ? {} : { recordPosition: BigInt(recordPosition) }),
      transactional,
    });
  }

  async #renamed({ epoch, onRenamed }: FrameReading): Promise<void> {
    const { commit, renames }: { commit: string; renames: readonly Rename[] } = JSON.parse(this.#text());
    await onRenamed?.(renames, { epoch, commit: BigInt(commit), index: 0 });
  }

  #transaction(): Transaction {
    const bytes = this.#bytes;
    const commit = bytes.readBigUInt64BE(this.#at);
    const timeUs = bytes.readBigInt64BE(this.#at + 8);
    const xid = bytes.readUInt32BE(this.#at + 16);
    this.#at += TRANSACTION_BYTES;
    const origin = this.#text();
    return { commit, timeUs, xid, origin: origin === "" ? undefined : JSON.parse(origin), ordinal: null };
  }

  #row(): Row {
    const bytes = this.#bytes;
    const [op, beforeKind, tuples] = [bytes[this.#at]!, bytes[this.#at + 1]!, bytes[this.#at + 2]!];
    const table = bytes.readUInt16BE(this.#at + 3);
    const index = bytes.readUInt32BE(this.#at + 5);
    this.#at += ROW_BYTES;
    const after = (tuples & HAS_AFTER) === 0 ? NO_TUPLE : this.#tuple();
    const before = (tuples & HAS_BEFORE) === 0 ? NO_TUPLE : this.#tuple();
    return { op, beforeKind, table, index, after, before };
  }

  #tuple(): number {
    const at = this.#at;
    this.#at = tupleEnd(this.#bytes, at);
    if (!(this.#at <= this.#bytes.length)) throw new UnreadableFrame("a tuple ends outside its frame");
    return at;
  }

  #text(): string {
    const start = this.#at + 4;
    const end = start + this.#bytes.readInt32BE(this.#at);
    if (end > this.#bytes.length || end < start) throw new UnreadableFrame("a text ends outside its frame");
    this.#at = end;
    return this.#bytes.toString("utf8", start, end);
  }
}

/** What a frame says. */
export interface FrameContent {
  /** It shares the frame's bytes. */
  readonly block: Block;
  /** Ids of tables. */
  readonly lost: readonly string[];
  /** Shapes that were in force before its rows. */
  readonly announced: readonly TableShape[];
}

interface Row {
  readonly op: number;
  readonly beforeKind: number;
  readonly table: number;
  readonly index: number;
  readonly after: number;
  readonly before: number;
}

interface Transaction {
  readonly commit: bigint;
  readonly timeUs: bigint;
  readonly xid: number;
  readonly origin: TransactionOrigin | undefined;
  /** In the block; null: none of its rows is there yet. */
  ordinal: number | null;
}

function placeIn(text = ""): Position {
  try {
    return parsePosition(text);
  } catch {
    throw new UnreadableFrame("no position where one is due");
  }
}

function addTransaction({ transactions }: Block, { commit, timeUs, xid, origin }: Transaction, epoch: number): number {
  const ordinal = transactions.add(commit, rowVersion(epoch, commit), timeUs, xid);
  if (origin !== undefined) transactions.origins[ordinal] = origin;
  return ordinal;
}
