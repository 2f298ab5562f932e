/** The rules of the configuration, read and placed; what they mean for one table is in `rule-book.ts`. */
import type { ChosenKey, TableName, ZeroDates } from "../core/contracts/connector.ts";
import { DEFAULT_POLICY, type SchemaPolicy } from "../core/model/schema-policy.ts";
import type { Mask } from "../core/model/schema.ts";
import { isGlob, mostExact } from "../core/table-selection.ts";
import type { Expression } from "./where/syntax.ts";

export interface Rules {
  readonly tables: readonly TableRule[];
  /** Key of the hashes; needed where a rule hashes. */
  readonly maskKey: string | null;
}

/** A part of the rules, and where it stands in the file: for messages. */
interface Placed {
  readonly place: string;
}

export interface TableRule extends Placed {
  /** A `schema.table` glob. */
  readonly pattern: string;
  readonly columns: readonly ColumnRule[];
  readonly where: WhereRule | null;
  /** In place of the table's own; what it may be is the source's to say. */
  readonly key: KeyRule | null;
  /** The source's own: it reads such dates that way. */
  readonly zeroDates: ZeroDates;
  /** What becomes of a change of the table's shape. */
  readonly policy: SchemaPolicy;
  /** As many rows of a sink may differ before it is an alarm. */
  readonly driftMax: number;
}

export interface ColumnRule extends Placed {
  /** A column's name, or a glob over such. */
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

/** What becomes of changes of a table's shape. */
export function policyOf({ tables }: Rules, { schema, table }: TableName): SchemaPolicy {
  return mostExact(tables, `${schema}.${table}`)?.policy ?? DEFAULT_POLICY;
}

/** The key that is chosen for a table in place of its own. */
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
