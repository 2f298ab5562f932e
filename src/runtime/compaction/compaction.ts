import type { TableWrites } from "../../core/model/batch.ts";
import { type Block, NO_TUPLE, OP_DELETE, OP_READ } from "../../core/model/block.ts";
import type { Position } from "../../core/model/position.ts";
import { isKeyed, type KeyedTable, type TableVersion } from "../../core/model/schema.ts";
import type { Sink, SinkForm } from "../../core/contracts/sink.ts";
import { CommitOrder, MergedTuples, TableCompaction, type UnplacedRow, type UntoldKey } from "./table-compaction.ts";
import { tupleEnd } from "../../core/model/tuple.ts";

/** Rows `from` up to, not including, `to` of a block. */
export interface Slice {
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** Rows of OP_READ from an initial snapshot: their keys are new to the sink. */
  readonly fresh?: boolean;
  /** Ids of tables that are emptied right behind these rows, in the same batch. */
  readonly emptied?: ReadonlySet<string>;
}

export interface Compacted {
  /** The tables with something to write. */
  readonly tables: readonly TableWrites[];
  /** Only for a stream: see `Batch`. */
  readonly order: Uint16Array | undefined;
  readonly untold: readonly UntoldKey[];
  /** Rows that no target can hold; they are in none of the tables. */
  readonly unplaced: readonly UnplacedRow[];
  /** Tables of the blocks whose rows are in none of the tables, because they are not wanted or have no key. */
  readonly skipped: ReadonlySet<TableVersion>;
  /** Tables with a row that has a null in its key. */
  readonly unkeyed: readonly TableVersion[];
  /** Tables whose changes could not be compacted because of a defect; `tables` has nothing of them. */
  readonly failed: ReadonlyMap<TableVersion, unknown>;
  /** The number of changes that went in. The number that came out is the sum of the counts. */
  readonly changeCount: number;
  /** Releases the blocks; nothing else of this may be used afterwards. */
  readonly release: () => void;
}

/** A table keeps its vectors after a batch only up to this size: a source may have thousands of tables. */
const KEPT_ROW_COUNT_MAX = 256;
/** The number of tables that keep their vectors, besides those of the batch itself. */
const KEPT_TABLE_COUNT_MAX = 64;

/**
 * Compacts changes: the last change per key wins, and takes the cells that it left unchanged from the earlier ones, across key
 * changes too (the guarantee of `TableWrites`). The caller cuts where a table changes its version or is read beside the
 * stream; none of these happens inside one call. Where a table is truncated it cuts too, or names the table in the slice
 * before (`emptied`): a mirror has nothing of the rows up to there, and what comes behind takes no cells from them.
 *
 * One instance per sink. Its vectors are reused, so a result is valid until it is released, or until the next call.
 */
export class Compactor {
  readonly #perTable = new Map<TableVersion, TableCompaction>();
  readonly #merged: MergedTuples;
  readonly #appends: boolean;
  readonly #order: CommitOrder | null;
  readonly #sink: Pick<Sink, "readersHold">;
  #used: readonly TableCompaction[] = [];
  #batch = 0;

  /**
   * For a history and a stream every change stays its own entry. In a history unchanged cells are taken from earlier ones; a
   * stream passes on what the log has, however it is cut into batches, unless its readers can't complete it.
   */
  constructor(form: SinkForm = "mirror", sink: Pick<Sink, "readersHold"> = {}) {
    this.#sink = sink;
    this.#merged = new MergedTuples(form === "stream");
    this.#appends = form !== "mirror";
    this.#order = form === "stream" ? new CommitOrder() : null;
  }

