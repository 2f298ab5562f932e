import { becomesDeadLetter, DELETE, isDoubted, PATCH, PUT, type TableWrites } from "../../core/model/batch.ts";
import {
  BEFORE_DOUBTED,
  BEFORE_FULL,
  BEFORE_NONE,
  Block,
  isUntold,
  isUpdate,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_IF_HELD,
  OP_KEPT,
  OP_READ,
} from "../../core/model/block.ts";
import type { ReadersHold } from "../../core/contracts/sink.ts";
import { invariant } from "../../core/invariant.ts";
import { hasKeyDates, hasWholeKey, mayLackKeyDates } from "../../core/model/row-id.ts";
import type { KeyedTable, TableVersion } from "../../core/model/schema.ts";
import {
  type FailedCell,
  failedCell,
  isComputed,
  CELL_BINARY,
  CELL_NULL,
  CELL_TEXT,
  CELL_UNCHANGED,
  CellMap,
  hasUnchanged,
  readInt32,
  tupleEnd,
} from "../../core/model/tuple.ts";
import { ByteWriter } from "../../core/bytes.ts";

/** A key whose row the stream alone does not show; it is read from the source. */
export interface UntoldKey {
  readonly table: TableVersion;
  readonly bytes: Uint8Array;
  /** A tuple whose key cells name the row. */
  readonly offset: number;
}

/** A row that no target gets: none can hold its key, or the function of a computed column failed. */
export interface UnplacedRow {
  readonly table: TableVersion;
  readonly block: Block;
  readonly row: number;
  /** The key has no row any more. */
  readonly isGone: boolean;
  /** Null: it is the key. */
  readonly failed: FailedCell | null;
}

/** A change that is compacted after all others: `slice` and `row` name it, `number` is its number in the order of changes. */
interface Postponed {
  readonly slice: number;
  readonly row: number;
  readonly number: number;
}

/**
 * Where the row that a PATCH builds on is in the sink: under its own key, under another key, or under its own key again
 * after the row had left it. In the last case an incremental snapshot may have dropped the row, because the stream had
 * shown it: without a complete copy the row is read again.
 */
const STAYED = 0;
const MOVED = 1;
const RETURNED = 2;
type Whence = typeof STAYED | typeof MOVED | typeof RETURNED;

/** The entries of one table in one batch, and the hash table that finds a key's latest one. */
export class TableCompaction {
  readonly table: KeyedTable;
  readonly #merged: MergedTuples;
  readonly keys: KeyColumns;
  readonly #appends: boolean;
  readonly #order: CommitOrder | null;
  readonly #entries: CompactedEntries;
  /** The number of the present or last batch. */
  batch = 0;
  #blocks: readonly Block[] = [];
  #untold: UntoldKey[] = [];
  #isUnkeyed = false;
  readonly #mayLackKeyDates: boolean;
  readonly #isComputed: boolean;
  #postponed: Postponed[] = [];
  #aliveCount = 0;
  /** Entries below are of rows that a truncate has removed since: no later change takes anything from them. */
  #emptiedBelow = 0;
  #readersHold: ReadersHold = "all";

  /** `appends`: an earlier entry of a key stays besides the later one. `order`: numbers the changes. */
  constructor(table: KeyedTable, merged: MergedTuples, appends: boolean, order: CommitOrder | null) {
    this.#appends = appends;
    this.#order = order;
    this.table = table;
    this.#merged = merged;
    this.keys = new KeyColumns(table);
    this.#entries = new CompactedEntries(this.keys);
    this.#mayLackKeyDates = mayLackKeyDates(table);
    this.#isComputed = isComputed(table);
  }

  /** The rows that this instance has room for, and keeps when it is used again. */
  get capacity(): number {
    return this.#entries.capacity;
  }

