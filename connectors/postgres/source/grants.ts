/** What the source's role needs, as a script for a superuser. */
import type { GrantScript } from "../../../src/core/contracts/connector.ts";
import { quoteIdentifier, quoteTable } from "../../../src/postgres/quote.ts";
import { makeRole } from "../../../src/postgres/role.ts";
import type { CatalogTable } from "./catalog/catalog.ts";
import { selectTables, type Selected } from "./catalog/selection.ts";
import type { SourceContext } from "./context.ts";
import { classify } from "./errors.ts";
import { addStatement, createStatement } from "./log/publication.ts";

/** The tables can be named only if the role may look at the catalogue: it must exist, and may lack everything else. */
export async function grants(context: SourceContext, signal: AbortSignal): Promise<readonly GrantScript[]> {
  const { user, database } = context.address;
  const by = `a superuser, in database ${quoteIdentifier(database)}`;
  const role = [
    ...makeRole(user, "reads the log"),
    `GRANT CONNECT ON DATABASE ${quoteIdentifier(database)} TO ${quoteIdentifier(user)};`,
  ];
  const selected = await look(context, signal);
  const tables =
    "code" in selected
      ? [
          `-- The tables are not known yet: the source says ${selected.code}. As soon as the role can log in, run \`millrace grants --source\` again.`,
        ]
      : tableStatements(context, selected);
  return [{ by, language: "sql", script: [...role, ...tables].join("\n") }];
}

async function look(context: SourceContext, signal: AbortSignal): Promise<Selected | { readonly code: string }> {
  try {
    return await selectTables(context, false, signal);
  } catch (error) {
    return { code: classify(error, "reading the catalogue").code };
  }
}

function tableStatements(context: SourceContext, { captured, lacking, publication }: Selected): readonly string[] {
  const tables = [...captured.map(({ table }) => table), ...lacking];
  if (tables.length === 0) return ["-- No table matches `tables`."];
  const role = quoteIdentifier(context.address.user);
  const schemas = [...new Set(tables.map(({ schema }) => quoteIdentifier(schema)))].join(", ");
  const named = tables.map(({ schema, table }) => quoteTable(schema, table)).join(", ");
  return [
    `GRANT USAGE ON SCHEMA ${schemas} TO ${role};`,
    `GRANT SELECT ON ${named} TO ${role};`,
    ...(tables.some((table) => table.hidesRows)
      ? ["-- Row-level security hides rows of some of these tables from the role.", `ALTER ROLE ${role} BYPASSRLS;`]
      : []),
    ...published(context, tables, publication),
  ];
}

/** Only the owner of a table, or a superuser, can publish it. */
function published(
  { publication: name }: SourceContext,
  tables: readonly CatalogTable[],
  publication: Selected["publication"],
): readonly string[] {
  if (publication === undefined) return [`${createStatement(name, tables)};`];
  const missing = tables.filter((table) => !publication.published.has(table.oid));
  return missing.length === 0 ? [] : [`${addStatement(name, missing)};`];
}
