/**
 * The rules of the configuration, parsed, with their positions in the file. What they mean for one table is in
 * `rule-book.ts`.
 */
import type { ChosenKey, TableName, ZeroDates } from "../core/contracts/connector.ts";
import { DEFAULT_POLICY, type SchemaPolicy } from "../core/model/schema-policy.ts";
import type { Mask } from "../core/model/schema.ts";
import { isGlob, mostExact } from "../core/table-selection.ts";
import type { Expression } from "./where/syntax.ts";

export interface Rules {
  readonly tables: readonly TableRule[];
  /** Key of the hashes; needed if a rule hashes. */
  readonly maskKey: string | null;
}

/** A part of the rules, and its position in the file, for messages. */
interface Placed {
  readonly place: string;
}

export interface TableRule extends Placed {
  /** A `schema.table` glob. */
  readonly pattern: string;
  readonly columns: readonly ColumnRule[];
  readonly where: WhereRule | null;
  /** Replaces the table's own key; the source decides which keys are possible. */
  readonly key: KeyRule | null;
  /** Passed to the source, which reads such dates this way. */
  readonly zeroDates: ZeroDates;
  /** How a change of the table's shape is treated. */
  readonly policy: SchemaPolicy;
  /** More differing rows of a sink than this raise an alarm. */
  readonly driftMax: number;
}

export interface ColumnRule extends Placed {
  /** A column's name, or a glob over names. */
  readonly pattern: string;
  readonly action: ColumnAction;
}

export interface ColumnAction {
  readonly mask: Mask | null;
  readonly drop: boolean;
  readonly rename: string | null;
}

export interface KeyRule extends Placed {
  /** Names at the source. */
  readonly columns: readonly string[];
}

export interface WhereRule extends Placed {
  readonly text: string;
  readonly expression: Expression;
}

export const NO_RULES: Rules = { tables: [], maskKey: null };

/** How changes of a table's shape are treated. */
export function policyOf({ tables }: Rules, { schema, table }: TableName): SchemaPolicy {
  return mostExact(tables, `${schema}.${table}`)?.policy ?? DEFAULT_POLICY;
}

/** The key that the configuration chooses for a table in place of its own. */
export function chosenKeyOf({ tables }: Rules, { schema, table }: TableName): ChosenKey | null {
  const rule = mostExact(tables, `${schema}.${table}`);
  return rule?.key == null ? null : { columns: rule.key.columns, isForMany: isGlob(rule.pattern) };
}

export function zeroDatesOf({ tables }: Rules, { schema, table }: TableName): ZeroDates {
  return mostExact(tables, `${schema}.${table}`)?.zeroDates ?? "null";
}

/** By table id. */
export function driftMaxOf({ tables }: Rules, table: string): number {
  return mostExact(tables, table)?.driftMax ?? 0;
}
