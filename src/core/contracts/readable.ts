import type { CapturedTables, RefusedTable, TableShape } from "./catalog.ts";
import type { ContentSums, Hashed, KeyText } from "./row-reads.ts";

/**
 * A database that is only read: where rows come from, or a target that another tool fills. It needs nothing of Millrace's, and
 * `millrace verify` compares two of them.
 */
export interface Readable {
  tables(signal: AbortSignal): Promise<ReadableTables>;
  /** As in RowSums. Absent: the server can't add rows up. */
  readonly sums?:
    | {
        forms(table: ReadableTable, columns: readonly number[]): readonly string[];
        of(table: ReadableTable, hashed: Hashed, signal: AbortSignal): Promise<ContentSums>;
      }
    | undefined;
  /**
   * All rows, or those of these buckets of the sums, in parts and in any order. Two parts may show the table at two moments.
   */
  rows(
    table: ReadableTable,
    columns: readonly number[],
    signal: AbortSignal,
    within?: Within,
  ): AsyncIterable<readonly TextRow[]>;
  /** The rows under these keys, which are texts of `table.key`. */
  rowsAt(
    table: ReadableTable,
    columns: readonly number[],
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly TextRow[]>;
  close(): Promise<void>;
}

/** `key`: ordinals of the columns by which rows are looked up; empty: whatever the other side's key says. */
export type ReadableTable = Pick<TableShape, "id" | "schema" | "table" | "columns" | "key">;

export interface ReadableTables {
  readonly tables: readonly ReadableTable[];
  readonly refused: readonly Pick<RefusedTable, "id" | "reason" | "isCopy">[];
  /** See CapturedTables. */
  readonly besides?: CapturedTables["besides"];
}

/** Rows of these buckets of the sums in this form. */
export interface Within {
  readonly form: string;
  readonly buckets: readonly number[];
}

/** The values of the wanted columns, in their canonical text form (core/values/text.ts). */
export type TextRow = readonly (string | null)[];
