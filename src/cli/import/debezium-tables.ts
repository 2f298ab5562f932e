import type { DebeziumConfig } from "./debezium-config.ts";
import { expressionsOf, globsOfParts } from "./list-globs.ts";

/** `source.tables` from Debezium's lists of databases, schemas and tables. Empty: every table. */
export function tablesFrom(kind: string, given: DebeziumConfig): readonly string[] {
  const part = kind === "postgres" ? "schema" : "database";
  const schemas = listed(given, 1, `${part}.include.list`, `${part}.whitelist`);
  const tables = listed(given, 2, "table.include.list", "table.whitelist");
  const noSchemas = listed(given, 1, `${part}.exclude.list`, `${part}.blacklist`);
  const noTables = listed(given, 2, "table.exclude.list", "table.blacklist");
  const included = includedBoth(part, given, schemas, tables);
  const excluded = [...noSchemas.map((schema) => `!${schema}.*`), ...noTables.map((table) => `!${table}`)];
  return included.length === 0 && excluded.length > 0 ? ["*.*", ...excluded] : [...included, ...excluded];
}

function includedBoth(
  part: string,
  given: DebeziumConfig,
  schemas: readonly string[],
  tables: readonly string[],
): readonly string[] {
  if (tables.length === 0) return schemas.map((schema) => `${schema}.*`);
  if (schemas.length === 0 || schemas.includes("*")) return tables;
  const inside = tables.filter((table) => schemas.includes(table.slice(0, table.indexOf("."))));
  if (inside.length < tables.length)
    given.leave(
      `${part}.include.list`,
      "`tables` is one list of schema.table; it was taken from table.include.list alone",
    );
  return inside.length === tables.length ? inside : tables;
}

/** The globs of a list. Names the key if an expression has no glob: what it selects is then missing. */
function listed(given: DebeziumConfig, partCount: 1 | 2, key: string, formerKey: string): readonly string[] {
  const list = given.take(key, formerKey);
  if (list === null) return [];
  const globs = expressionsOf(list).map((expression) => ({ expression, globs: globsOfParts(expression, partCount) }));
  const lost = globs.flatMap(({ expression, globs: found }) => (found === null ? [expression] : []));
  if (lost.length > 0) given.leave(key, `no glob says ${lost.join(" or ")}: add to \`tables\` what it selects`);
  return globs.flatMap(({ globs: found }) => found ?? []);
}
