import type { ErrorCode } from "../errors.ts";
import { comparePositions, type Position } from "./position.ts";
import type { DialectName } from "./dialects.ts";
import type { ColumnType } from "./types.ts";

export interface Column {
  readonly name: string;
  readonly type: ColumnType;
  /** The type as the source spells it, for example `numeric(12,2)`; meaningful with `TableVersion.dialect`. */
  readonly native: string;
  readonly nullable: boolean;
  /** What tells this column from another of the same name and type (Postgres: attnum). Stable under rename. */
  readonly identity: number;
}

/** One version of one table's shape, in force from a position of the log on. Immutable; compared by identity. */
export interface TableVersion {
  /** `schema.table` with `%` and `.` inside a name percent-encoded, so that no two tables share it. */
  readonly id: string;
  readonly schema: string;
  readonly table: string;
  /** The language that `Column.native` is of. */
  readonly dialect: DialectName;
  /** What tells this table from another one under its name (Postgres: its oid). Stable under rename. */
  readonly relation: number;
  readonly columns: readonly Column[];
  /** Ordinals of the key's columns in `columns`, in key order; empty where the table has no key in this version. */
  readonly key: readonly number[];
  /**
   * True when two rows may hold one key for a moment inside a transaction (deferrable constraint). Such a table's old
   * rows arrive complete, and its changes are netted per transaction (runtime/netting/netting).
   */
  readonly deferrableKey: boolean;
  /** True where the configuration chose the key: a change of it is the operator's. */
  readonly keyChosen?: true;
  /**
   * True where the operator alone says that no two rows have the same key. Of which row a key is that came or went is then
   * read from the source (runtime/netting/table-net), where two rows of one key are found.
   */
  readonly keyOnWord?: true;
  /** From 1, counted per table as versions are registered: which of two lies further in the log, `isLater` says. */
  readonly version: number;
  /** Where in the log it is in force from. */
  readonly since: Position;
  /** SHA-256 over the names, types, identities and key, in hex; with rules, over the source's fingerprint and them. */
  readonly fingerprint: string;
  /** What the configuration's rules made this of; absent where the table is as the source has it. */
  readonly ruled?: Ruled;
}

/** How a column's values are hidden: keyed hash, a fixed text, their last characters only, null. */
export type Mask = "hash" | "redact" | "partial" | "null";

/** A table under rules: everything behind the source sees it as its `TableVersion` says, and nothing else. */
export interface Ruled {
  /** Hash of the rules: with another one everything that a sink has of the table is void. */
  readonly rules: string;
  /** The table as the source has it. */
  readonly source: Pick<TableVersion, "columns" | "key" | "fingerprint">;
  readonly lineage: readonly Lineage[];
  /** True where rows are left out. */
  readonly filtered: boolean;
  /** Why the rules can't be applied to this shape: then none of its rows is let through. */
  readonly fault: { readonly code: ErrorCode; readonly message: string; readonly hint: string } | null;
}

/** Where a column's values go. */
export interface Lineage {
  readonly source: string;
  /** Null: dropped. */
  readonly target: string | null;
  readonly mask: Mask | null;
}

/** Whether one version of a table follows another one in the log. Of two at one place the one registered last is in force. */
export function isLater(one: TableVersion, other: TableVersion): boolean {
  return (comparePositions(one.since, other.since) || one.version - other.version) > 0;
}

/** A version with a key: only rows of such a one enter a batch. */
export interface KeyedTable extends TableVersion {
  readonly key: readonly [number, ...number[]];
}

export function isKeyed(table: TableVersion): table is KeyedTable {
  return table.key.length > 0;
}

export function tableId(schema: string, table: string): string {
  return `${encodePart(schema)}.${encodePart(table)}`;
}

/** The names in a table's id. */
export function namesOfTable(id: string): { readonly schema: string; readonly table: string } {
  const dot = id.indexOf(".");
  return { schema: decodePart(id.slice(0, dot)), table: decodePart(id.slice(dot + 1)) };
}

function decodePart(part: string): string {
  return part.replaceAll("%2E", ".").replaceAll("%25", "%");
}

function encodePart(name: string): string {
  return name.replaceAll("%", "%25").replaceAll(".", "%2E");
}

/** What is marked of a key beside its columns, for a shape that is made of another. */
export function keyMarks({
  keyChosen,
  keyOnWord,
}: Pick<TableVersion, "keyChosen" | "keyOnWord">): Pick<TableVersion, "keyChosen" | "keyOnWord"> {
  return {
    ...(keyChosen === undefined ? {} : { keyChosen }),
    ...(keyOnWord === undefined ? {} : { keyOnWord }),
  };
}
