import type { TableWrites } from "../../core/model/batch.ts";
import { type Block, OP_READ } from "../../core/model/block.ts";
import type { Position } from "../../core/model/position.ts";
import { isKeyed, type KeyedTable, type TableVersion } from "../../core/model/schema.ts";
import type { SinkForm } from "../../core/contracts/sink.ts";
import { CommitOrder } from "./commit-order.ts";
import { appendDeferrable, netDeferrable } from "./deferrable-keys.ts";
import { MergedTuples } from "./merged-tuples.ts";
import { TableNet, type UnplacedRow, type UntoldKey } from "./table-net.ts";

/** Rows `from` up to, not including, `to` of a block. */
export interface Slice {
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** Rows of OP_READ that a first copy brings: their keys are new to the sink. */
  readonly fresh?: boolean;
}

export interface Netted {
  /** Those in which something is to be written. */
  readonly tables: readonly TableWrites[];
  /** For a stream: see `Step`. */
  readonly order: Uint16Array | undefined;
  readonly untold: readonly UntoldKey[];
  /** What no target can hold: in none of the tables. */
  readonly unplaced: readonly UnplacedRow[];
  /** Tables of which a row has a null in its key. */
  readonly unkeyed: readonly TableVersion[];
  /** Tables whose changes could not be netted, for a defect: nothing of them is in `tables`. */
  readonly failed: ReadonlyMap<TableVersion, unknown>;
  /** Changes that went in; what came out is the sum of the counts. */
  readonly changeCount: number;
  /** Lets go of the blocks: nothing else of this is used afterwards. */
  readonly release: () => void;
}

/** A table's vectors outlive the batch that grew them only up to this: a source may have thousands of tables. */
const KEPT_ROW_COUNT_MAX = 256;
/** So many tables keep their vectors, beside those of the batch itself. */
const KEPT_TABLE_COUNT_MAX = 64;

/**
 * Nets changes: the last change per key wins and takes over the cells that it left unchanged from the earlier ones,
 * through key changes too (the promise behind `TableWrites`). The caller cuts where a table is truncated, changes its
 * version or is read beside the stream; inside one call neither happens.
 *
 * One instance per sink: its vectors are reused, so a result is valid until it is released, or the next call.
 */
export class Netter {
  readonly #perTable = new Map<TableVersion, TableNet>();
  readonly #merged = new MergedTuples();
  readonly #appends: boolean;
  readonly #order: CommitOrder | null;
  #used: readonly TableNet[] = [];
  #batch = 0;

  /** For a history and a stream every change stays an entry of its own; only unchanged cells are taken from earlier ones. */
  constructor(form: SinkForm = "mirror") {
    this.#appends = form !== "mirror";
    this.#order = form === "stream" ? new CommitOrder() : null;
  }