  begin(batch: number, blocks: readonly Block[], untold: UntoldKey[], readersHold: ReadersHold = "all"): void {
    this.batch = batch;
    this.#readersHold = readersHold;
    this.#entries.begin(blocks);
    this.#blocks = blocks;
    this.#untold = untold;
    this.#isUnkeyed = false;
    this.#postponed = [];
    this.#emptiedBelow = 0;
  }

  /** The table is emptied here. */
  empty(): void {
    this.#emptiedBelow = this.#entries.count;
  }

  /** The result is not used any more. */
  end(): void {
    this.#blocks = [];
    this.#entries.end();
    this.#untold = [];
    this.#postponed = [];
  }

  postpone(slice: number, row: number): void {
    this.#postponed.push({ slice, row, number: this.#order?.number ?? 0 });
  }

  /** Runs for the postponed changes in order; entries that are made during a change's turn get that change's number. */
  *postponed(): Iterable<Postponed> {
    for (const change of this.#postponed) {
      if (this.#order !== null) this.#order.number = change.number;
      yield change;
    }
  }

  change(b: number, row: number, readIsFresh: boolean): void {
    const block = this.#blocks[b]!;
    const op = block.op[row]!;
    if (op === OP_DELETE) {
      this.#delete(b, row, block);
    } else if (op === OP_CREATE || op === OP_READ) {
      this.put(b, row, op === OP_CREATE || readIsFresh);
    } else if (op === OP_IF_HELD && this.#appends && this.#order === null) {
      this.#ifHeld(b, row, block);
    } else if (isUntold(op)) {
      this.#untoldRow(b, row, block);
    } else {
      this.#update(b, row, block);
    }
  }

  /**
   * For keys that only the configuration declares unique. True: the change is dealt with. Before and after the change,
   * another row may have the key. Therefore the key is read from the source; that read also finds two rows with one key. A
   * sink that appends needs every change.
   */
  isUntoldByKey(b: number, row: number): boolean {
    const { op, bytes, before, after } = this.#blocks[b]!;
    const older = before[row]!;
    const newer = after[row]!;
    if (newer !== NO_TUPLE && !hasWholeKey(this.table, bytes, newer)) {
      this.#isUnkeyed = true;
      return true;
    }
    if (this.#appends || op[row] === OP_READ) return false;
    const isGone = older !== NO_TUPLE && (newer === NO_TUPLE || !this.keys.equal(bytes, older, bytes, newer));
    if (!isGone && isUpdate(op[row]!)) return false;
    if (isGone && hasWholeKey(this.table, bytes, older)) this.giveUpOld(b, row);
    if (newer !== NO_TUPLE) this.giveUpNew(b, row);
    return true;
  }

  /** A row of the batch has a null in its key, and becomes no entry. */
  get isUnkeyed(): boolean {
    return this.#isUnkeyed;
  }

  /**
   * Invariant: what a filter left out all along is not told. A history is asked whether it has the key, by a read that
   * finds the row gone. A stream can't be asked.
   */
  #delete(b: number, row: number, block: Block): void {
    if (this.#order !== null) {
      if (!isDoubted(this.table, block, row)) this.remove(b, row);
    } else if (this.#appends && block.beforeKind[row] === BEFORE_DOUBTED) this.giveUpOld(b, row);
    else this.remove(b, row);
  }

  /** Puts the row under its new key; its tuple is complete. */
  put(b: number, row: number, fresh: boolean): void {
    const block = this.#blocks[b]!;
    this.#add(PUT, b, row, block.bytes, block.after[row]!, fresh, STAYED);
  }

  #untoldRow(b: number, row: number, { bytes, before, after }: Block): void {
    const old = before[row]!;
    this.giveUpNew(b, row);
    if (old !== NO_TUPLE && !this.keys.equal(bytes, old, bytes, after[row]!)) this.remove(b, row);
  }

  /** Of a history: what the row is before the change, the batch tells, or the target. */
  #ifHeld(b: number, row: number, { bytes, after }: Block): void {
    const entries = this.#entries;
    const offset = after[row]!;
    const earlier = this.#earlier(bytes, offset);
    if (earlier === NONE) this.#add(PATCH, b, row, bytes, offset, false, STAYED);
    else if (entries.alive[earlier] === 0 || entries.action[earlier] === DELETE || entries.moved[earlier] !== STAYED)
      this.giveUpNew(b, row);
    else {
      const block = this.#blocks[entries.block[earlier]!]!;
      const older = { bytes: block.bytes, offset: block.after[entries.row[earlier]!]! };
      this.#addMerged(this.#merge(this.#blocks[b]!, row, older, null), earlier, STAYED);
    }
  }

