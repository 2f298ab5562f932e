/**
 * The rules of the configuration, parsed, with their positions in the file. What they say of one table together is in
 * `merged-rule.ts`, and what that makes of the table in `rule-book.ts`.
 */
import type { TableName, ZeroDates } from "../core/contracts/connector.ts";
import type { SinkForm } from "../core/contracts/sink.ts";
import type { SchemaPolicy } from "../core/model/schema-change.ts";
import type { Mask, Scope } from "../core/model/schema.ts";
import type { ComputedRule } from "./computed/computed-columns.ts";
import type { Functions } from "./computed/functions.ts";
import type { Expression } from "./where/syntax.ts";

export interface Rules {
  readonly tables: readonly TableRule[];
  /** What the sinks take of the source's tables. */
  readonly selections: readonly Selection[];
  /** Key of the hashes; needed if a rule hashes. */
  readonly maskKey: string | null;
  /** Those of the computed columns. Absent: they are not loaded, and a table that needs one shows no row. */
  readonly functions?: Functions;
}

/** The `tables` of a sink, in the order of the file. */
export interface Selection {
  readonly sink: string;
  readonly form: SinkForm;
  readonly patterns: readonly (Placed & { readonly pattern: string })[];
}

/** A part of the rules, and its position in the file, for messages. */
interface Placed {
  readonly place: string;
}

/** What one key of `tables` says; of what is null it says nothing. */
export interface TableRule extends Placed {
  /** A `schema.table` glob. */
  readonly pattern: string;
  /** True if there may be no such table yet. */
  readonly isOptional: boolean;
  readonly columns: readonly ColumnRule[];
  readonly computed: readonly ComputedRule[];
  /** The only columns that go out. */
  readonly only: OnlyRule | null;
  readonly where: WhereRule | null;
  /** Replaces the table's own key; the source decides which keys are possible. */
  readonly key: KeyRule | null;
  /** Passed to the source, which reads such dates this way. */
  readonly zeroDates: ZeroDates | null;
  /** How a change of the table's shape is treated. */
  readonly policy: { readonly [Part in keyof Omit<SchemaPolicy, "newTables">]: SchemaPolicy[Part] | null };
  /** More differing rows of a sink than this raise an alarm. */
  readonly driftMax: number | null;
  /** Where the rows go in the sinks (src/routes). */
  readonly into: TableName | null;
  readonly add: Scope | null;
}

export interface ColumnRule extends Placed {
  /** A column's name, or a glob over names. */
  readonly pattern: string;
  /** True if there may be no such column yet. */
  readonly isOptional: boolean;
  readonly action: ColumnAction;
}

/** How a column's values are hidden. `none`: not at all, whatever a less exact glob says. */
export type Hiding = Mask | "drop" | "none";

/** What a rule says of a column; of what is null it says nothing. */
export interface ColumnAction {
  readonly hiding: Hiding | null;
  readonly rename: string | null;
}

interface OnlyRule extends Placed {
  /** Names of columns, or globs over names. */
  readonly patterns: readonly string[];
}

export interface KeyRule extends Placed {
  /** Names at the source. */
  readonly columns: readonly string[];
}

export interface WhereRule extends Placed {
  readonly text: string;
  /** Null: every row, whatever a less exact glob says. */
  readonly expression: Expression | null;
}

export const NO_RULES: Rules = { tables: [], selections: [], maskKey: null };