  /**
   * `since`: where the changes before these ended; null for rows that are not the log's. `complete`: whether the sink holds
   * the table's rows as they were there; where it may hold older ones, no row is completed from another key's row.
   */
  net(
    slices: readonly Slice[],
    wanted: (table: TableVersion) => boolean,
    since: Position | null = null,
    complete: (table: TableVersion) => boolean = () => true,
  ): Netted {
    const failed = new Map<TableVersion, unknown>();
    for (;;) {
      try {
        return { ...this.#net(slices, (table) => !failed.has(table) && wanted(table), since, complete), failed };
      } catch (error) {
        if (!(error instanceof TableFailure)) throw error;
        failed.set(error.table, error.cause);
        this.#perTable.delete(error.table);
      }
    }
  }

  #net(
    slices: readonly Slice[],
    wanted: (table: TableVersion) => boolean,
    since: Position | null,
    complete: (table: TableVersion) => boolean,
  ): Omit<Netted, "failed"> {
    const blocks = slices.map((slice) => slice.block);
    blocks.push(this.#merged.begin(blocks.length));
    const used: TableNet[] = [];
    this.#batch++;
    this.#order?.begin();
    const untold: UntoldKey[] = [];
    let changeCount = 0;
    for (let s = 0; s < slices.length; s++) {
      const slice = slices[s]!;
      const nets = slice.block.tables.map((table) =>
        isKeyed(table) && wanted(table) ? this.#netFor(table, blocks, used, untold) : null,
      );
      changeCount += this.#slice(slice, s, nets, since !== null);
    }
    const settle = this.#appends ? appendDeferrable : netDeferrable;
    const cut = used.some((net) => net.table.deferrableKey) ? cutTransactions(slices, since) : new Set<bigint>();
    const unplaced: UnplacedRow[] = [];
    const finished = used.map((net) =>
      inTable(net.table, () => {
        if (net.table.deferrableKey) settle(net, cut);
        unplaced.push(...net.unplaced());
        return net.finish(complete(net.table));
      }),
    );
    this.#forget(used);
    const unkeyed = used.filter((net) => net.isUnkeyed).map(({ table }) => table);
    const tables = finished.filter((writes) => writes.count > 0);
    return {
      tables,
      order: this.#order?.of(used.flatMap((net, i) => (finished[i]!.count > 0 ? [net.numbers] : []))),
      untold,
      unplaced,
      unkeyed,
      changeCount,
      release: () => this.#release(used),
    };
  }

  /** Returns how many changes went in. */
  #slice({ block, from, to, fresh }: Slice, s: number, nets: readonly (TableNet | null)[], isLog: boolean): number {
    let changeCount = 0;
    let row = from;
    try {
      for (; row < to; row++) {
        const net = nets[block.table[row]!]!;
        if (net === null) continue;
        changeCount++;
        this.#order?.next();
        // What was read says itself which row a key is of.
        if (net.table.unenforcedKey === true && isLog && net.isUntoldByKey(s, row)) continue;
        if (isPostponed(net.table, this.#appends) && block.op[row] !== OP_READ) net.postpone(s, row);
        else net.change(s, row, fresh === true);
      }
    } catch (error) {
      throw new TableFailure(block.tables[block.table[row]!]!, error);
    }
    return changeCount;
  }

  /** A batch of thousands of tables would stay until the next one comes, and that may be long. */
  #release(used: readonly TableNet[]): void {
    if (used !== this.#used) return;
    for (const net of used) net.end();
    if (used.length <= KEPT_TABLE_COUNT_MAX) return;
    this.#perTable.clear();
    this.#used = [];
  }

  /** Of the tables that are not in this batch. */
  #forget(used: readonly TableNet[]): void {
    for (const net of this.#used) {
      if (net.capacity > KEPT_ROW_COUNT_MAX && net.batch !== this.#batch) this.#perTable.delete(net.table);
    }
    this.#used = used;
    if (this.#perTable.size <= KEPT_TABLE_COUNT_MAX) return;
    for (const [table, net] of this.#perTable) if (net.batch !== this.#batch) this.#perTable.delete(table);
  }

  #netFor(table: KeyedTable, blocks: readonly Block[], used: TableNet[], untold: UntoldKey[]): TableNet {
    let net = this.#perTable.get(table);
    if (net === undefined) {
      net = inTable(table, () => new TableNet(table, this.#merged, this.#appends, this.#order));
      this.#perTable.set(table, net);
    }
    if (net.batch !== this.#batch) {
      used.push(net);
      net.begin(this.#batch, blocks, untold);
    }
    return net;
  }
}

/** What went wrong with the changes of one table alone. */
class TableFailure extends Error {
  readonly table: TableVersion;

  constructor(table: TableVersion, cause: unknown) {
    super(`the changes of ${table.id} could not be netted`, { cause });
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

/** An unenforced key: what its own updates leave open is read from the source. A history wants every change. */
function isPostponed({ deferrableKey, unenforcedKey }: TableVersion, appends: boolean): boolean {
  return deferrableKey && (appends || unenforcedKey !== true);
}

/** Commit positions of the transactions of which a batch holds only a part: at most its first and its last. */
function cutTransactions(slices: readonly Slice[], since: Position | null): ReadonlySet<bigint> {
  const cut = new Set<bigint>();
  const last = slices.at(-1);
  const end = last?.block.positionAt(last.to) ?? null;
  for (const position of [since, end]) if (position !== null && position.index > 0) cut.add(position.commit);
  return cut;
}
