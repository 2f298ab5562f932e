import { invariant } from "../invariant.ts";
import { baseVersion, type Position } from "./position.ts";
import type { TableVersion } from "./schema.ts";
import type { ByteWriter } from "../bytes.ts";

/** Operations, in the order of the envelope's letters `c u d r t`. */
export const OP_CREATE = 0;
export const OP_UPDATE = 1;
export const OP_DELETE = 2;
/** A row that was read beside the stream or in a first copy: its state, not a change. */
export const OP_READ = 3;
export const OP_TRUNCATE = 4;
/**
 * An update of a row for which it is unknown here whether the row is wanted: its new tuple has only the key, the other
 * cells are unchanged. The sink's batch reads the row from the source.
 */
export const OP_UNTOLD = 5;
/** An update of a row of which it is known that the filter let it through before, too. */
export const OP_KEPT = 6;
/**
 * As OP_UNTOLD, of a row that is wanted if it was wanted before: its new tuple has all that the change has. A history in which
 * the row is has the change too; nobody else gets more of it than the key.
 */
export const OP_IF_HELD = 7;
export const OP_LETTERS = ["c", "u", "d", "r", "t", "u", "u", "u"] as const;

/** An update of a row of which it is unknown whether it is wanted. */
export function isUntold(op: number): boolean {
  return op === OP_UNTOLD || op === OP_IF_HELD;
}

export function isUpdate(op: number): boolean {
  return op === OP_UPDATE || op === OP_KEPT;
}

/** The highest index of a change in its transaction. */
export const INDEX_MAX = 0xffff_ffff;

/** Offset that says "no such tuple". */
export const NO_TUPLE = 0xffff_ffff;

/** What the tuple in `before` contains. */
export const BEFORE_NONE = 0;
/** Only key columns; the others are null cells without meaning. */
export const BEFORE_KEY = 1;
export const BEFORE_FULL = 2;
/**
 * As BEFORE_KEY, of a deleted row that a filter may have left out all along: the log does not show what the filter needs. A
 * mirror deletes the key; nobody else is told of a key that he does not have.
 */
export const BEFORE_DOUBTED = 3;

/** Whether a filter may have left out the row of a change all along. */
export function mayBeLeftOut({ op, beforeKind }: Block, row: number): boolean {
  return isUntold(op[row]!) || beforeKind[row] === BEFORE_DOUBTED;
}

/** A logical message among the changes: it precedes the row at ordinal `at`. */
export interface LogMessage {
  readonly at: number;
  readonly prefix: string;
  readonly content: Uint8Array;
  /** Transactional: commit position of its transaction; else the position of the message itself. */
  readonly position: bigint;
  /** Position of the message's own record, if it is not `position`: it distinguishes the messages of a transaction. */
  readonly recordPosition?: bigint;
  readonly transactional: boolean;
}

/** The position of a truncate's record: its row has no tuple that would identify it. */
interface TruncateRecord {
  readonly row: number;
  readonly recordPosition: bigint;
}

/**
 * Changes in commit order: one set of vectors over bytes that are shared with the session's receive buffer. A block
 * contains whole transactions, and at most one partial one at each end. Element i of every vector describes row i;
 * nothing is allocated per row. Rate to hold: 3M appends/s (bench capture).
 *
 * Life: the producer fills it and hands it out with one reference; every queue that holds it retains it; the last
 * release returns the bytes and the vectors. Nobody writes to a block after it was handed out.
 */
export class Block {
  bytes: Uint8Array;
  count = 0;
  op: Uint8Array;
  /** Ordinal into `tables`. */
  table: Uint16Array;
  /** Offset of the new tuple in `bytes`, or NO_TUPLE. */
  after: Uint32Array;
  /** Offset of the old tuple in `bytes`, or NO_TUPLE. */
  before: Uint32Array;
  beforeKind: Uint8Array;
  /** Ordinal into `transactions`. */
  tx: Uint32Array;
  /** Ordinal of the change inside its transaction, as the server sends it, before any filter. */
  index: Uint32Array;
  readonly tables: TableVersion[] = [];
  readonly transactions = new Transactions();
  readonly messages: LogMessage[] = [];
  readonly truncates: TruncateRecord[] = [];
  /** Position after the last change. A block without changes only moves the position. */
  until: Position = { epoch: 1, commit: 0n, index: 0 };
  /** When the stream handed it out, in milliseconds since 1970; 0: it did not come by a stream. Only metrics use it. */
  arrivedMs = 0;
  /** Bytes that this block keeps alive; the byte budget counts them. */
  byteCount = 0;
  #references = 1;
  readonly #onRelease: ((block: Block) => void) | undefined;

  constructor(bytes: Uint8Array, capacity = 64, onRelease?: (block: Block) => void) {
    this.bytes = bytes;
    this.op = new Uint8Array(capacity);
    this.table = new Uint16Array(capacity);
    this.after = new Uint32Array(capacity);
    this.before = new Uint32Array(capacity);
    this.beforeKind = new Uint8Array(capacity);
    this.tx = new Uint32Array(capacity);
    this.index = new Uint32Array(capacity);
    this.#onRelease = onRelease;
  }

