/**
 * Decoder of a replication connection's bytes: CopyData frames with pgoutput's messages (protocol version 1, with logical
 * messages), walked in place. A row becomes one entry of a block's vectors; its tuple is not touched. Rate to hold: 3M
 * rows/s (bench capture).
 */
import { isUtf8 } from "node:buffer";
import type { StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import {
  BEFORE_FULL,
  BEFORE_KEY,
  BEFORE_NONE,
  type Block,
  INDEX_MAX,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_TRUNCATE,
  OP_UPDATE,
} from "../../../../src/core/model/block.ts";
import { fitsVersion, type Position, rowVersion } from "../../../../src/core/model/position.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap, readInt32, tupleEnd } from "../../../../src/core/model/tuple.ts";
import { readServerError } from "../../../../src/postgres/frames.ts";
import { beforeKind, frameLength, POSITION_BEFORE_MESSAGE, tooFar, tooMany, unreadable, XLOG_HEADER } from "./frame.ts";
import { saidSchemas } from "../log/schema-names.ts";
import { type Relation, Relations } from "./relations.ts";

import { ByteWriter } from "../../../../src/core/bytes.ts";
import { TupleWriter } from "../../../../src/core/model/tuple.ts";
/** Why the decoder returned: */
/** all whole frames are read; */
export const STOP_BYTES = 0;
/** the next frame refers to `needed`, which has to be looked up; */
export const STOP_TABLE = 1;
/** a transaction ended, and the bytes read have passed `boundaryAfter`; */
export const STOP_BOUNDARY = 2;
/** the server ended the copy, or refused to start it: `serverMessage`; */
export const STOP_ENDED = 3;
/** the next frame must be made longer by `missingBytes`: see `widen`. */
export const STOP_NARROW = 4;
type Stop = typeof STOP_BYTES | typeof STOP_TABLE | typeof STOP_BOUNDARY | typeof STOP_ENDED | typeof STOP_NARROW;

/** Relations that the received bytes refer to and that were not looked up yet. */
export interface Ahead {
  readonly oids: readonly number[];
  /** The stream's position, and the end of the bytes that were searched, both in bytes since its beginning. */
  readonly at: number;
  readonly until: number;
  /** Of the transaction that the stream is in. */
  readonly xid: number;
}

/** Microseconds from 1970 to 2000, the zero of Postgres' times. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;
/**
 * From version 18 on, the server skips the rows of a publication that does not exist, with only a warning from this
 * function. What was streamed before the warning is complete, what follows is not.
 */
export const PUBLICATION_ROUTINE = "LoadPublications";
const NONE_SAID: ReadonlyMap<number, string> = new Map();
const BLOCK_TABLE_COUNT_MAX = 60_000;
/** Relations that are looked up at once. */
const AHEAD_COUNT_MAX = 256;

export interface DecoderOptions {
  /** The server has not checked that texts are UTF-8. */
  readonly isUnchecked?: boolean;
  /**
   * Whether transactions have their numbers. On a standby a snapshot does not say which of them it sees: they have none, so
   * that nobody asks, as with MySQL. Default: true.
   */
  readonly hasNumbers?: boolean;
  /** See `StreamOptions`. */
  readonly isFlowing?: StreamOptions["isFlowing"] | undefined;
}

export class Decoder {
  readonly epoch: number;
  /** Earlier rows were delivered in a previous run: they are numbered, not appended. */
  readonly #from: Position;
  readonly #renewPrefix: string;
  readonly #relations: Relations;
  readonly #isUnchecked: boolean;
  readonly #hasNumbers: boolean;

  bytes: Buffer;
  block: Block;
  #blockNumber = 0;
  /** Where the next frame begins. */
  at = 0;
  /** Bytes that were read before the start of `bytes`. */
  #before = 0;
  /** After this many bytes, the decoder stops at the next boundary. */
  boundaryAfter: number;

  inTransaction = false;
  #commit = 0n;
  #commitTimeUs = 0n;
  #xid = 0;
  /** Index of the next change of the open transaction. */
  #index = 0;
  #skipBelow = 0;
  /** Ordinal of the open transaction in `block`, or -1 while the block has none of its rows. */
  #transaction = -1;

  /** Position after the last whole transaction, and what the block held there. */
  boundary: bigint;
  boundaryRows = 0;
  boundaryTransactions = 0;
  boundaryMessages = 0;
  boundaryAt = 0;

  needed: Relation | undefined;
  /** What the key of the next frame's new tuple lacks. */
  missingBytes = 0;
  replyRequested = false;
  started = false;
  /** End of the server's log, as it last reported, for lag. */
  walEnd = 0n;
  /** Of the last whole transaction. */
  lastCommit = 0n;
  lastTimeUs = 0n;
  /** Of the transaction that commits where the stream begins; null: none does. */
  firstTimeUs: bigint | null = null;
  serverMessage: Buffer | undefined;

  /** `renewPrefix`: the prefix of messages after which tables are looked up again, in the schemas that they say. */
  constructor(
    from: Position,
    block: Block,
    bytes: Buffer,
    boundaryAfter: number,
    renewPrefix: string,
    { isUnchecked = false, hasNumbers = true, isFlowing = () => false }: DecoderOptions = {},
  ) {
    this.#relations = new Relations(isFlowing);
    this.#isUnchecked = isUnchecked;
    this.#hasNumbers = hasNumbers;
    this.epoch = from.epoch;
    this.#from = from;
    this.boundary = from.commit;
    this.block = block;
    this.bytes = bytes;
    this.boundaryAfter = boundaryAfter;
    this.#renewPrefix = renewPrefix;
  }

  /** The position after everything read: where a reader that has the block's rows is. */
  get position(): Position {
    if (this.inTransaction)
      return { epoch: this.epoch, commit: this.#commit, index: Math.max(this.#index, this.#skipBelow) };
    // A stream that begins inside a transaction stays at its beginning until that transaction has passed.
    if (this.boundary === this.#from.commit) return this.#from;
    return { epoch: this.epoch, commit: this.boundary, index: 0 };
  }

  /** Continues in another block (and, if the bytes were moved, in other bytes). An open transaction begins there again. */
  adopt(block: Block, bytes: Buffer, at: number, boundaryAfter: number): void {
    this.block = block;
    this.bytes = bytes;
    this.#before += this.at - at;
    this.at = at;
    this.boundaryAfter = boundaryAfter;
    this.#blockNumber++;
    this.#transaction = -1;
    this.#markBoundaryCounts(0, 0, 0, at);
  }

  /** Continues in a block that already holds the open transaction's rows, under the same table ordinals. */
  adoptTail(block: Block): void {
    this.block = block;
    this.#transaction = block.transactions.count - 1;
    this.#markBoundaryCounts(0, 0, 0, this.boundaryAt);
  }

  /** Length of the frame at `at`, or 0 if its header is incomplete. */
  frameLength(end: number): number {
    return frameLength(this.bytes, this.at, end);
  }

  /** The relations that the frames up to `end` refer to and that are not looked up. */
  ahead(end: number): Ahead {
    const { bytes } = this;
    const oids = new Set<number>();
    let at = this.at;
    while (end - at >= 5 && oids.size < AHEAD_COUNT_MAX) {
      const next = at + 1 + readInt32(bytes, at + 1);
      if (next < at + 5 || next > end) break;
      if (bytes[at] === 0x64 && bytes[at + 5] === 0x77) {
        const oid = this.#unknownIn(at + XLOG_HEADER);
        if (oid !== undefined) oids.add(oid);
      }
      at = next;
    }
    return { oids: [...oids], at: this.#before + this.at, until: this.#before + at, xid: this.#xid };
  }

  /** The oid that a message announces, or has a row of, if it must be looked up. */
  #unknownIn(at: number): number | undefined {
    const kind = this.bytes[at]!;
    if (kind !== 0x52 && kind !== 0x49 && kind !== 0x55 && kind !== 0x44) return undefined;
    const oid = this.bytes.readUInt32BE(at + 1);
    return kind === 0x52 || !this.#relations.isLookedUp(oid) ? oid : undefined;
  }

  get schemas(): readonly (readonly [oid: number, schema: string])[] {
    return this.#relations.schemas;
  }

  /** Tables are looked up again. */
  renew(): void {
    this.#relations.renew(NONE_SAID);
  }

  /** Reads whole frames up to `end`. */
  run(end: number): Stop {
    try {
      return this.#frames(end);
    } catch (error) {
      throw error instanceof RangeError ? unreadable("a message that does not fit into its frame") : error;
    }
  }

  #frames(end: number): Stop {
    const { bytes } = this;
    for (;;) {
      const at = this.at;
      if (end - at < 5) return STOP_BYTES;
      const next = at + 1 + readInt32(bytes, at + 1);
      if (next < at + 5) throw unreadable("a frame of negative length");
      if (next > end) return STOP_BYTES;
      const kind = bytes[at]!;
      if (kind === 0x64) {
        const inner = bytes[at + 5]!;
        if (inner === 0x77) {
          if (!this.#message(at + XLOG_HEADER, next)) return this.missingBytes > 0 ? STOP_NARROW : STOP_TABLE;
          this.at = next;
          if (!this.inTransaction && next >= this.boundaryAfter) return STOP_BOUNDARY;
          continue;
        }
        if (inner !== 0x6b) throw unreadable(`a replication message of kind ${inner}`);
        this.#keepalive(at + 6);
      } else if (this.#control(kind, at + 5, next)) {
        this.at = next;
        return STOP_ENDED;
      }
      this.at = next;
    }
  }

  /**
   * Makes the next frame, an update, longer by `missingBytes`, because its new tuple has no whole key. The received bytes
   * end at `end`, with room after it; returns the new end.
   */
  widen(end: number): number {
    const { bytes, at, missingBytes } = this;
    const next = at + 1 + readInt32(bytes, at + 1);
    bytes.copyWithin(next + missingBytes, next, end);
    bytes.writeInt32BE(next + missingBytes - at - 1, at + 1);
    const update = at + XLOG_HEADER + 1;
    const relation = this.#known(bytes.readUInt32BE(update));
    const before = update + 5;
    if (relation?.table != null) completeKey(keyCells(relation), bytes, before, tupleEnd(bytes, before) + 1);
    this.missingBytes = 0;
    return end + missingBytes;
  }

  /** Frames other than CopyData; true: the stream ends here. */
  #control(kind: number, at: number, end: number): boolean {
    switch (kind) {
      case 0x57: // CopyBothResponse
        this.started = true;
        return false;
      case 0x4e: // NoticeResponse
        if (readServerError(this.bytes.subarray(at, end)).routine !== PUBLICATION_ROUTINE) return false;
        this.serverMessage = Buffer.from(this.bytes.subarray(at, end));
        return true;
      case 0x53: // ParameterStatus
        return false;
      case 0x45: // ErrorResponse
        this.serverMessage = Buffer.from(this.bytes.subarray(at, end));
        return true;
      case 0x63: // CopyDone
      case 0x43: // CommandComplete
      case 0x5a: // ReadyForQuery
        return true;
      default:
        throw unreadable(`a frame of kind ${kind}`);
    }
  }

  #keepalive(at: number): void {
    const walEnd = this.bytes.readBigUInt64BE(at);
    if (walEnd > this.walEnd) this.walEnd = walEnd;
    if (this.bytes[at + 16] === 1) this.replyRequested = true;
    // Inside a transaction, the end of the log is no position: the transaction's rows are still to come.
    if (!this.inTransaction && walEnd > this.boundary) this.#markBoundary(walEnd, this.boundaryAt);
  }

  /** Handles one pgoutput message; false: nothing was done, `needed` must be looked up first. */
  #message(at: number, end: number): boolean {
    switch (this.bytes[at]!) {
      case 0x49: // Insert
        return this.#insert(at + 1, end);
      case 0x55: // Update
        return this.#update(at + 1, end);
      case 0x44: // Delete
        return this.#delete(at + 1, end);
      case 0x42: // Begin
        this.#begin(at + 1);
        return true;
      case 0x43: // Commit
        this.#commitRead(at + 1, end);
        return true;
      case 0x52: // Relation
        this.#relations.announce(this.bytes, at + 1, end);
        return true;
      case 0x54: // Truncate
        return this.#truncate(at + 1, end);
      case 0x4d: // Message
        this.#logicalMessage(at + 1);
        return true;
      case 0x59: // Type
      case 0x4f: // Origin
        return true;
      default:
        throw unreadable(`a pgoutput message of kind ${this.bytes[at]}`);
    }
  }

  #begin(at: number): void {
    const { bytes } = this;
    this.#commit = bytes.readBigUInt64BE(at);
    if (!fitsVersion(this.#commit)) throw tooFar(this.#commit);
    this.#commitTimeUs = bytes.readBigInt64BE(at + 8) + POSTGRES_EPOCH_US;
    this.#xid = this.#hasNumbers ? bytes.readUInt32BE(at + 16) : 0;
    this.#index = 0;
    this.#skipBelow = this.#commit === this.#from.commit ? this.#from.index : 0;
    this.#transaction = -1;
    this.inTransaction = true;
  }

  #commitRead(at: number, end: number): void {
    this.inTransaction = false;
    this.lastCommit = this.#commit;
    this.lastTimeUs = this.#commitTimeUs;
    if (this.#commit === this.#from.commit) this.firstTimeUs = this.#commitTimeUs;
    const commitEnd = this.bytes.readBigUInt64BE(at + 9);
    if (commitEnd > this.walEnd) this.walEnd = commitEnd;
    this.#markBoundary(commitEnd, end);
  }

  #markBoundary(position: bigint, at: number): void {
    this.boundary = position;
    const { block } = this;
    this.#markBoundaryCounts(block.count, block.transactions.count, block.messages.length, at);
  }

  #markBoundaryCounts(rows: number, transactions: number, messages: number, at: number): void {
    this.boundaryRows = rows;
    this.boundaryTransactions = transactions;
    this.boundaryMessages = messages;
    this.boundaryAt = at;
  }

  /** The relation, looked up; undefined if `needed` must be looked up first. */
  #known(oid: number): Relation | undefined {
    const relation = this.#relations.of(oid);
    if (relation.table !== undefined) return relation;
    this.needed = relation;
    return undefined;
  }

  /**
   * In a database that keeps any bytes: whether the tuples from `at` on are UTF-8. If not, the row is looked up once more,
   * which suspends its table, and is then passed by.
   */
  #isLegible(relation: Relation, at: number, end: number): boolean {
    if (relation.isIllegible) {
      this.#counts(relation);
      relation.isIllegible = false;
      relation.table = undefined;
      return false;
    }
    if (relation.table === null || areTexts(this.bytes, at, end)) return true;
    relation.isIllegible = true;
    relation.table = undefined;
    this.needed = relation;
    return false;
  }

  /**
   * Whether the tuple at `at` is an old key that is no UTF-8. No sink can hold such a row: the one that brought it suspended the
   * table, or can't be read, and a table is whole only when all of it was read. So there is nothing to delete.
   */
  #isNowhere(at: number): boolean {
    const { bytes } = this;
    return this.#isUnchecked && bytes[at] === 0x4b && !areTexts(bytes, at, tupleEnd(bytes, at + 1));
  }

  #insert(at: number, end: number): boolean {
    const relation = this.#known(this.bytes.readUInt32BE(at));
    if (relation === undefined) return false;
    if (this.#isUnchecked && !this.#isLegible(relation, at + 4, end)) return !relation.isIllegible;
    if (this.#counts(relation)) this.#append(relation, OP_CREATE, at + 5, NO_TUPLE, BEFORE_NONE);
    return true;
  }

  #update(at: number, end: number): boolean {
    const { bytes } = this;
    const relation = this.#known(bytes.readUInt32BE(at));
    if (relation === undefined) return false;
    const isFromNowhere = this.#isNowhere(at + 4);
    if (this.#isUnchecked && !isFromNowhere && !this.#isLegible(relation, at + 4, end)) return !relation.isIllegible;
    const kind = bytes[at + 4]!;
    if (kind === 0x4e) {
      if (this.#counts(relation)) this.#append(relation, OP_UPDATE, at + 5, NO_TUPLE, BEFORE_NONE);
      return true;
    }
    const after = tupleEnd(bytes, at + 5) + 1;
    if (after <= at || after > end) throw unreadable("an old tuple that does not fit into its frame");
    if (relation.table != null) {
      this.missingBytes = missingKeyBytes(keyCells(relation), bytes, at + 5, after);
      if (this.missingBytes > 0) return false;
    }
    if (isFromNowhere) {
      if (!this.#isLegible(relation, after - 1, end)) return !relation.isIllegible;
      if (this.#counts(relation)) this.#append(relation, OP_UPDATE, after, NO_TUPLE, BEFORE_NONE);
    } else if (this.#counts(relation)) {
      this.#append(relation, OP_UPDATE, after, at + 5, this.#beforeKind(relation, at + 4));
    }
    return true;
  }

  #delete(at: number, end: number): boolean {
    const relation = this.#known(this.bytes.readUInt32BE(at));
    if (relation === undefined) return false;
    if (this.#isNowhere(at + 4)) {
      this.#counts(relation);
      return true;
    }
    if (this.#isUnchecked && !this.#isLegible(relation, at + 4, end)) return !relation.isIllegible;
    if (this.#counts(relation)) this.#append(relation, OP_DELETE, NO_TUPLE, at + 5, this.#beforeKind(relation, at + 4));
    return true;
  }

  /**
   * Of a row in a partition the root's identity says what the old tuple at `at` is, and the partition's own decides what it has.
   * A whole row that is null besides the key passes for a key, too.
   */
  #beforeKind({ logged }: Relation, at: number): number {
    const kind = beforeKind(this.bytes[at]!);
    return kind === BEFORE_FULL && logged !== null && hasOnly(this.bytes, at + 1, logged) ? BEFORE_KEY : kind;
  }

  #truncate(at: number, end: number): boolean {
    const count = readInt32(this.bytes, at);
    if (at + 5 + count * 4 > end) throw unreadable("a truncate that does not fit into its frame");
    // Through a root the relation is the root's own, and several tables are announced one after the other.
    this.#relations.announced = undefined;
    for (let i = 0; i < count; i++)
      if (this.#known(this.bytes.readUInt32BE(at + 5 + i * 4)) === undefined) return false;
    const named = new Set(Array.from({ length: count }, (_, i) => this.bytes.readUInt32BE(at + 5 + i * 4)));
    const names = (tree: readonly number[]): boolean => tree.every((oid) => named.has(oid));
    for (let i = 0; i < count; i++) {
      const relation = this.#known(this.bytes.readUInt32BE(at + 5 + i * 4))!;
      if (!this.#counts(relation)) continue;
      // Of the others the generation changes, and the tree is read again.
      if (relation.tree !== null && !(relation.tree[0] === relation.message.oid && names(relation.tree))) continue;
      this.#append(relation, OP_TRUNCATE, NO_TUPLE, NO_TUPLE, BEFORE_NONE);
      const recordPosition = this.bytes.readBigUInt64BE(at - 1 - POSITION_BEFORE_MESSAGE);
      this.block.truncates.push({ row: this.block.count - 1, recordPosition });
    }
    return true;
  }

  /** Numbers the change, captured or not, and returns whether to append it. */
  #counts(relation: Relation): boolean {
    if (!this.inTransaction) throw unreadable("a row outside of a transaction");
    if (this.#index > INDEX_MAX) throw tooMany();
    return this.#index++ >= this.#skipBelow && relation.table !== null;
  }

  #append(relation: Relation, op: number, after: number, before: number, kind: number): void {
    const { block } = this;
    if (relation.cells !== null) {
      // Once for each row: a row is appended once.
      if (before !== NO_TUPLE) arrange(this.bytes, before, relation.cells);
      if (after !== NO_TUPLE) arrange(this.bytes, after, relation.cells);
    }
    if (this.#transaction < 0) {
      const version = rowVersion(this.epoch, this.#commit);
      this.#transaction = block.transactions.add(this.#commit, version, this.#commitTimeUs, this.#xid);
    }
    if (relation.blockNumber !== this.#blockNumber) this.#enlist(relation);
    block.append(op, relation.ordinal, after, before, kind, this.#transaction, this.#index - 1);
  }

  #enlist(relation: Relation): void {
    const { tables } = this.block;
    if (tables.length >= BLOCK_TABLE_COUNT_MAX) throw unreadable("too many tables in one block");
    // Only a captured relation gets here. The tables of a tree are one, and so are their rows in a block.
    const table = relation.table!;
    const known =
      relation.tree === null ? -1 : tables.findIndex(({ id, version }) => id === table.id && version === table.version);
    relation.ordinal = known >= 0 ? known : tables.push(table) - 1;
    relation.blockNumber = this.#blockNumber;
  }

  #logicalMessage(at: number): void {
    const { bytes, block } = this;
    const transactional = (bytes[at]! & 1) === 1;
    const lsn = bytes.readBigUInt64BE(at + 1);
    const prefixEnd = bytes.indexOf(0, at + 9);
    const length = readInt32(bytes, prefixEnd + 1);
    const prefix = bytes.toString("utf8", at + 9, prefixEnd);
    const content = bytes.subarray(prefixEnd + 5, prefixEnd + 5 + length);
    if (prefix === this.#renewPrefix) this.#relations.renew(saidSchemas(content.toString("latin1")));
    if (!transactional && lsn < this.#from.commit) return;
    if (this.inTransaction && this.#index < this.#skipBelow) return;
    block.messages.push({
      at: block.count,
      prefix,
      content: new Uint8Array(content),
      position: transactional ? this.#commit : lsn,
      ...(transactional ? { recordPosition: lsn } : {}),
      transactional,
    });
    if (!this.inTransaction) this.#markBoundary(lsn > this.boundary ? lsn : this.boundary, this.boundaryAt);
  }
}

/** Whether the texts of the tuples between `at`, where a byte says which tuple follows, and `end` are UTF-8. */
function areTexts(bytes: Buffer, at: number, end: number): boolean {
  for (let next = at + 1; next < end; next++) {
    const count = bytes.readUInt16BE(next);
    next += 2;
    for (let i = 0; i < count; i++) {
      const kind = bytes[next++]!;
      // Null, or unchanged.
      if (kind !== 0x74 && kind !== 0x62) continue;
      const from = next + 4;
      next = from + readInt32(bytes, next);
      if (next > end) throw unreadable("a value that does not fit into its frame");
      if (kind === 0x74 && !isUtf8(bytes.subarray(from, next))) return false;
    }
  }
  return true;
}

/*
 * A key value that is stored out of line and did not change is missing in the new tuple of an update, like any such value;
 * the server then sends the old key too. Other parts rely on whole keys, so the value is inserted here.
 */
const older = new CellMap();
const newer = new CellMap();

/** Whether all other cells of the tuple are null. */
function hasOnly(bytes: Uint8Array, tuple: number, ordinals: ReadonlySet<number>): boolean {
  older.read(bytes, tuple);
  for (let i = 0; i < older.count; i++) if (older.kind[i] !== CELL_NULL && !ordinals.has(i)) return false;
  return true;
}

/** The cells of the key in tuples as the relation has them. */
function keyCells({ table, cells }: Relation): readonly number[] {
  const key = table?.key ?? [];
  return cells === null ? key : key.map((ordinal) => cells[ordinal]!);
}

let arranged = new ByteWriter();
/** A buffer that one huge value has enlarged is released. */
const ARRANGED_BYTES_MAX = 1024 * 1024;

/** Writes the tuple at `tuple` over itself with these cells alone, in this order. It does not grow. */
function arrange(bytes: Buffer, tuple: number, cells: readonly number[]): void {
  older.read(bytes, tuple);
  arranged.reset();
  const writer = new TupleWriter(arranged);
  writer.begin(cells.length);
  for (const cell of cells) writer.copyCell(bytes, older, cell);
  bytes.set(arranged.view(), tuple);
  if (arranged.bytes.length > ARRANGED_BYTES_MAX) arranged = new ByteWriter();
}

/** How many bytes the new tuple grows when its key is completed from the old one; 0: the key is whole. */
function missingKeyBytes(key: readonly number[], bytes: Uint8Array, before: number, after: number): number {
  newer.read(bytes, after);
  if (!key.some((ordinal) => newer.kind[ordinal] === CELL_UNCHANGED)) return 0;
  older.read(bytes, before);
  let count = 0;
  // A kind byte exists already; a length and the value do not.
  for (const ordinal of key) if (newer.kind[ordinal] === CELL_UNCHANGED) count += 4 + older.length[ordinal]!;
  return count;
}

/** Writes the new tuple with a whole key over itself; the bytes after it were moved away before. */
function completeKey(key: readonly number[], bytes: Uint8Array, before: number, after: number): void {
  older.read(bytes, before);
  const length = newer.read(bytes, after) - after;
  const out = new ByteWriter(length + missingKeyBytes(key, bytes, before, after));
  const tuple = new TupleWriter(out);
  tuple.begin(newer.count);
  for (let i = 0; i < newer.count; i++) {
    const isMissing = newer.kind[i] === CELL_UNCHANGED && key.includes(i);
    tuple.copyCell(bytes, isMissing ? older : newer, i);
  }
  bytes.set(out.view(), after);
}
