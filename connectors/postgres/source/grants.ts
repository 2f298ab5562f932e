/** What the source's role needs, as a script for a superuser. */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import type { GrantScript } from "../../../src/core/contracts/connector.ts";
import { makeRole, quoteIdentifier, quoteLiteral, quoteTable } from "../../../src/postgres/quote.ts";
import type { CatalogTable } from "./catalog/catalog.ts";
import { type Selected, selectTables } from "./catalog/selection.ts";
import type { SourceContext } from "./wire/context.ts";
import { Database } from "./wire/database.ts";
import { parsePostgresUrl } from "../../../src/postgres/url.ts";
import { classify } from "./errors.ts";
import { grantRunning } from "./log/slot.ts";
import { addStatement, createStatement } from "./catalog/publication.ts";

/** The tables can be named only if the role may look at the catalogue: it must exist, and may lack everything else. */
export async function grants(context: SourceContext, signal: AbortSignal): Promise<readonly GrantScript[]> {
  const { user, database } = context.address;
  const where = context.writer.hasPrimary ? " of the primary" : "";
  const by = `a superuser, in database ${quoteIdentifier(database)}${where}`;
  const role = [
    ...makeRole(user, "reads the log"),
    `GRANT CONNECT ON DATABASE ${quoteIdentifier(database)} TO ${quoteIdentifier(user)};`,
    ...(context.writer.hasPrimary ? [grantRunning(context)] : []),
  ];
  const selected = await look(context, signal);
  const tables =
    "code" in selected
      ? [
          `-- The tables are not known yet: the source says ${selected.code}. As soon as the role can log in, run this again.`,
        ]
      : tableStatements(context, selected);
  return [{ by, language: "sql", script: [...role, ...tables].join("\n") }];
}

/**
 * Runs the script with the login of `url`, in the source's database. The tables can be named as soon as the role can log in,
 * so that a role that was missing gets the rest in a second run.
 */
export async function grantBy(
  context: SourceContext,
  url: string,
  signal: AbortSignal,
): Promise<readonly GrantScript[]> {
  const { user, password, database } = context.address;
  const administrator = new Database({ ...parsePostgresUrl(url), database });
  const run = async (): Promise<readonly GrantScript[]> => {
    const scripts = await grants(context, signal);
    for (const { script } of scripts) await administrator.simple("granting what the role needs", script, signal);
    return scripts;
  };
  try {
    const sql = "select from pg_roles where rolname = $1";
    const isThere = (await administrator.rows("looking for the role", sql, [user], signal)).length > 0;
    const first = await run();
    if (isThere) return first;
    if (password !== undefined) {
      const set = `alter role ${quoteIdentifier(user)} password ${quoteLiteral(scramVerifier(password))}`;
      await administrator.simple("setting the password of the new role", set, signal);
    }
    return await run();
  } finally {
    await administrator.close();
  }
}

const SCRAM_ITERATIONS = 4096;
const SCRAM_BYTES = 32;

/** What psql's \\password sends: the server, and its log, never get the password itself. */
function scramVerifier(password: string): string {
  const salt = randomBytes(16);
  const salted = pbkdf2Sync(password.normalize("NFKC"), salt, SCRAM_ITERATIONS, SCRAM_BYTES, "sha256");
  const keyed = (key: Buffer, text: string) => createHmac("sha256", key).update(text).digest();
  const stored = createHash("sha256").update(keyed(salted, "Client Key")).digest("base64");
  const server = keyed(salted, "Server Key").toString("base64");
  return `SCRAM-SHA-256$${SCRAM_ITERATIONS}:${salt.toString("base64")}$${stored}:${server}`;
}

async function look(context: SourceContext, signal: AbortSignal): Promise<Selected | { readonly code: string }> {
  try {
    return await selectTables(context, false, signal);
  } catch (error) {
    return { code: classify(error, "reading the catalogue").code };
  }
}

function tableStatements(context: SourceContext, { carriers, lacking, publication }: Selected): readonly string[] {
  const tables = [...carriers, ...lacking];
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
