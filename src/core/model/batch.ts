import type { Rename } from "../contracts/change-log.ts";
import type { Checkpoint } from "../checkpoint.ts";
import { BEFORE_DOUBTED, OP_IF_HELD, type Block, type LogMessage, type TransactionOrigin } from "./block.ts";
import type { Position } from "./position.ts";
import type { KeyedTable, TableVersion } from "./schema.ts";

/** Write this row, whole: its new tuple has every cell. */
export const PUT = 0;
/**
 * Write this row, but its new tuple has unchanged cells: take them from the row that the sink holds now. That row has
 * the same key or, if `moved`, the old key (the entry's `before` tuple).
 */
export const PATCH = 1;
/** Remove the row under the key in the entry's `before` tuple. */
export const DELETE = 2;

/**
 * The net effect of a range of the log on one table: at most one PUT or PATCH, or one DELETE, per key. Entries are in
 * the order of their last change. Entry i is row `row[i]` of block `blocks[block[i]]`; its new tuple is at
 * `after[row]`, its old one at `before[row]`; version and commit time are those of its transaction.
 *
 * No PATCH has a base that another entry of the same batch writes (such keys are read again from the source instead),
 * so all bases may be read before anything is written.
 *
 * A history and a stream get every change instead, in the order of the log: a change of the key is a PUT or PATCH under
 * the new key and a DELETE under the old one, both from one row of the block.
 *
 * In a history the unchanged cells of a PATCH are those of the row before the batch, unless the entry is `fresh`. A row
 * that a truncate removed before the change is no such row, even if no later insert of the key is known: a filter may
 * have left that insert out. Some PATCHes are entries only if the row is there (`isIfHeld`).
 *
 * In a stream the unchanged cells are those of the row before the change; the block also has the change's old tuple.
 */
export interface TableWrites {
  readonly table: KeyedTable;
  readonly blocks: readonly Block[];
  readonly count: number;
  readonly action: Uint8Array;
  readonly block: Uint16Array;
  readonly row: Uint32Array;
  /**
   * For a mirror: 1 if the log says that the key did not exist before this batch. A hint for the fast path, never a
   * proof. For a PATCH of a history: 1 if it takes nothing from the row that the sink has. That is an order.
   */
  readonly fresh: Uint8Array;
  /** 1 if a PATCH takes its unchanged cells from the row under its `before` key. */
  readonly moved: Uint8Array;
  /** How many entries are DELETE, and how many PATCH. */
  readonly deleteCount: number;
  readonly patchCount: number;
}

/**
 * Of a change that removes a row: a filter may have left the row out all along, so whoever has no such row is not told of its
 * key. What remembers deletions looks for the row first.
 */
export function isDoubted({ ruled }: TableVersion, { beforeKind, tx, transactions }: Block, row: number): boolean {
  if (beforeKind[row] === BEFORE_DOUBTED) return true;
  // A key that was looked for, and has no row that is wanted.
  return ruled?.filtered === true && transactions.commit[tx[row]!] === 0n;
}

/**
 * Of a history's PATCH: it is an entry only if the history has the row as it was before the batch. Otherwise the sink leaves it out
 * and reports it (`Outcome.incomplete`). A `fresh` one follows a change in the batch that the filter let through.
 */
export function isIfHeld({ action, fresh, blocks, block, row }: Entries, entry: number): boolean {
  return action[entry] === PATCH && fresh[entry] !== 1 && blocks[block[entry]!]!.op[row[entry]!] === OP_IF_HELD;
}

/**
 * Whether the history of the table may lack an insert, because the filter left it out: then the last row of a key may be one that a
 * truncate removed since.
 */
export function mayLackInserts({ ruled }: Pick<TableVersion, "ruled">): boolean {
  return ruled?.filtered === true;
}

/**
 * Whether the entry becomes a dead letter if it is refused. One that `isIfHeld` does not: a dead letter shows the row, and a filter
 * may have left that row out. Its key is read from the source instead.
 */
export function becomesDeadLetter(writes: Entries, entry: number): boolean {
  return !isIfHeld(writes, entry);
}