  /**
   * `since`: where the changes before these ended; null for rows that do not come from the log. `complete`: whether the
   * sink holds the table's rows as they were at `since`. If it may hold older ones, no row is completed from the row of
   * another key.
   */
  compact(
    slices: readonly Slice[],
    wanted: (table: TableVersion) => boolean,
    since: Position | null = null,
    complete: (table: TableVersion) => boolean = () => true,
  ): Compacted {
    const failed = new Map<TableVersion, unknown>();
    for (;;) {
      try {
        return { ...this.#compact(slices, (table) => !failed.has(table) && wanted(table), since, complete), failed };
      } catch (error) {
        if (!(error instanceof TableFailure)) throw error;
        failed.set(error.table, error.cause);
        this.#perTable.delete(error.table);
      }
    }
  }

  #compact(
    slices: readonly Slice[],
    wanted: (table: TableVersion) => boolean,
    since: Position | null,
    complete: (table: TableVersion) => boolean,
  ): Omit<Compacted, "failed"> {
    const blocks = slices.map((slice) => slice.block);
    blocks.push(this.#merged.begin(blocks.length));
    const used: TableCompaction[] = [];
    this.#batch++;
    this.#order?.begin();
    const untold: UntoldKey[] = [];
    const skipped = new Set<TableVersion>();
    /** Of a mirror, by table: the last slice of which nothing is left. */
    const gone = this.#appends ? new Map<string, number>() : lastEmptied(slices);
    let changeCount = 0;
    for (let s = 0; s < slices.length; s++) {
      const slice = slices[s]!;
      const compactions = slice.block.tables.map((table) => {
        if (isKeyed(table) && wanted(table))
          return s <= (gone.get(table.id) ?? -1) ? null : this.#compactFor(table, blocks, used, untold);
        skipped.add(table);
        return null;
      });
      changeCount += this.#slice(slice, s, compactions, since !== null);
      const { emptied } = slice;
      if (emptied !== undefined) for (const compact of used) if (emptied.has(compact.table.id)) compact.empty();
    }
    const compactedKeys = this.#appends ? appendDeferrable : compactDeferrable;
    const cut = used.some((compact) => compact.table.deferrableKey)
      ? cutTransactions(slices, since)
      : new Set<bigint>();
    const unplaced: UnplacedRow[] = [];
    const finished = used.map((compact) =>
      inTable(compact.table, () => {
        if (compact.table.deferrableKey) compactedKeys(compact, cut);
        unplaced.push(...compact.unplaced());
        return compact.finish(complete(compact.table));
      }),
    );
    this.#forget(used);
    const unkeyed = used.filter((compact) => compact.isUnkeyed).map(({ table }) => table);
    const tables = finished.filter((writes) => writes.count > 0);
    return {
      tables,
      order: this.#order?.of(used.flatMap((compact, i) => (finished[i]!.count > 0 ? [compact.numbers] : []))),
      untold,
      unplaced,
      skipped,
      unkeyed,
      changeCount,
      release: () => this.#release(used),
    };
  }

  /** Returns how many changes went in. */
  #slice(
    { block, from, to, fresh }: Slice,
    s: number,
    compactions: readonly (TableCompaction | null)[],
    isLog: boolean,
  ): number {
    let changeCount = 0;
    let row = from;
    try {
      for (; row < to; row++) {
        const compact = compactions[block.table[row]!]!;
        if (compact === null) continue;
        changeCount++;
        this.#order?.next();
        // A row that was read shows its own key.
        if (compact.table.unenforcedKey === true && isLog && compact.isUntoldByKey(s, row)) continue;
        if (isPostponed(compact.table, this.#appends) && block.op[row] !== OP_READ) compact.postpone(s, row);
        else compact.change(s, row, fresh === true);
      }
    } catch (error) {
      throw new TableFailure(block.tables[block.table[row]!]!, error);
    }
    return changeCount;
  }

  /** Otherwise the vectors of a batch with thousands of tables would stay in memory until the next batch. */
  #release(used: readonly TableCompaction[]): void {
    if (used !== this.#used) return;
    for (const compact of used) compact.end();
    if (used.length <= KEPT_TABLE_COUNT_MAX) return;
    this.#perTable.clear();
    this.#used = [];
  }

  /** Forgets tables that are not in this batch. */
  #forget(used: readonly TableCompaction[]): void {
    for (const compact of this.#used) {
      if (compact.capacity > KEPT_ROW_COUNT_MAX && compact.batch !== this.#batch) this.#perTable.delete(compact.table);
    }
    this.#used = used;
    if (this.#perTable.size <= KEPT_TABLE_COUNT_MAX) return;
    for (const [table, compact] of this.#perTable) if (compact.batch !== this.#batch) this.#perTable.delete(table);
  }

  #compactFor(
    table: KeyedTable,
    blocks: readonly Block[],
    used: TableCompaction[],
    untold: UntoldKey[],
  ): TableCompaction {
    let compact = this.#perTable.get(table);
    if (compact === undefined) {
      compact = inTable(table, () => new TableCompaction(table, this.#merged, this.#appends, this.#order));
      this.#perTable.set(table, compact);
    }
    if (compact.batch !== this.#batch) {
      used.push(compact);
      compact.begin(this.#batch, blocks, untold, this.#sink.readersHold?.(table));
    }
    return compact;
  }
}

/** By table: behind which slice it is emptied last. */
function lastEmptied(slices: readonly Slice[]): ReadonlyMap<string, number> {
  return new Map(slices.flatMap(({ emptied }, s) => Array.from(emptied ?? [], (id) => [id, s] as const)));
}

/** An error in the changes of one table alone. */
class TableFailure extends Error {
  readonly table: TableVersion;

  constructor(table: TableVersion, cause: unknown) {
    super(`the changes of ${table.id} could not be compacted`, { cause });
    this.table = table;
  }
}

function inTable<T>(table: TableVersion, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new TableFailure(table, error);
  }
}

/** An unenforced key: if its own updates leave something open, the source is read. A history needs every change. */
function isPostponed({ deferrableKey, unenforcedKey }: TableVersion, appends: boolean): boolean {
  return deferrableKey && (appends || unenforcedKey !== true);
}

/** Commit positions of the transactions that are only partly in a batch: at most its first and its last. */
function cutTransactions(slices: readonly Slice[], since: Position | null): ReadonlySet<bigint> {
  const cut = new Set<bigint>();
  const last = slices.at(-1);
  const end = last?.block.positionAt(last.to) ?? null;
  for (const position of [since, end]) if (position !== null && position.index > 0) cut.add(position.commit);
  return cut;
}

interface Row {
  readonly block: number;
  readonly row: number;
}

/** The rows that have one key while a transaction runs, besides the row from before the transaction. */
interface KeyRows {
  readonly puts: Row[];
  /** The change that removed the row from before the transaction. */
  removal: Row | null;
}

/**
 * Compacts the changes of tables whose key is checked at commit. Inside a transaction such a key may have two rows, the earlier
 * one and a new one (two rows that swap their keys), so "the last change wins" would delete the wrong one. Therefore a
 * removal cancels the put of this transaction that equals its old row, or else removes the earlier row. Old rows are
 * complete: Postgres publishes updates of such tables only under REPLICA IDENTITY FULL.
 *
 * If the batch holds only a part of a transaction, its changes can't be compacted; their keys are read from the source.
 */
function compactDeferrable(compact: TableCompaction, cut: ReadonlySet<bigint>): void {
  let keys = new Map<string, KeyRows>();
  let current: bigint | null = null;
  for (const { slice, row } of compact.postponed()) {
    const block = compact.blockAt(slice);
    const commit = block.transactions.commit[block.tx[row]!]!;
    if (commit !== current) {
      writeRows(compact, keys);
      keys = new Map();
      current = commit;
    }
    if (cut.has(commit)) giveUpBoth(compact, slice, row);
    else note(compact, keys, { block: slice, row });
  }
  writeRows(compact, keys);
}

/**
 * For a history: adds the changes of such a table as they are. An update that takes a row away from its key shows the key
 * as left only if no other row of the transaction has it by then. If the last entry of a key may not be the key's row at
 * commit, the key is read from the source.
 */
function appendDeferrable(compact: TableCompaction, cut: ReadonlySet<bigint>): void {
  let keys = new Map<string, KeyRows>();
  let current: bigint | null = null;
  for (const { slice, row } of compact.postponed()) {
    const block = compact.blockAt(slice);
    const commit = block.transactions.commit[block.tx[row]!]!;
    if (commit !== current) keys = new Map();
    current = commit;
    appendOne(compact, keys, { block: slice, row }, cut.has(commit));
  }
}

function appendOne(compact: TableCompaction, keys: Map<string, KeyRows>, change: Row, isCut: boolean): void {
  const block = compact.blockAt(change.block);
  const before = block.before[change.row]!;
  const isDelete = block.op[change.row] === OP_DELETE;
  if (!isDelete) {
    const whole = compact.completed(change.block, change.row);
    const source = compact.blockAt(whole.block);
    const after = source.after[whole.row]!;
    const stays = before === NO_TUPLE || compact.keys.equal(block.bytes, before, source.bytes, after);
    compact.put(whole.block, whole.row, false);
    const rows = rowsOf(keys, compact, source, after);
    if (stays && before !== NO_TUPLE) leave(rows, compact, change);
    rows.puts.push(whole);
    if (stays) return;
  }
  const rows = rowsOf(keys, compact, block, before);
  const own = leave(rows, compact, change);
  const isTaken = rows.puts.length > 0;
  if (isDelete || !isTaken) compact.remove(change.block, change.row);
  // An entry of the key that is not its row: this delete, or the put that it has just cancelled.
  const isLastOther = isTaken && (isDelete || own === rows.puts.length);
  // The earlier row may still exist. In a part of a transaction it is not known which rows there were.
  const mayStay = own >= 0 && rows.removal === null;
  if (isLastOther || mayStay || isCut) compact.doubtOld(change.block, change.row);
}

/**
 * The change takes its old row away from a key: the put of this transaction that equals it, or else the row from before.
 * Returns which put it was, or -1.
 */
function leave(rows: KeyRows, compact: TableCompaction, change: Row): number {
  const block = compact.blockAt(change.block);
  const before = block.before[change.row]!;
  const own = rows.puts.findIndex((put) => sameTuple(block, before, compact.blockAt(put.block), put.row));
  if (own >= 0) rows.puts.splice(own, 1);
  else rows.removal = change;
  return own;
}

function note(compact: TableCompaction, keys: Map<string, KeyRows>, change: Row): void {
  const block = compact.blockAt(change.block);
  const before = block.before[change.row]!;
  if (before !== NO_TUPLE) leave(rowsOf(keys, compact, block, before), compact, change);
  if (block.op[change.row] !== OP_DELETE) {
    const whole = compact.completed(change.block, change.row);
    const source = compact.blockAt(whole.block);
    const rows = rowsOf(keys, compact, source, source.after[whole.row]!);
    rows.puts.push(whole);
  }
}

function writeRows(compact: TableCompaction, keys: ReadonlyMap<string, KeyRows>): void {
  for (const { puts, removal } of keys.values()) {
    const put = puts.at(-1);
    if (put !== undefined) compact.put(put.block, put.row, false);
    else if (removal !== null) compact.remove(removal.block, removal.row);
  }
}

function giveUpBoth(compact: TableCompaction, slice: number, row: number): void {
  const block = compact.blockAt(slice);
  if (block.before[row] !== NO_TUPLE) compact.giveUpOld(slice, row);
  if (block.after[row] !== NO_TUPLE) compact.giveUpNew(slice, row);
}

function rowsOf(keys: Map<string, KeyRows>, compact: TableCompaction, block: Block, offset: number): KeyRows {
  const key = compact.keys.text(block.bytes, offset);
  let rows = keys.get(key);
  if (rows === undefined) keys.set(key, (rows = { puts: [], removal: null }));
  return rows;
}

function sameTuple(block: Block, offset: number, other: Block, otherRow: number): boolean {
  const otherOffset = other.after[otherRow]!;
  const end = tupleEnd(block.bytes, offset);
  const otherEnd = tupleEnd(other.bytes, otherOffset);
  return Buffer.from(block.bytes.buffer, block.bytes.byteOffset + offset, end - offset).equals(
    other.bytes.subarray(otherOffset, otherEnd),
  );
}
