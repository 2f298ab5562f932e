import type { ErrorCode } from "../errors.ts";
import { comparePositions, type Position } from "./position.ts";
import type { ColumnType } from "./types.ts";

/** Where the values of a source's language go beyond those that Postgres' types have, in whose forms they all come. */
export interface Dialect {
  /** Dates that do not exist (`2026-02-31`), which come as texts where others are binary, and no target can hold. */
  readonly hasAnyDate: boolean;
  /** '' for a value that is none of an enum's labels, where a server's mode lets that pass. */
  readonly hasEmptyLabel: boolean;
  /** NUL in texts. */
  readonly hasNul: boolean;
  /** Texts that are no UTF-8, with half of a pair of surrogates. */
  readonly hasHalves: boolean;
}

/** By `TableVersion.dialect`, which is stored with every shape: a name that was given stays. */
export const DIALECTS = {
  postgres: { hasAnyDate: false, hasEmptyLabel: false, hasNul: false, hasHalves: false },
  mysql: { hasAnyDate: true, hasEmptyLabel: true, hasNul: true, hasHalves: true },
} as const satisfies Readonly<Record<string, Dialect>>;

export type DialectName = keyof typeof DIALECTS;

export interface Column {
  readonly name: string;
  readonly type: ColumnType;
  /** The type as the source spells it, for example `numeric(12,2)`; meaningful with `TableVersion.dialect`. */
  readonly native: string;
  readonly nullable: boolean;
  /** Distinguishes this column from another one with the same name and type (Postgres: attnum). Stable under rename. */
  readonly identity: number;
  /** A function of the configuration makes its values: of this column alone, which the source lacks, or of whole rows. */
  readonly computed?: "column" | "row";
}

/** One version of a table's shape, valid from a position of the log on. Immutable; compared by identity. */
export interface TableVersion {
  /** `schema.table` with `%` and `.` inside a name percent-encoded, so that no two tables share it. */
  readonly id: string;
  readonly schema: string;
  readonly table: string;
  /** The language that `Column.native` is of. */
  readonly dialect: DialectName;
  /** Distinguishes this table from another one with the same name (Postgres: its cluster and oid). Stable under rename. */
  readonly relation: number;
  /** The `relation` of each table that holds its rows, as far as they are known: its partitions. Not stored. */
  readonly parts?: readonly number[];
  /** What else its values come from, as far as it is known. Not stored. */
  readonly origins?: Origins;
  readonly columns: readonly Column[];
  /** Ordinals of the key's columns in `columns`, in key order; empty if the table has no key in this version. */
  readonly key: readonly number[];
  /**
   * True if two rows may have the same key for a moment inside a transaction (deferrable constraint). Old rows of such
   * a table arrive complete, and its changes are compacted per transaction (runtime/compaction/compaction).
   */
  readonly deferrableKey: boolean;
  /** True where the configuration chose the key: then only the operator changes it. */
  readonly keyChosen?: true;
  /**
   * True where no constraint of the source enforces the chosen key: only the configuration says that no two rows share
   * it. Which row has a key that appeared or disappeared is then read from the source (runtime/compaction/table-compaction). That
   * read also finds two rows with one key.
   */
  readonly unenforcedKey?: true;
  /** Counts registered versions per table, from 1. `isLater` tells which of two versions comes later in the log. */
  readonly version: number;
  /** The log position from which it is valid. */
  readonly since: Position;
  /** SHA-256 over names, types, identities and key, in hex; with rules, over the source's fingerprint and the rules. */
  readonly fingerprint: string;
  /** Absent if no rules of the configuration change this table. */
  readonly ruled?: Ruled;
  /** Hash of what rules hide of its columns and rows, before they came here too. Absent: nothing. */
  readonly hides?: string;
  /** The `relation` of each partition that stood under the table's rules until those were taken off. Absent: none did. */
  readonly released?: readonly number[];
  /** In a target: the columns, the last ones, by which a route tells this table's rows from those of others there. Not stored. */
  readonly scope?: Scope;
}

/** Values of columns that all rows of a table have in its target, by name. */
export type Scope = Readonly<Record<string, string>>;

/** Whether the same columns tell the rows of two tables apart. */
export function areApart(one: Scope | null, other: Scope | null): boolean {
  if (one === null || other === null) return false;
  const names = Object.keys(one);
  if (names.length !== Object.keys(other).length || !names.every((name) => Object.hasOwn(other, name))) return false;
  return names.some((name) => one[name] !== other[name]);
}

