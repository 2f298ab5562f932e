import { makeRole } from "../../postgres/role.ts";
import { parsePostgresUrl } from "../../postgres/url.ts";
import { quoteIdentifier } from "../../postgres/quote.ts";
import type { GrantScript } from "../../core/contracts/connector.ts";

/** What the role of a state on Postgres needs: a schema of its own, and no right to make others. */
export function stateGrants(url: string): readonly GrantScript[] {
  const { user, database } = parsePostgresUrl(url);
  const role = quoteIdentifier(user);
  const script = [
    ...makeRole(user, "logs in"),
    `GRANT CONNECT ON DATABASE ${quoteIdentifier(database)} TO ${role};`,
    "CREATE SCHEMA IF NOT EXISTS millrace;",
    `GRANT USAGE, CREATE ON SCHEMA millrace TO ${role};`,
  ].join("\n");
  const by = `a superuser or the owner of database ${quoteIdentifier(database)}, in that database`;
  return [{ by, language: "sql", script }];
}
