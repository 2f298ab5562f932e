/** What the sink's role needs, as a script for a superuser or the database's owner. */
import type { GrantScript, TableName } from "../../../src/core/contracts/connector.ts";
import { makeRole, quoteIdentifier } from "../../../src/postgres/quote.ts";
import { METADATA_SCHEMA } from "../own-tables.ts";
import type { PostgresSinkOptions } from "./sink.ts";
import { fitted, isReserved, targetName } from "./tables/names.ts";

/** The role owns what it makes, in schemas that an administrator makes for it; it can't make schemas itself. */
export function grants(
  { address: { user, database }, schema }: PostgresSinkOptions,
  tables: readonly TableName[] | undefined,
): readonly GrantScript[] {
  const role = quoteIdentifier(user);
  const named = (tables ?? []).filter((table) => !isReserved(table.schema));
  const own = schema === undefined ? named.map((table) => targetName(table, schema).schema) : [fitted(schema)];
  const schemas = [...new Set([METADATA_SCHEMA, ...own])].map(quoteIdentifier);
  const create = `GRANT CREATE ON DATABASE ${quoteIdentifier(database)} TO ${role};`;
  const script = [
    ...makeRole(user, "logs in"),
    `GRANT CONNECT, TEMPORARY ON DATABASE ${quoteIdentifier(database)} TO ${role};`,
    ...schemas.map((name) => `CREATE SCHEMA IF NOT EXISTS ${name};`),
    `GRANT USAGE, CREATE ON SCHEMA ${schemas.join(", ")} TO ${role};`,
    ...(schema !== undefined
      ? []
      : tables === undefined
        ? ["-- The source's tables are not known yet: with this the role makes their schemas.", create]
        : ["-- Only if tables of further schemas may come later:", `-- ${create}`]),
  ];
  const by = `a superuser or the owner of database ${quoteIdentifier(database)}, in that database`;
  return [{ by, language: "sql", script: script.join("\n") }];
}
