/** What the source's user needs, as a script for an administrator of MySQL or MariaDB. */
import type { GrantScript } from "../../src/core/contracts/connector.ts";
import { isGlob } from "../../src/core/table-selection.ts";
import { quoteAccount, quoteName, quoteTable } from "./quote.ts";
import type { MysqlAddress } from "./url.ts";

/** From the configuration alone: a user without grants sees no table. `globs` as in `source.tables`. */
export function grants({ user, database }: MysqlAddress, globs: readonly string[]): readonly GrantScript[] {
  const who = quoteAccount(`${user}@%`);
  const script = [
    `CREATE USER IF NOT EXISTS ${who};`,
    `-- Its password: ALTER USER ${who} IDENTIFIED BY '…'; in place of '%' stands the address that Millrace comes from.`,
    "-- MariaDB reads REPLICATION CLIENT as BINLOG MONITOR.",
    `GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO ${who};`,
    ...readable(globs, database).map((place) => `GRANT SELECT ON ${place} TO ${who};`),
    "-- Only on MySQL with gtid_mode = OFF, where a read beside the stream locks its table for a moment:",
    `-- GRANT LOCK TABLES ON ${database === "" ? "*" : onDatabase(database)}.* TO ${who};`,
  ];
  return [{ by: "an administrator", language: "sql", script: script.join("\n") }];
}

/** The narrowest places that hold every table of the globs: a table that is named in full, its database, or the server. */
function readable(globs: readonly string[], database: string): readonly string[] {
  const included = globs.filter((glob) => !glob.startsWith("!"));
  if (included.length === 0) return [database === "" ? "*.*" : `${onDatabase(database)}.*`];
  const places = included.map((glob) => {
    const at = glob.indexOf(".");
    const schema = glob.slice(0, at);
    if (!isGlob(glob)) return quoteTable(schema, glob.slice(at + 1));
    return isGlob(schema) ? "*.*" : `${onDatabase(schema)}.*`;
  });
  return places.includes("*.*") ? ["*.*"] : [...new Set(places)];
}

/** In a grant on a whole database `_` and `%` are wildcards. */
function onDatabase(name: string): string {
  return quoteName(name.replaceAll(/[\\_%]/g, "\\$&"));
}