  append(
    op: number,
    table: number,
    after: number,
    before: number,
    beforeKind: number,
    tx: number,
    index: number,
  ): void {
    const i = this.count;
    if (i === this.op.length) this.#grow(i * 2);
    this.op[i] = op;
    this.table[i] = table;
    this.after[i] = after;
    this.before[i] = before;
    this.beforeKind[i] = beforeKind;
    this.tx[i] = tx;
    this.index[i] = index;
    this.count = i + 1;
  }

  /** Position before row `row`: what a reader that stops there has done. */
  positionAt(row: number): Position {
    if (row === this.count) return this.until;
    return { epoch: this.until.epoch, commit: this.transactions.commit[this.tx[row]!]!, index: this.index[row]! };
  }

  /** Empties the block so that its vectors can be reused. Only for its owner, when nobody holds it. */
  reset(bytes: Uint8Array): void {
    this.bytes = bytes;
    this.count = 0;
    this.tables.length = 0;
    this.transactions.count = 0;
    this.transactions.origins.length = 0;
    this.messages.length = 0;
    this.truncates.length = 0;
    this.byteCount = 0;
    this.arrivedMs = 0;
    this.#references = 1;
  }

  retain(): this {
    invariant(this.#references > 0, "a released block is not retained");
    this.#references++;
    return this;
  }

  release(): void {
    invariant(this.#references > 0, "a block is not released twice");
    if (--this.#references === 0) this.#onRelease?.(this);
  }

  #grow(capacity: number): void {
    this.op = grown(this.op, new Uint8Array(capacity));
    this.table = grown(this.table, new Uint16Array(capacity));
    this.after = grown(this.after, new Uint32Array(capacity));
    this.before = grown(this.before, new Uint32Array(capacity));
    this.beforeKind = grown(this.beforeKind, new Uint8Array(capacity));
    this.tx = grown(this.tx, new Uint32Array(capacity));
    this.index = grown(this.index, new Uint32Array(capacity));
  }
}

export interface TransactionOrigin {
  /** The transaction's name in the replication group, or null. */
  readonly gtid: string | null;
  /** The server where it was committed first. */
  readonly serverId: number;
}

/** The transactions of a block, as vectors. */
export class Transactions {
  count = 0;
  /** Commit position: where the commit record starts. */
  commit = new BigUint64Array(8);
  /** `rowVersion(epoch, commit)`. */
  version = new BigUint64Array(8);
  /** Microseconds since 1970-01-01 UTC. */
  commitTimeUs = new BigInt64Array(8);
  /** Postgres: the 32-bit transaction id. 0 if the source has none. */
  xid = new Uint32Array(8);
  /** MySQL: the origin of each. Shorter than the other vectors, or with holes, where the origin is unknown. */
  readonly origins: (TransactionOrigin | undefined)[] = [];

  add(commit: bigint, version: bigint, commitTimeUs: bigint, xid: number): number {
    const i = this.count;
    if (i === this.commit.length) {
      this.commit = grown(this.commit, new BigUint64Array(i * 2));
      this.version = grown(this.version, new BigUint64Array(i * 2));
      this.commitTimeUs = grown(this.commitTimeUs, new BigInt64Array(i * 2));
      this.xid = grown(this.xid, new Uint32Array(i * 2));
    }
    this.commit[i] = commit;
    this.version[i] = version;
    this.commitTimeUs[i] = commitTimeUs;
    this.xid[i] = xid;
    this.count = i + 1;
    return i;
  }
}

function grown<T extends { set(source: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}

/**
 * Rows from a read, not from the stream: a block of OP_READ that grows tuple by tuple, under one pseudo transaction.
 */
/**
 * `out`: where the caller writes the tuples. The pseudo transaction has the epoch's lowest version, that of a first
 * copy. A caller that gives the rows another position overwrites `transactions.version` before use.
 */
export function readBlock(
  table: TableVersion,
  epoch: number,
  out: ByteWriter,
  onRelease?: (block: Block) => void,
): Block {
  const block = new Block(out.bytes, undefined, onRelease);
  block.tables.push(table);
  block.transactions.add(0n, baseVersion(epoch), BigInt(Date.now()) * 1000n, 0);
  return block;
}

/** The row whose tuple begins at `offset`. */
export function addRead(block: Block, offset: number): void {
  block.append(OP_READ, 0, offset, NO_TUPLE, BEFORE_NONE, 0, block.count);
}

/**
 * Rows that fill less of their buffer than this are copied into a smaller one, because blocks of thousands of tables
 * may wait at once.
 */
const FILLED_MIN = 1 / 8;

/** Finishes the block, which then belongs to the caller. If its bytes are a copy, `out` is free again. */
export function finishRead(block: Block, out: ByteWriter, until: Position): Block {
  // The writer may have moved to a larger buffer.
  block.bytes = out.length < out.bytes.length * FILLED_MIN ? Buffer.from(out.view()) : out.bytes;
  block.byteCount = out.length;
  block.until = until;
  return block;
}
