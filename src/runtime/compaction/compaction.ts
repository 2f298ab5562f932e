import type { TableWrites } from "../../core/model/batch.ts";
import { type Block, OP_READ } from "../../core/model/block.ts";
import type { Position } from "../../core/model/position.ts";
import { isKeyed, type KeyedTable, type TableVersion } from "../../core/model/schema.ts";
import type { Sink, SinkForm } from "../../core/contracts/sink.ts";
import { CommitOrder, TableCompaction, type UnplacedRow, type UntoldKey } from "./table-compaction.ts";
import { appendDeferrable, compactDeferrable } from "./deferrable-keys.ts";
import { MergedTuples } from "./merged-tuples.ts";

/** Rows `from` up to, not including, `to` of a block. */
export interface Slice {
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** Rows of OP_READ from an initial snapshot: their keys are new to the sink. */
  readonly fresh?: boolean;
  /** Ids of tables that are emptied behind these rows, in the same batch: nothing is left of theirs. */
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
 * stream; none of these happens inside one call. Where a table is truncated it cuts too, or names the table in the slices
 * before (`emptied`).
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
    let changeCount = 0;
    for (let s = 0; s < slices.length; s++) {
      const slice = slices[s]!;
      const compactions = slice.block.tables.map((table) => {
        if (isKeyed(table) && wanted(table))
          return slice.emptied?.has(table.id) === true ? null : this.#compactFor(table, blocks, used, untold);
        skipped.add(table);
        return null;
      });
      changeCount += this.#slice(slice, s, compactions, since !== null);
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
