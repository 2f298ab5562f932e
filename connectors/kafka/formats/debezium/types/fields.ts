/**
 * How Debezium shows a column: the Connect schema of its field, and the form of its values. From the column's type at the source
 * (`native`) where the canonical type says too little. The tables of types in Debezium's manual:
 * https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types and
 * https://debezium.io/documentation/reference/stable/connectors/mysql.html#mysql-data-types
 */
import type { DialectName } from "../../../../../src/core/model/dialects.ts";
import type { Column } from "../../../../../src/core/model/schema.ts";
import type { Decimals, Field } from "./field.ts";
import { mysqlField } from "./mysql-fields.ts";
import { postgresField } from "./postgres-fields.ts";

export function fieldOf(column: Pick<Column, "type" | "native">, dialect: DialectName, decimals: Decimals): Field {
  return dialect === "mysql" ? mysqlField(column, decimals) : postgresField(column, decimals);
}