  /** Completes an update's new tuple from its full old one. The result is a row to `put`. */
  completed(b: number, row: number): { readonly block: number; readonly row: number } {
    const block = this.#blocks[b]!;
    const { bytes } = block;
    if (block.beforeKind[row] !== BEFORE_FULL || !hasUnchanged(bytes, block.after[row]!)) return { block: b, row };
    const merged = this.#merge(block, row, { bytes, offset: block.before[row]! }, null);
    return { block: this.#merged.ordinal, row: merged.row };
  }

  blockAt(ordinal: number): Block {
    return this.#blocks[ordinal]!;
  }

  /** The row under its old key is gone. */
  remove(b: number, row: number): void {
    const block = this.#blocks[b]!;
    this.#add(DELETE, b, row, block.bytes, block.before[row]!, false, STAYED);
  }

  /** Gives up the key of a row's new tuple: the stream alone does not show its row, so it is read from the source. */
  giveUpNew(b: number, row: number): void {
    this.#giveUp(PUT, b, row, this.#blocks[b]!.after[row]!);
  }

  /** The same for the key of its old tuple. */
  giveUpOld(b: number, row: number): void {
    this.#giveUp(DELETE, b, row, this.#blocks[b]!.before[row]!);
  }

  /** Lists the key of a row's old tuple for a read from the source; the change still becomes an entry. */
  doubtOld(b: number, row: number): void {
    const block = this.#blocks[b]!;
    this.#untold.push({ table: this.table, bytes: block.bytes, offset: block.before[row]! });
  }

  /** Adds an entry that is not alive: later changes of this key in the batch that are not whole are given up too. */
  #giveUp(action: number, b: number, row: number, offset: number): void {
    const { bytes } = this.#blocks[b]!;
    this.#add(action, b, row, bytes, offset, false, STAYED);
    this.#entries.alive[this.#entries.count - 1] = 0;
    this.#untold.push({ table: this.table, bytes, offset });
  }

