/**
 * Turns decoded rows into blocks. Rows of a transaction are written one after the other. A block is cut at a commit; a
 * transaction that is larger than a block should be is cut inside.
 */
import { BEFORE_NONE, Block, NO_TUPLE, OP_TRUNCATE, type TransactionOrigin } from "../../../../src/core/model/block.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import { comparePositions, fitsVersion, type Position, rowVersion } from "../../../../src/core/model/position.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { sourceError } from "../errors.ts";
import { RowTarget } from "./rows.ts";

/** A block of this size is given out, at a commit or inside a transaction. */
const BLOCK_BYTES_MAX = 1024 * 1024;
/** A smaller transaction is never cut, so that all of it can be taken back. */
const CUT_BYTES_MIN = BLOCK_BYTES_MAX / 2;
/** Blocks share a buffer as long as it has room for a whole block, so that it need not grow. */
const BUFFER_BYTES = 3 * 1024 * 1024;
const ROOM_BYTES_MIN = BLOCK_BYTES_MAX + CUT_BYTES_MIN + BLOCK_BYTES_MAX / 4;
const FREE_BUFFER_COUNT_MAX = 8;
const TABLE_COUNT_MAX = 60_000;
/** When blocks hold this much, the socket is not read any more. */
const BYTE_COUNT_MAX = 24 * 1024 * 1024;
/** The limit for a transaction whose rows may be taken back. */
const KEPT_BYTES_MAX = 12 * 1024 * 1024;

/** A savepoint between rows of the open transaction. */
interface Mark {
  /** Rows and bytes before it in the block that is being filled. */
  count: number;
  byteCount: number;
  /** Rows before it that an earlier run gave out. */
  readonly skipped: number;
  /** Whether rows after it have been given out. */
  isGiven: boolean;
}

export class Assembler {
  readonly target: RowTarget;
  readonly #out = new ByteWriter(BUFFER_BYTES);
  readonly #onRoom: () => void;
  readonly #byteCountMax: number;
  readonly #ready: Block[] = [];
  #block: Block;
  #blockStart = 0;
  #liveBytes = 0;
  /** How many blocks each buffer has. */
  readonly #holders = new Map<Uint8Array, number>();
  readonly #free: Buffer[] = [];
  #given: Position;
  /** The position after the last whole transaction. */
  #boundary: Position;
  /** Where the open transaction begins; null between two. */
  #open: bigint | null = null;
  #openTimeUs = 0n;
  #origin: TransactionOrigin | undefined;
  /** How many transactions the block had before the open one. */
  #transactionsBefore = 0;
  #begun: Mark = { count: 0, byteCount: 0, skipped: 0, isGiven: false };
  /** Whether the open transaction is given out as late as possible, because its rows may be taken back. */
  #isKept = false;
  /** Savepoints of the open transaction, in order. */
  readonly #savepoints = new Map<string, Mark>();
  /** Tables, by id, of which rows of the open transaction were dropped. */
  #dropped = new Set<string>();
  /** Tables, by id, of which rows of the open transaction have been given out, by an earlier run too. */
  #givenTables = new Set<string>();

