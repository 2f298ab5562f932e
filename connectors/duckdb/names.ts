import type { TableName } from "../../src/core/contracts/connector.ts";
import { type Column, tableId, type TableVersion } from "../../src/core/model/schema.ts";
import { duckdbError } from "./errors.ts";
import { quoteLiteral } from "../kit/duckdb.ts";
import { distinctNames, fold, quoteIdentifier } from "../kit/sql-names.ts";
import { OWN_COLUMNS } from "../warehouse/own-columns.ts";
import { reservedSchema } from "../warehouse/table-change.ts";
import { andInScope } from "../warehouse/targets.ts";

export { fold, quoteIdentifier, quoteLiteral };

/** Schema of Millrace's own tables; captured tables can't be in it. */
export const META_SCHEMA = "_millrace";

/** DuckLake gives these names to columns of its own. */
const LAKE_COLUMNS = ["row_id", "begin_snapshot", "end_snapshot"];

interface NamedFor {
  readonly isLake?: boolean;
}

const RESERVED_SCHEMAS = new Set([META_SCHEMA, "information_schema", "pg_catalog"]);

export interface TargetName {
  readonly schema: string;
  readonly table: string;
}

export function targetOf(table: TableName, schemaOption: string | undefined): TargetName {
  const schema = schemaOption ?? table.schema;
  if (isReserved(schema)) {
    const id = tableId(table.schema, table.table);
    const message = `table ${id} can't be written to schema ${schema}: the name is DuckDB's or Millrace's own`;
    throw reservedSchema(duckdbError, message, id);
  }
  return { schema, table: table.table };
}

export function isReserved(schema: string): boolean {
  return RESERVED_SCHEMAS.has(fold(schema));
}

/** Equal for two tables if and only if they would be one table in DuckDB. */
export function targetKey(target: TargetName): string {
  return `${quoteIdentifier(fold(target.schema))}.${quoteIdentifier(fold(target.table))}`;
}

/** `catalogue`: where a schema of the same name would make the shorter name ambiguous. */
export function firstRowsSql({ schema, table }: TargetName, catalogue = ""): string {
  const isAmbiguous = fold(schema) === fold(catalogue);
  return `select * from ${quoteName(...(isAmbiguous ? [catalogue] : []), schema, table)} limit 10`;
}

/** The same of several tables in one statement, which needs one copy of the file: a list of rows for each. */
export function firstRowsOfAllSql(sqls: readonly string[], rowCount: number): string {
  const lists = sqls.map((sql, i) => `(select list(r) as t${i} from (select * from (${sql}) limit ${rowCount}) as r)`);
  return `select * from ${lists.join(", ")}`;
}

/** Names that differ from each other, and from Millrace's and DuckLake's own. */
export function columnNames(columns: readonly Pick<Column, "name">[], { isLake }: NamedFor = {}): string[] {
  return distinctNames(columns, isLake === true ? [...OWN_COLUMNS, ...LAKE_COLUMNS] : OWN_COLUMNS);
}

/** Of the target's name before the engine spells it: equal for tables that share a target by their scopes. */
export function nameOf({ schema, table }: TableName): string {
  return tableId(schema, table);
}

/** See `andInScope`. */
export function inScope(table: Pick<TableVersion, "scope" | "columns">, form: NamedFor): string {
  const names = columnNames(table.columns, form);
  return andInScope(table, (ordinal) => quoteIdentifier(names[ordinal]!), quoteLiteral);
}

/** Qualified by catalogue or schema. */
export function quoteName(...parts: readonly string[]): string {
  return parts.map(quoteIdentifier).join(".");
}
