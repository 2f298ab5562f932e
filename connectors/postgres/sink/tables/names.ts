import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { tableId, type TableVersion } from "../../../../src/core/model/schema.ts";
import { quoteIdentifier, quoteLiteral } from "../../../../src/postgres/quote.ts";
import { postgresError } from "../errors.ts";
import { shortened } from "../../../../src/core/targets/names.ts";
import { METADATA_SCHEMA } from "../../own-tables.ts";
import { reservedSchema } from "../../../warehouse/table-change.ts";
import { andInScope } from "../../../warehouse/targets.ts";

export interface TargetName {
  readonly schema: string;
  readonly table: string;
}

/** The longest name that Postgres does not cut. */
const NAME_BYTES_MAX = 63;

/** The target of a table: its own schema and name, or the sink's one schema. */
export function targetName(table: TableName, schemaOption: string | undefined): TargetName {
  const schema = schemaOption ?? table.schema;
  if (isReserved(schema)) {
    const id = tableId(table.schema, table.table);
    const message = `table ${id} can't be written to schema ${schema}: the name is Postgres' or Millrace's own`;
    throw reservedSchema(postgresError, message, id);
  }
  return { schema: fitted(schema), table: fitted(table.table) };
}

/** Postgres creates no schema whose name begins with `pg_`. */
export function isReserved(schema: string): boolean {
  return schema.startsWith("pg_") || schema === "information_schema" || schema === METADATA_SCHEMA;
}

/** A name that is too long is cut, and ends in a hash of the whole. */
export function fitted(name: string): string {
  return shortened(name, NAME_BYTES_MAX);
}

/** See `andInScope`. */
export function inScope(table: TableVersion): string {
  return andInScope(table, (ordinal) => quoteIdentifier(fitted(table.columns[ordinal]!.name)), quoteLiteral);
}