type Entries = Pick<TableWrites, "action" | "fresh" | "blocks" | "block" | "row">;

/** These entries alone, ascending. */
export function someOf(writes: TableWrites, entries: readonly number[]): TableWrites {
  const action = Uint8Array.from(entries, (i) => writes.action[i]!);
  return {
    table: writes.table,
    blocks: writes.blocks,
    count: entries.length,
    action,
    block: Uint16Array.from(entries, (i) => writes.block[i]!),
    row: Uint32Array.from(entries, (i) => writes.row[i]!),
    fresh: Uint8Array.from(entries, (i) => writes.fresh[i]!),
    moved: Uint8Array.from(entries, (i) => writes.moved[i]!),
    deleteCount: action.filter((one) => one === DELETE).length,
    patchCount: action.filter((one) => one === PATCH).length,
  };
}

/** One unit of work for a sink; afterwards the sink is at `checkpoint`. */
export type Batch =
  | {
      readonly kind: "rows";
      /**
       * Tables to empty before the rows are written, as by a batch of its own; of a history, where its tables were emptied
       * before, between or behind the rows. Only where `Sink.batchLimits` says so.
       */
      readonly truncates?: readonly Truncate[];
      readonly tables: readonly TableWrites[];
      /**
       * For a stream: for each entry, in commit order, the index in `tables` of its table. The entries of one table
       * keep their order.
       */
      readonly order?: Uint16Array | undefined;
      readonly checkpoint: Checkpoint;
    }
  | ({ readonly kind: "truncate"; readonly checkpoint: Checkpoint } & Truncate)
  /** Remove rows that the source no longer has. */
  | { readonly kind: "sweep"; readonly sweeps: readonly Sweep[]; readonly checkpoint: Checkpoint }
  /** Store only the checkpoint; for form `log` with what the log has up to there. */
  | { readonly kind: "checkpoint"; readonly log?: LogStretch; readonly checkpoint: Checkpoint };

/** Remove the table's rows whose version is not above `version`. */
export interface Truncate {
  readonly table: TableVersion;
  readonly version: bigint;
  readonly record?: TruncateInLog;
}

/** A stretch of the log as it is, from `from` up to the batch's checkpoint. */
export interface LogStretch {
  readonly from: Position;
  readonly entries: readonly LogEntry[];
}

export type LogEntry =
  | { readonly kind: "rows"; readonly block: Block; readonly from: number; readonly to: number }
  | {
      readonly kind: "truncate";
      readonly table: TableVersion;
      readonly version: bigint;
      readonly record: TruncateInLog;
    }
  /** A mark of `Watermarks`. */
  | { readonly kind: "mark"; readonly message: Omit<LogMessage, "at"> }
  /** The table's shape, whether or not a row shows it. Rows may be left out under its rules. */
  | { readonly kind: "shape"; readonly table: TableVersion }
  /** Rows of the table changed whose changes are not in these entries, and will not follow. */
  | { readonly kind: "lost"; readonly tableId: string }
  /** Tables or columns have other names from this position on. */
  | { readonly kind: "renamed"; readonly renames: readonly Rename[]; readonly commit: bigint };

/** What the log says of a truncate. */
export interface TruncateInLog {
  /** Its ordinal in its transaction. */
  readonly index: number;
  /** Of the transaction, as `Transactions` has them. */
  readonly commitTimeUs: bigint;
  readonly xid: number;
  readonly origin: TransactionOrigin | undefined;
}

/** The rows of a table whose version is below `below`. */
export interface Sweep {
  readonly table: TableVersion;
  readonly below: bigint;
}

export function tablesOf(batch: Batch): readonly TableVersion[] {
  switch (batch.kind) {
    case "checkpoint":
      return [];
    case "rows": {
      const written = batch.tables.map(({ table }) => table);
      const emptied = (batch.truncates ?? []).map(({ table }) => table);
      return emptied.length === 0 ? written : [...new Set([...emptied, ...written])];
    }
    case "sweep":
      return batch.sweeps.map(({ table }) => table);
    case "truncate":
      return [batch.table];
    default:
      return batch satisfies never;
  }
}