export interface Origins {
  /** Columns that the server computes, also those that its log leaves out, by name. */
  readonly generated: Readonly<Record<string, Generated>>;
  /** By column, the tables of whose rows it consists: its type is their row type, or is built on it. */
  readonly rows: Readonly<Record<string, readonly Pick<TableVersion, "id" | "schema" | "table">[]>>;
  /** The tables from which this one inherits. */
  readonly parents: readonly Pick<TableVersion, "id" | "schema" | "table">[];
}

interface Generated {
  /** The columns that it is computed from. */
  readonly from: readonly string[];
  /** Its `Column.identity` if that survives a rename; 0: it does not. */
  readonly identity: number;
}

/** Of a column that a table seems not to have, for the end of a sentence that says so. */
export function whyLeftOut(name: string, origins: Origins | undefined): string {
  const generated = origins?.generated[name];
  if (generated === undefined) return "";
  const listed = generated.from.map((one) => JSON.stringify(one)).join(", ");
  return ` in the log: the source computes it from ${listed}, and logs only those`;
}

/** How a column's values are hidden: keyed hash, a fixed text, their last characters only, null. */
export type Mask = "hash" | "redact" | "partial" | "null";

/** A table under rules: everything after the source sees it only in this form. */
export interface Ruled {
  /** Hash of the rules. If it changes, everything that a sink has of the table is void. */
  readonly rules: string;
  readonly source: Pick<TableVersion, "columns" | "key" | "fingerprint" | "hides">;
  readonly lineage: readonly Lineage[];
  /** Absent: no column is computed. */
  readonly computed?: readonly ComputedLineage[];
  /** True if rows are left out. */
  readonly filtered: boolean;
  /** The key alone decides which rows are left out. Absent: any change of a row may decide it. */
  readonly filteredByKey?: true;
  /** Why the rules can't be applied to this shape; then no row passes. */
  readonly fault: RulesFault | null;
  /** The `relation` of each partition that was known. Absent: none. */
  readonly parts?: readonly number[];
  /** Columns that the server computes from hidden ones, and that the log left out. Absent: none. */
  readonly unlogged?: readonly Pick<Column, "name" | "identity">[];
  /** Another share has the table: this one only knows what its rows stand under. */
  readonly isElsewhere?: true;
}

export interface RulesFault {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  /** The column that the server computes from hidden ones. */
  readonly computed?: string;
}

/** Where a column's values go. */
export interface Lineage {
  readonly source: string;
  /** Null: dropped. */
  readonly target: string | null;
  readonly mask: Mask | null;
}

/** A column that a function makes. */
export interface ComputedLineage {
  readonly target: string;
  /** The columns that it gets, by their names at the source. */
  readonly from: readonly string[];
  /** As the configuration names it. */
  readonly function: string;
}

/** Of what rules hide, the names at the source that no column behind them has. */
export function hiddenNames(lineage: readonly Lineage[]): readonly string[] {
  const targets = new Set(lineage.map(({ target }) => target));
  const hidden = lineage.filter(({ target, mask }) => target === null || mask !== null);
  return hidden.flatMap(({ source }) => (targets.has(source) ? [] : [source]));
}

/**
 * Whether a version of a table follows another one in the log. At one position the version registered last is the valid
 * one.
 */
export function isLater(one: TableVersion, other: TableVersion): boolean {
  return (comparePositions(one.since, other.since) || one.version - other.version) > 0;
}

/** A version with a key: only rows of such versions enter a batch. */
export interface KeyedTable extends TableVersion {
  readonly key: readonly [number, ...number[]];
}

export function isKeyed(table: TableVersion): table is KeyedTable {
  return table.key.length > 0;
}

export function tableId(schema: string, table: string): string {
  return `${encodePart(schema)}.${encodePart(table)}`;
}

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

/** The marks of a key, for a shape that is built from another one. */
export function keyMarks({
  keyChosen,
  unenforcedKey,
}: Pick<TableVersion, "keyChosen" | "unenforcedKey">): Pick<TableVersion, "keyChosen" | "unenforcedKey"> {
  return {
    ...(keyChosen === undefined ? {} : { keyChosen }),
    ...(unenforcedKey === undefined ? {} : { unenforcedKey }),
  };
}
