import type { ErrorCode } from "../errors.ts";
import type { TableVersion } from "../model/schema.ts";
import type { LogIdentity } from "./positions.ts";

/**
 * The captured tables. The catalogue shows the present, at no position of the log. What it said before a mark was
 * written (`Watermarks.renew`), and still says after the stream has passed the mark, is valid there. A table that can't
 * be captured is listed with the reason, never silently omitted.
 */
export interface Catalog {
  /**
   * The captured tables in the present catalogue, and those that can't be captured with the reason. `known`: tables that were
   * captured before. One of them that the server hides because a privilege was revoked is refused, as it is not dropped.
   */
  readonly tables: (signal: AbortSignal, known?: readonly NamedTable[]) => Promise<CapturedTables>;
  /**
   * Makes the source publish exactly the wanted tables. To read an added table, first wait with `settle`. `onChange`
   * gets the new identity to store, as soon as it changes, and is awaited.
   */
  readonly publish: (onChange: (identity: LogIdentity) => Promise<void>, signal: AbortSignal) => Promise<void>;
  /**
   * How many rows these tables have by the server's own statistics, by table id; nothing is counted. A table of which it
   * has none is left out. Absent: the source has no statistics.
   */
  readonly estimates?: (tables: readonly NamedTable[], signal: AbortSignal) => Promise<ReadonlyMap<string, number>>;
  /** The same with what a row has in bytes. */
  readonly sizes?: (tables: readonly NamedTable[], signal: AbortSignal) => Promise<ReadonlyMap<string, TableSize>>;
  /**
   * The foreign keys between these tables, by names at the source; of a partitioned table those of the whole. Absent, or
   * null: the source can't tell.
   */
  readonly foreignKeys?: (tables: readonly NamedTable[], signal: AbortSignal) => Promise<readonly ForeignKey[] | null>;
  /** Absent, or null: the source can't tell. */
  readonly equalities?: (tables: readonly NamedTable[], signal: AbortSignal) => Promise<Equalities | null>;
}

/** By the server's own statistics, on average. */
export interface TableSize {
  readonly rowCount: number;
  /** By column's name at the source, its bytes in a row; a column without statistics is left out. */
  readonly columnBytes: ReadonlyMap<string, number>;
  /** Bytes of a row that no column is named for: of large values, or of all columns that are left out. */
  readonly restBytes: number;
}

/** By table id and column's name at the source, where texts may be equal that are written otherwise. */
export type Equalities = ReadonlyMap<string, ReadonlyMap<string, Equality>>;

export interface Equality {
  /** The collation, or the type, that says so. */
  readonly by: string;
  /** What makes texts the same that are equal, and no others; null: nothing that is known. */
  readonly alike: Alike | null;
}

/** How two texts are compared that a source takes for equal though they are written otherwise. */
export interface Alike {
  /** Without their trailing blanks. */
  readonly isPadded: boolean;
  /** With small letters. Of texts with other letters than ASCII's it is not known what they are equal to. */
  readonly isFolded: boolean;
}

export interface ForeignKey {
  readonly table: Pick<TableShape, "schema" | "table">;
  readonly columns: readonly string[];
  readonly references: Pick<TableShape, "schema" | "table">;
  /** In the order of `columns`. */
  readonly referenced: readonly string[];
}

export type NamedTable = Pick<TableShape, "id" | "schema" | "table">;

export type TableShape = Omit<TableVersion, "version" | "since">;

export interface CapturedTables {
  readonly tables: readonly TableShape[];
  readonly refused: readonly RefusedTable[];
  readonly generations: TableGenerations;
  /** Tables that the configuration captures too, and that another share has. Absent: none. */
  readonly elsewhere?: Pick<CapturedTables, "tables" | "refused">;
  /**
   * True if the catalogue does not tell whether a table that is new was there before under another name, and the log does: such
   * a table is captured when the stream has passed what the catalogue shows.
   */
  readonly awaitsLog?: boolean;
  /** By table id, where the log has only the key of an old row: the statement after which it has all of it. Absent: nowhere. */
  readonly partlyLogged?: ReadonlyMap<string, string>;
  /** By table id, what a SELECT of it shows besides its own rows, which alone are captured. Absent: nothing. */
  readonly besides?: ReadonlyMap<string, string>;
  /** Patterns of the source's own selection that fit no table there, and those with `!` that leave out none. Absent: none. */
  readonly idle?: readonly string[];
  /** By table id. Without them no row that did not change is certain after a change of shape. */
  readonly columns?: ReadonlyMap<string, ColumnFacts>;
}

export interface RefusedTable {
  readonly id: string;
  readonly reason: string;
  readonly fix: string;
  /** The fix for a table that had a key over these columns. Absent: the same. */
  readonly fixWith?: (keyColumns: readonly string[]) => string;
  /** True if only a privilege of our role is missing: the table is captured as soon as it is granted. */
  readonly byPrivilege?: boolean;
  /** True for a copy that a tool makes for an online change: a glob leaves it out, and nothing is wrong (connectors/kit). */
  readonly isCopy?: boolean;
  /** True if it will be captured soon by itself, for example if somebody has locked it: callers wait for it. */
  readonly isPassing?: boolean;
  /** If the reason has an error number of its own. */
  readonly code?: ErrorCode;
  /** Its shape, if rules hold it back: without anything that they hide. */
  readonly withheld?: TableShape;
  /** If only the key in the configuration is wrong: a column is unknown, or the columns can't be the key. */
  readonly chosenKey?: "unknown" | "unfit";
  /** If its rows can be read by key all the same, by a comparison that needs no changes. */
  readonly readable?: TableShape;
}

/** Facts from the catalogue about a table's columns, besides their shape: for core/targets/carrying. */
export interface ColumnFacts {
  /** Identities of columns that were added while this process watched, and are null in the rows that existed before. */
  readonly nullBefore: ReadonlySet<number>;
  /** Identities of columns that were ever dropped. */
  readonly dropped: readonly number[];
}

/**
 * By table id, which table has the name. A new value means that rows appeared or disappeared without a change in the
 * log: the table was created again or rewritten, swapped by renames, unpublished for a while, or a partition was
 * attached, detached or truncated by its own name. A table that is not published yet has no value.
 */
export type TableGenerations = ReadonlyMap<string, string>;