  #update(b: number, row: number, block: Block): void {
    const { bytes } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const moved = before !== NO_TUPLE && !this.keys.equal(bytes, before, bytes, after);
    const whole = this.completed(b, row);
    if (whole.block !== b || !hasUnchanged(bytes, after)) {
      this.put(whole.block, whole.row, false);
    } else {
      this.#partial(b, row, block, moved);
    }
    if (moved) this.remove(b, row);
  }

  /** An update with unchanged cells: completed from an earlier entry of the batch, or left as a PATCH. */
  #partial(b: number, row: number, block: Block, moved: boolean): void {
    const { bytes } = block;
    const after = block.after[row]!;
    if (this.#readersLack(block, row, moved)) {
      this.giveUpNew(b, row);
      return;
    }
    // A stream has the change as the log has it.
    const earlier = this.#order === null ? this.#earlier(bytes, moved ? block.before[row]! : after) : NONE;
    if (earlier === NONE) {
      this.#add(PATCH, b, row, bytes, after, false, moved ? MOVED : STAYED);
      return;
    }
    const earlierBlock = this.#blocks[this.#entries.block[earlier]!]!;
    const earlierRow = this.#entries.row[earlier]!;
    if (this.#entries.alive[earlier] === 0 || this.#entries.action[earlier] === DELETE) {
      // No log shows this, but it happens after some of a row's changes were skipped.
      if (this.#appends) this.#add(PATCH, b, row, bytes, after, true, STAYED);
      else this.giveUpNew(b, row);
      return;
    }
    const base = this.#baseOf(earlier, moved ? { bytes, offset: block.before[row]! } : null);
    const isBack = base !== null && this.keys.equal(base.bytes, base.offset, bytes, after);
    const isReturned = isBack || (base === null && this.#entries.moved[earlier] === RETURNED);
    const older = { bytes: earlierBlock.bytes, offset: earlierBlock.after[earlierRow]! };
    const merged = this.#merge(block, row, older, isBack ? null : base);
    this.#addMerged(merged, earlier, isReturned ? RETURNED : base === null ? STAYED : MOVED);
  }

  /** The entry of this key that a later change builds on, or NONE. */
  #earlier(bytes: Uint8Array, offset: number): number {
    const entry = this.#entries.latest(bytes, offset);
    return entry < this.#emptiedBelow ? NONE : entry;
  }

  /** Whether a reader of the stream can't complete this change: what it builds on may also be one that was left out just now. */
  #readersLack({ bytes, after }: Block, row: number, moved: boolean): boolean {
    if (this.#readersHold === "all") return false;
    if (moved || this.#readersHold === "none") return true;
    const earlier = this.#entries.latest(bytes, after[row]!);
    return earlier !== NONE && (this.#entries.alive[earlier] === 0 || this.#entries.action[earlier] === DELETE);
  }

  /** The tuple whose key names a PATCH's base, if that is not the entry's own key. */
  #baseOf(entry: number, ownOldKey: Tuple | null): Tuple | null {
    if (this.#entries.action[entry] !== PATCH) return null;
    if (this.#entries.moved[entry] !== MOVED) return ownOldKey;
    const block = this.#blocks[this.#entries.block[entry]!]!;
    return { bytes: block.bytes, offset: block.before[this.#entries.row[entry]!]! };
  }

  #merge(block: Block, row: number, older: Tuple, base: Tuple | null): MergedRow {
    return this.#merged.merge(block, row, { bytes: block.bytes, offset: block.after[row]! }, older, base, this.table);
  }

  #addMerged(merged: MergedRow, earlier: number, moved: Whence): void {
    const ordinal = this.#merged.ordinal;
    const block = this.#blocks[ordinal]!;
    const fresh = earlier !== NONE && this.#entries.fresh[earlier] === 1;
    const action = merged.unresolved ? PATCH : PUT;
    this.#add(
      action,
      ordinal,
      merged.row,
      block.bytes,
      block.after[merged.row]!,
      fresh,
      merged.unresolved ? moved : STAYED,
    );
  }

  /** A new entry for a key replaces the earlier one, at the end of the order. */
  #add(action: number, b: number, row: number, bytes: Uint8Array, offset: number, fresh: boolean, moved: Whence): void {
    const entries = this.#entries;
    const other = entries.add(action, b, row, bytes, offset);
    const entry = entries.count - 1;
    entries.moved[entry] = moved;
    entries.fresh[entry] = fresh ? 1 : 0;
    if (this.#order !== null) entries.number[entry] = this.#order.number;
    if (other === NONE || this.#appends) return;
    // The first change of a key in this batch shows what the key was before the batch.
    entries.fresh[entry] = entries.fresh[other]!;
    entries.alive[other] = 0;
  }

  /** Removes the entries that no target gets. Before `finish`. */
  unplaced(): readonly UnplacedRow[] {
    const rows: UnplacedRow[] = [];
    if (!this.#mayLackKeyDates && !this.#isComputed) return rows;
    const { count, alive, action, fresh, block: blockOf, row: rowOf } = this.#entries;
    const entries = { action, fresh, block: blockOf, row: rowOf, blocks: this.#blocks };
    for (let i = 0; i < count; i++) {
      if (alive[i] === 0) continue;
      const block = this.#blocks[blockOf[i]!]!;
      const row = rowOf[i]!;
      const isGone = action[i] === DELETE;
      const offset = isGone ? block.before[row]! : block.after[row]!;
      const failed = isGone || !this.#isComputed ? null : failedCell(this.table, block.bytes, offset);
      if (failed === null && (!this.#mayLackKeyDates || hasKeyDates(this.table, block.bytes, offset))) continue;
      alive[i] = 0;
      if (becomesDeadLetter(entries, i)) rows.push({ table: this.table, block, row, isGone, failed });
      else this.#untold.push({ table: this.table, bytes: block.bytes, offset });
    }
    return rows;
  }

  /** `movable`: a row may be completed from the row that the sink holds under another key. */
  finish(movable: boolean): TableWrites {
    if (this.#order !== null) this.#listEntered();
    else if (!this.#appends) this.#dropUnusableBases(movable);
    const entries = this.#entries;
    const { action, block, row, fresh, moved } = entries;
    const count = (this.#aliveCount = entries.compact());
    let deleteCount = 0;
    let patchCount = 0;
    for (let i = 0; i < count; i++) {
      if (action[i] === DELETE) {
        deleteCount++;
        fresh[i] = 0;
      } else if (action[i] === PATCH) patchCount++;
      moved[i] = moved[i] === MOVED ? 1 : 0;
    }
    return {
      table: this.table,
      blocks: this.#blocks,
      count,
      action,
      block,
      row,
      fresh,
      moved,
      deleteCount,
      patchCount,
    };
  }

  /** After `finish`, only for a stream: the change number of each entry. */
  get numbers(): Uint32Array {
    return this.#entries.number.subarray(0, this.#aliveCount);
  }

  /**
   * A PATCH whose base another entry overwrites can't be repeated after a crash between the two: its key is read from the
   * source.
   */
  #dropUnusableBases(movable: boolean): void {
    for (let i = 0; i < this.#entries.count; i++) {
      if (this.#entries.alive[i] === 0 || this.#entries.moved[i] === STAYED) continue;
      const block = this.#blocks[this.#entries.block[i]!]!;
      const row = this.#entries.row[i]!;
      if (movable && (this.#entries.moved[i] === RETURNED || this.#hasLeft(block.bytes, block.before[row]!))) continue;
      this.#entries.alive[i] = 0;
      this.#untold.push({ table: this.table, bytes: block.bytes, offset: block.after[row]! });
    }
  }

  /**
   * A stream does not say that its readers lack the row that a PATCH builds on. If the rules may have left that row out, its
   * key is read from the source as well.
   */
  #listEntered(): void {
    const { ruled } = this.table;
    if (ruled?.filtered !== true) return;
    for (let i = 0; i < this.#entries.count; i++) {
      const stays = this.#entries.moved[i] === STAYED && ruled.filteredByKey === true;
      if (this.#entries.action[i] !== PATCH || stays) continue;
      const block = this.#blocks[this.#entries.block[i]!]!;
      const row = this.#entries.row[i]!;
      if (block.op[row] === OP_KEPT) continue;
      this.#untold.push({ table: this.table, bytes: block.bytes, offset: block.after[row]! });
    }
  }

  /** Whether the row under this key is only removed: until then, what the sink holds there can be read as a base. */
  #hasLeft(bytes: Uint8Array, offset: number): boolean {
    const base = this.#entries.latest(bytes, offset);
    invariant(base !== NONE, "a moved row's old key has an entry");
    return this.#entries.action[base] === DELETE && this.#entries.alive[base] === 1;
  }
}

/** Numbers the changes of a batch in the order of the log, and puts the entries of all tables into that order. */
export class CommitOrder {
  /** The number of the change that is being compacted, from 1. */
  number = 0;
  #count = 0;

  begin(): void {
    this.number = this.#count = 0;
  }

  next(): void {
    this.number = ++this.#count;
  }

  /**
   * Takes, for each table, the change numbers of its entries in ascending order. Returns for each entry of the batch the
   * index of its table.
   */
  of(tables: readonly Uint32Array[]): Uint16Array {
    // All entries of one change belong to one table.
    const owner = new Uint16Array(this.#count + 1);
    const times = new Uint8Array(this.#count + 1);
    let total = 0;
    for (const [table, numbers] of tables.entries()) {
      total += numbers.length;
      for (const number of numbers) {
        owner[number] = table;
        times[number]!++;
      }
    }
    const order = new Uint16Array(total);
    let at = 0;
    for (let number = 1; number <= this.#count; number++) {
      for (let i = times[number]!; i > 0; i--) order[at++] = owner[number]!;
    }
    return order;
  }
}

interface Tuple {
  readonly bytes: Uint8Array;
  readonly offset: number;
}

interface MergedRow {
  readonly row: number;
  readonly unresolved: boolean;
}

/** A buffer that a few very large rows made larger than this is not kept. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/** The block into which merged tuples are written: the last one of a batch. */
export class MergedTuples {
  #writer = new ByteWriter(4096);
  readonly #block = new Block(this.#writer.bytes);
  readonly #keepsBefore: boolean;
  ordinal = 0;

  /** `keepsBefore`: a merged row also has the old tuple of its change, as the log has it. */
  constructor(keepsBefore: boolean) {
    this.#keepsBefore = keepsBefore;
  }

  begin(ordinal: number): Block {
    this.ordinal = ordinal;
    if (this.#writer.bytes.length > KEPT_BYTES_MAX) this.#writer = new ByteWriter(4096);
    this.#writer.reset();
    this.#block.reset(this.#writer.bytes);
    return this.#block;
  }

  /** Adds a row that merges two tuples under `origin`'s operation and transaction; returns its ordinal. */
  merge(origin: Block, row: number, newer: Tuple, older: Tuple, base: Tuple | null, table: TableVersion): MergedRow {
    const after = this.#writer.length;
    const unresolved = mergeTuples(this.#writer, newer.bytes, newer.offset, older.bytes, older.offset);
    const own = this.#keepsBefore ? origin.before[row]! : NO_TUPLE;
    const isOwn = own !== NO_TUPLE;
    const kept = isOwn ? { bytes: origin.bytes, offset: own } : unresolved ? base : null;
    const before = kept === null ? NO_TUPLE : this.#writer.length;
    if (kept !== null) this.#writer.copy(kept.bytes, kept.offset, tupleEnd(kept.bytes, kept.offset) - kept.offset);
    const block = this.#block;
    block.bytes = this.#writer.bytes;
    block.until = origin.until;
    let ordinal = block.tables.indexOf(table);
    if (ordinal < 0) ordinal = block.tables.push(table) - 1;
    const from = origin.transactions;
    const t = origin.tx[row]!;
    const tx = block.transactions.add(from.commit[t]!, from.version[t]!, from.commitTimeUs[t]!, from.xid[t]!);
    if (from.origins[t] !== undefined) block.transactions.origins[tx] = from.origins[t];
    const beforeKind = isOwn ? origin.beforeKind[row]! : BEFORE_NONE;
    block.append(origin.op[row]!, ordinal, after, before, beforeKind, tx, origin.index[row]!);
    return { row: block.count - 1, unresolved };
  }
}

const newer = new CellMap();
const older = new CellMap();

/**
 * Writes the newer tuple with its unchanged cells taken from the older one, and returns whether any is still unchanged.
 * Both are tuples of the same table version.
 */
export function mergeTuples(
  out: ByteWriter,
  newerBytes: Uint8Array,
  newerOffset: number,
  olderBytes: Uint8Array,
  olderOffset: number,
): boolean {
  newer.read(newerBytes, newerOffset);
  older.read(olderBytes, olderOffset);
  let unresolved = false;
  out.byte(newer.count >> 8);
  out.byte(newer.count & 0xff);
  for (let i = 0; i < newer.count; i++) {
    const takeOlder = newer.kind[i] === CELL_UNCHANGED && i < older.count;
    const cells = takeOlder ? older : newer;
    const kind = cells.kind[i]!;
    out.byte(kind);
    if (kind === CELL_UNCHANGED) unresolved = true;
    else if (kind !== CELL_NULL) {
      // The length is in the four bytes before the cell.
      out.copy(takeOlder ? olderBytes : newerBytes, cells.start[i]! - 4, cells.length[i]! + 4);
    }
  }
  return unresolved;
}

/** Small, because most tables of a batch have few rows, and there may be thousands of tables. */
const ROWS_MIN = 16;

/** No entry. */
const NONE = -1;

/** Entries of one table in one batch as vectors, and the hash table that finds a key's latest one. */
class CompactedEntries {
  readonly #keys: KeyColumns;
  count = 0;
  action = new Uint8Array(ROWS_MIN);
  block = new Uint16Array(ROWS_MIN);
  row = new Uint32Array(ROWS_MIN);
  fresh = new Uint8Array(ROWS_MIN);
  moved = new Uint8Array(ROWS_MIN);
  /** 0: a later entry replaced it, or its key was given up. */
  alive = new Uint8Array(ROWS_MIN);
  /** The number of its change: see CommitOrder. */
  number = new Uint32Array(ROWS_MIN);
  #hash = new Int32Array(ROWS_MIN);
  /** Open addressing, linear probing: entry ordinal + 1, 0 where free. At least twice the entries. */
  #slots = new Int32Array(4 * ROWS_MIN);
  #blocks: readonly Block[] = [];

  constructor(keys: KeyColumns) {
    this.#keys = keys;
  }

  /** The rows that this instance has room for, and keeps when it is used again. */
  get capacity(): number {
    return this.action.length;
  }

  begin(blocks: readonly Block[]): void {
    this.#clearSlots();
    this.#blocks = blocks;
    this.count = 0;
  }

  end(): void {
    this.#blocks = [];
  }

  /** After a large batch the hash table is large: a small batch clears only the parts that it filled. */
  #clearSlots(): void {
    const slots = this.#slots;
    if (this.count * 8 > slots.length) {
      slots.fill(0);
      return;
    }
    const mask = slots.length - 1;
    for (let i = 0; i < this.count; i++) {
      for (let slot = this.#hash[i]! & mask; slots[slot] !== 0; slot = (slot + 1) & mask) slots[slot] = 0;
    }
  }

  /** Adds an entry, the latest of its key. Returns the previous latest one, or NONE. */
  add(action: number, b: number, row: number, bytes: Uint8Array, offset: number): number {
    if (this.count === this.action.length) this.#grow();
    const hash = this.#keys.hash(bytes, offset);
    const entry = this.count++;
    this.action[entry] = action;
    this.block[entry] = b;
    this.row[entry] = row;
    this.alive[entry] = 1;
    this.#hash[entry] = hash;
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const other = this.#slots[slot]! - 1;
      if (other !== NONE && (this.#hash[other] !== hash || !this.#hasKey(other, bytes, offset))) continue;
      this.#slots[slot] = entry + 1;
      return other;
    }
  }

  /** The latest entry of a key, or NONE. It is not alive if the key was given up. */
  latest(bytes: Uint8Array, offset: number): number {
    const hash = this.#keys.hash(bytes, offset);
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot]! - 1;
      if (entry === NONE) return NONE;
      if (this.#hash[entry] === hash && this.#hasKey(entry, bytes, offset)) return entry;
    }
  }

  #hasKey(entry: number, bytes: Uint8Array, offset: number): boolean {
    const block = this.#blocks[this.block[entry]!]!;
    const row = this.row[entry]!;
    const own = this.action[entry] === DELETE ? block.before[row]! : block.after[row]!;
    return this.#keys.equal(block.bytes, own, bytes, offset);
  }

  /**
   * Moves the entries that are alive to the front of the vectors, and returns their number. Keys can't be looked up
   * afterwards.
   */
  compact(): number {
    let count = 0;
    for (let i = 0; i < this.count; i++) {
      if (this.alive[i] === 0) continue;
      this.action[count] = this.action[i]!;
      this.block[count] = this.block[i]!;
      this.row[count] = this.row[i]!;
      this.fresh[count] = this.fresh[i]!;
      this.moved[count] = this.moved[i]!;
      this.number[count] = this.number[i]!;
      count++;
    }
    return count;
  }

  #grow(): void {
    const size = this.action.length * 2;
    this.action = grown(this.action, new Uint8Array(size));
    this.block = grown(this.block, new Uint16Array(size));
    this.row = grown(this.row, new Uint32Array(size));
    this.fresh = grown(this.fresh, new Uint8Array(size));
    this.moved = grown(this.moved, new Uint8Array(size));
    this.alive = grown(this.alive, new Uint8Array(size));
    this.number = grown(this.number, new Uint32Array(size));
    this.#hash = grown(this.#hash, new Int32Array(size));
    const slots = new Int32Array(size * 4);
    const mask = slots.length - 1;
    for (const taken of this.#slots) {
      if (taken === 0) continue;
      let slot = this.#hash[taken - 1]! & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = taken;
    }
    this.#slots = slots;
  }
}

function grown<T extends { set(source: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}

/**
 * Compares keys as bytes in tuples, without decoding. In one stream, tuples with the same key have the same bytes for it.
 * Values that are equal but have different bytes (numeric 1.0 and 1.00) count as two keys, as they do in the source's own
 * log.
 */
class KeyColumns {
  /** 1 at the ordinals of key columns. */
  readonly #mask: Uint8Array;
  readonly #last: number;

  constructor(table: KeyedTable) {
    this.#last = Math.max(...table.key);
    this.#mask = new Uint8Array(this.#last + 1);
    for (const ordinal of table.key) this.#mask[ordinal] = 1;
  }

  /** 32-bit FNV-1a over the key cells. */
  hash(bytes: Uint8Array, offset: number): number {
    const mask = this.#mask;
    const last = this.#last;
    let hash = 0x811c9dc5;
    let at = offset + 2;
    for (let i = 0; i <= last; i++) {
      const kind = bytes[at++]!;
      if (kind !== CELL_TEXT && kind !== CELL_BINARY) continue;
      const end = at + 4 + readInt32(bytes, at);
      at += 4;
      if (mask[i] === 1) for (; at < end; at++) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
      else at = end;
    }
    return hash ^ (hash >>> 15);
  }

  /** The key cells as a string: two tuples have the same string exactly if their keys have the same bytes. Not for people. */
  text(bytes: Uint8Array, offset: number): string {
    let text = "";
    let at = offset + 2;
    for (let i = 0; i <= this.#last; i++) {
      const length = cellLength(bytes, at);
      if (this.#mask[i] === 1) text += Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString("latin1");
      at += length;
    }
    return text;
  }

  equal(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): boolean {
    const last = this.#last;
    let p = aOffset + 2;
    let q = bOffset + 2;
    for (let i = 0; i <= last; i++) {
      const pLength = cellLength(a, p);
      const qLength = cellLength(b, q);
      if (this.#mask[i] === 1) {
        if (pLength !== qLength) return false;
        for (let k = 0; k < pLength; k++) if (a[p + k] !== b[q + k]) return false;
      }
      p += pLength;
      q += qLength;
    }
    return true;
  }
}

function cellLength(bytes: Uint8Array, at: number): number {
  const kind = bytes[at]!;
  return kind === CELL_NULL || kind === CELL_UNCHANGED ? 1 : 5 + readInt32(bytes, at + 1);
}
