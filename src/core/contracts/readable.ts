import type { Column } from "../model/schema.ts";
import type { ColumnType } from "../model/types.ts";
import type { RowName } from "../targets/row-name.ts";
import type { CapturedTables, RefusedTable, TableShape } from "./catalog.ts";
import type { ContentSums, Hashed, KeyText } from "./row-reads.ts";

/**
 * A database that is only read: where rows come from, or a target that another tool fills. It needs nothing of Millrace's, and
 * `millrace verify` compares two of them.
 */
export interface Readable {
  /** `sought`: what they are compared with, for a target that knows no tables. */
  tables(signal: AbortSignal, sought: readonly SoughtTable[]): Promise<ReadableTables>;
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
  /** The rows under these keys, which are texts of `table.key`; or of one part, which is the row's name (`names`). */
  rowsAt(
    table: ReadableTable,
    columns: readonly number[],
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly TextRow[]>;
  close(): Promise<void>;
}

/** `key`: ordinals of the columns by which rows are looked up; empty: whatever the other side's key says. */
export interface ReadableTable extends Pick<TableShape, "id" | "schema" | "table" | "key"> {
  readonly columns: readonly ReadableColumn[];
  /**
   * Of a store that finds a row by one text, as a document by its id: some of these texts, and how all begin. Each row that is
   * read ends with its own.
   */
  readonly names?: { readonly start: string; readonly some: readonly string[] };
}

export interface ReadableColumn extends Pick<Column, "name" | "native"> {
  readonly type: ColumnType | Untyped;
}

/**
 * Texts as a document or a hash holds them, which don't tell their type; of arrays and objects their JSON. `hasNulls` false: an
 * empty text is also how a null is written.
 */
export interface Untyped {
  readonly kind: "untyped";
  readonly hasNulls: boolean;
}

/** A table of the source. `name`: how its rows are named there, where somebody said so. */
export interface SoughtTable extends Pick<ReadableTable, "schema" | "table"> {
  readonly key: readonly ReadableColumn[];
  readonly name: RowName | null;
}

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