  constructor(from: Position, byteCountMax: number | undefined, onRoom: () => void) {
    this.#byteCountMax = byteCountMax ?? BYTE_COUNT_MAX;
    this.#onRoom = onRoom;
    this.#given = from;
    this.#boundary = from;
    this.#block = this.#newBlock();
    this.target = new RowTarget(this.#out, this.#block);
  }

  get isFull(): boolean {
    // Waiting would not make room: these bytes are kept for the rest of their own transaction.
    if (this.#liveBytes === 0 && this.#open !== null) return false;
    return this.#liveBytes + this.#out.length - this.#blockStart >= this.#byteCountMax;
  }

  get inTransaction(): boolean {
    return this.#open !== null;
  }

  get position(): Position {
    if (this.#open === null) return this.#boundary;
    return { epoch: this.#boundary.epoch, commit: this.#open, index: this.target.index };
  }

  /** `skipBelow`: an earlier run gave out the rows before it. */
  begin(start: bigint, timeUs: bigint, skipBelow: number, origin: TransactionOrigin): void {
    if (!fitsVersion(start)) throw sourceError("MR2035", "fatal", "the log has come beyond the last position");
    this.#open = start;
    this.#openTimeUs = timeUs;
    this.#origin = origin;
    this.target.index = 0;
    this.target.skipBelow = skipBelow;
    this.#transactionsBefore = this.#block.transactions.count;
    this.target.transaction = this.#addTransaction();
    this.#begun = this.#mark();
    this.#savepoints.clear();
    this.#dropped = new Set();
    this.#givenTables = this.target.skippedTables = new Set();
    this.#isKept = false;
  }

  keepTogether(): void {
    this.#isKept = true;
  }

  savepoint(name: string): void {
    this.#savepoints.delete(name);
    this.#savepoints.set(name, this.#mark());
    this.#isKept = true;
  }

  /** Takes back the rows after the savepoint, and returns the tables of which some may have been given out. */
  rollBackTo(name: string): ReadonlySet<string> {
    const mark = this.#savepoints.get(name);
    // Rows after it were given out or dropped, so all that are left here are.
    if (mark === undefined) return this.#goBack(this.#begun);
    const names = [...this.#savepoints.keys()];
    for (const later of names.slice(names.indexOf(name) + 1)) this.#savepoints.delete(later);
    return this.#goBack(mark);
  }

  /** Takes back all rows of the open transaction, and returns the tables of which some were given out. */
  rollBack(): ReadonlySet<string> {
    return this.#open === null ? NONE : this.#goBack(this.#begun);
  }

  /** Takes back all rows of the open transaction, which was not cut, to give them another position in the log later. */
  withhold(): HeldRows {
    if (this.hasDropped) this.dropRows();
    const { byteCount, count } = this.#begun;
    const rows = heldRows(this.#block, this.#out.bytes, count, byteCount, this.#out.length);
    invariant(this.rollBack().size === 0, "a transaction is withheld whole");
    return { ...rows, dropped: this.#dropped };
  }

  /** Forgets the rows of the open transaction so far, except their tables. */
  dropRows(): void {
    for (const id of tablesFrom(this.#block, this.#begun.count)) this.#dropped.add(id);
    this.#savepoints.clear();
    this.#goBack(this.#begun);
  }

  get hasDropped(): boolean {
    return this.#dropped.size > 0;
  }

  /** Adds rows that were withheld to the open transaction. */
  restore(rows: HeldRows): void {
    const { target } = this;
    const shift = this.#out.length;
    this.#out.copy(rows.bytes, 0, rows.bytes.length);
    const moved = (offset: number): number => (offset === NO_TUPLE ? NO_TUPLE : offset + shift);
    for (let i = 0; i < rows.count; i++) {
      const index = rows.index[i]!;
      const version = rows.tables[rows.table[i]!]!;
      if (target.isSkipped(index, version)) continue;
      const table = target.ordinalOf(version);
      const [after, before] = [moved(rows.after[i]!), moved(rows.before[i]!)];
      this.#block.append(rows.op[i]!, table, after, before, rows.beforeKind[i]!, target.transaction, index);
    }
  }

  commit(end: bigint): void {
    this.#open = null;
    this.target.skipBelow = 0;
    const { count, tx, transactions } = this.#block;
    if (count === 0 || tx[count - 1]! < this.#transactionsBefore) transactions.count = this.#transactionsBefore;
    this.moveTo(end);
    if (this.#isLarge()) this.#seal(this.#boundary);
  }

  /** The log continues there, with nothing in between. */
  moveTo(commit: bigint): void {
    if (commit > this.#boundary.commit || this.#boundary.index > 0)
      this.#boundary = { epoch: this.#boundary.epoch, commit, index: 0 };
  }

  /** After each event of an open transaction: gives out part of it if it is large. */
  cutIfLarge(): void {
    if (this.#block.tables.length < TABLE_COUNT_MAX) {
      const own = this.#out.length - this.#begun.byteCount;
      if (this.#isKept ? !this.isTooLarge : own < CUT_BYTES_MIN || !this.#isLarge()) return;
    }
    this.#begun.isGiven = this.#hasRowsBehind(this.#begun);
    for (const id of tablesFrom(this.#block, this.#begun.count)) this.#givenTables.add(id);
    // A savepoint is useless once rows after it were given out.
    for (const [name, mark] of this.#savepoints) if (this.#hasRowsBehind(mark)) this.#savepoints.delete(name);
    this.#seal(this.position);
    for (const mark of [this.#begun, ...this.#savepoints.values()]) {
      mark.count = 0;
      mark.byteCount = this.#out.length;
    }
  }

  /** Whether the open transaction exceeds the limit for one that must not be cut. */
  get isTooLarge(): boolean {
    return this.#out.length - this.#begun.byteCount >= KEPT_BYTES_MAX || this.#block.tables.length >= TABLE_COUNT_MAX;
  }

  truncate(table: TableVersion, recordPosition: bigint): void {
    const { target } = this;
    const index = target.index++;
    if (target.isSkipped(index, table)) return;
    this.#block.truncates.push({ row: this.#block.count, recordPosition });
    const ordinal = target.ordinalOf(table);
    this.#block.append(OP_TRUNCATE, ordinal, NO_TUPLE, NO_TUPLE, BEFORE_NONE, target.transaction, index);
  }

  /** A transaction has the position where it begins, so the next one may have that of the boundary: the message is before it. */
  message(prefix: string, content: string): void {
    const position = this.#boundary.commit - 1n;
    this.#block.messages.push({
      at: this.#block.count,
      prefix,
      content: Buffer.from(content, "utf8"),
      position,
      transactional: false,
    });
  }

  get hasSome(): boolean {
    if (this.#ready.length > 0) return true;
    if (this.#open !== null) return false;
    return (
      this.#block.count > 0 || this.#block.messages.length > 0 || comparePositions(this.#boundary, this.#given) > 0
    );
  }

  get hasFull(): boolean {
    return this.#ready.length > 0;
  }

  /** The next block, which the caller has to release. */
  take(): Block | undefined {
    if (!this.hasSome) return undefined;
    if (this.#ready.length === 0) this.#seal(this.#boundary);
    const block = this.#ready.shift()!;
    this.#given = block.until;
    return block;
  }

  /** Releases the blocks that were never given out. */
  discard(): void {
    for (const block of this.#ready.splice(0)) block.release();
  }

  #mark(): Mark {
    return { count: this.#block.count, byteCount: this.#out.length, skipped: this.target.skipped, isGiven: false };
  }

  #hasRowsBehind({ count, isGiven, skipped }: Mark): boolean {
    return isGiven || this.#block.count > count || this.#isSkippedBehind(skipped);
  }

  /** Whether an earlier run gave out rows after it; finished transactions do not matter. */
  #isSkippedBehind(skipped: number): boolean {
    return this.target.skipped > skipped && Number.isFinite(this.target.skipBelow);
  }

  #goBack({ byteCount, count, isGiven, skipped }: Mark): ReadonlySet<string> {
    const { truncates } = this.#block;
    this.#block.count = count;
    this.#out.length = byteCount;
    while ((truncates.at(-1)?.row ?? -1) >= count) truncates.pop();
    return isGiven || this.#isSkippedBehind(skipped) ? this.#givenTables : NONE;
  }

  #isLarge(): boolean {
    return this.#out.length - this.#blockStart >= BLOCK_BYTES_MAX || this.#block.tables.length >= TABLE_COUNT_MAX;
  }

  #addTransaction(): number {
    const { transactions } = this.#block;
    const commit = this.#open!;
    const ordinal = transactions.add(commit, rowVersion(this.#boundary.epoch, commit), this.#openTimeUs, 0);
    transactions.origins[ordinal] = this.#origin;
    return ordinal;
  }

  #seal(until: Position): void {
    const block = this.#block;
    block.bytes = this.#out.bytes;
    block.byteCount = this.#out.length - this.#blockStart;
    block.until = until;
    this.#liveBytes += block.byteCount;
    this.#ready.push(block);
    // An owner of a block owns its buffer: bytes of a block are never overwritten.
    this.#holders.set(block.bytes, (this.#holders.get(block.bytes) ?? 0) + 1);
    if (this.#out.bytes.length - this.#out.length < ROOM_BYTES_MIN) {
      this.#out.bytes = this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
      this.#out.length = 0;
    }
    this.#blockStart = this.#out.length;
    this.#block = this.#newBlock();
    this.#transactionsBefore = 0;
    this.target.adopt(this.#block, this.#open === null ? 0 : this.#addTransaction());
  }

  /** The last block of a buffer returns it, unless it is still being written or has grown for a large row. */
  #letGo(bytes: Uint8Array): void {
    const left = (this.#holders.get(bytes) ?? 1) - 1;
    if (left > 0) {
      this.#holders.set(bytes, left);
      return;
    }
    this.#holders.delete(bytes);
    const isReusable = bytes !== this.#out.bytes && bytes.length === BUFFER_BYTES && bytes instanceof Buffer;
    if (isReusable && this.#free.length < FREE_BUFFER_COUNT_MAX) this.#free.push(bytes);
  }

  #newBlock(): Block {
    return new Block(this.#out.bytes, 64, (done) => {
      const wasFull = this.isFull;
      this.#liveBytes -= done.byteCount;
      this.#letGo(done.bytes);
      if (wasFull && !this.isFull) this.#onRoom();
    });
  }
}

const NONE: ReadonlySet<string> = new Set();

/** The tables, by id, of a block's rows from `from` on. */
function tablesFrom(block: Block, from: number): ReadonlySet<string> {
  return new Set(Array.from(block.table.subarray(from, block.count), (ordinal) => block.tables[ordinal]!.id));
}

/** Rows that were taken out of a block. Offsets are into `bytes`. */
export interface HeldRows {
  /** Tables, by id, of which rows are missing here: they were dropped. */
  readonly dropped: ReadonlySet<string>;
  readonly bytes: Uint8Array;
  readonly count: number;
  readonly tables: readonly TableVersion[];
  readonly op: Uint8Array;
  readonly table: Uint16Array;
  readonly after: Uint32Array;
  readonly before: Uint32Array;
  readonly beforeKind: Uint8Array;
  readonly index: Uint32Array;
}

/** Copies the rows of `block` from `from` on; their tuples begin at `start` of `bytes`. */
function heldRows(
  block: Block,
  bytes: Uint8Array,
  from: number,
  start: number,
  end: number,
): Omit<HeldRows, "dropped"> {
  const { count } = block;
  const inside = (offsets: Uint32Array): Uint32Array =>
    offsets.slice(from, count).map((offset) => (offset === NO_TUPLE ? NO_TUPLE : offset - start));
  return {
    bytes: Uint8Array.from(bytes.subarray(start, end)),
    count: count - from,
    tables: [...block.tables],
    op: block.op.slice(from, count),
    table: block.table.slice(from, count),
    after: inside(block.after),
    before: inside(block.before),
    beforeKind: block.beforeKind.slice(from, count),
    index: block.index.slice(from, count),
  };
}

/** What is left of them where there is no room: their tables. */
export function withoutRows({ dropped, table, tables, ...rows }: HeldRows): HeldRows {
  const lost = new Set([...dropped, ...Array.from(table, (ordinal) => tables[ordinal]!.id)]);
  return { ...rows, bytes: new Uint8Array(0), count: 0, table: table.subarray(0, 0), tables: [], dropped: lost };
}
