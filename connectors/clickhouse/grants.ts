/** What the sink's user needs, as statements for an administrator. */
import { loginIn } from "../../src/tls/url-parts.ts";
import type { GrantScript, TableName } from "../../src/core/contracts/connector.ts";
import { META_DATABASE, quoteIdentifier, fitted } from "./names.ts";
import type { ClickhouseSinkSettings } from "./sink.ts";

/** On the databases of tables; the sink makes, changes and drops only what it made. */
const PRIVILEGES = [
  "SELECT",
  "INSERT",
  "ALTER TABLE",
  "CREATE DATABASE",
  "CREATE TABLE",
  "CREATE VIEW",
  "DROP TABLE",
  "DROP VIEW",
];

/** Without a quorum, a read waits until its replica has all rows. */
export function privilegesOf({
  placement,
  quorum,
}: Pick<ClickhouseSinkSettings, "placement" | "quorum">): readonly string[] {
  return placement.cluster !== undefined && quorum === undefined ? [...PRIVILEGES, SYNC_PRIVILEGE] : PRIVILEGES;
}

export const SYNC_PRIVILEGE = "SYSTEM SYNC REPLICA";
/** With `cluster`, on everything: for statements ON CLUSTER, and for the one that ends the sink's own on all replicas. */
export const CLUSTER_PRIVILEGES = ["CLUSTER", "KILL QUERY"] as const;

/** Undefined: the tables are not known, so any database may have to be made. */
export function databasesOf(
  { schema }: Pick<ClickhouseSinkSettings, "schema">,
  tables: readonly TableName[] | undefined,
): readonly string[] | undefined {
  if (schema !== undefined) return [META_DATABASE, fitted(schema)];
  return tables === undefined
    ? undefined
    : [...new Set([META_DATABASE, ...tables.map((table) => fitted(table.schema))])];
}

export function grants(
  settings: Pick<ClickhouseSinkSettings, "url" | "schema" | "placement" | "quorum">,
  tables: readonly TableName[] | undefined,
): readonly GrantScript[] {
  const { cluster } = settings.placement;
  const on = cluster === undefined ? "" : ` ON CLUSTER ${quoteIdentifier(cluster)}`;
  const user = quoteIdentifier(loginIn(settings.url).username || "default");
  const databases = databasesOf(settings, tables);
  const places = databases === undefined ? ["*.*"] : databases.map((name) => `${quoteIdentifier(name)}.*`);
  const script = [
    `CREATE USER IF NOT EXISTS ${user}${on} IDENTIFIED BY '…';`,
    ...(databases === undefined
      ? ["-- The source's tables are not known yet: with this the user makes their databases."]
      : []),
    ...places.map((place) => `GRANT${on} ${privilegesOf(settings).join(", ")} ON ${place} TO ${user};`),
    ...(cluster === undefined ? [] : [`GRANT${on} ${CLUSTER_PRIVILEGES.join(", ")} ON *.* TO ${user};`]),
  ];
  return [{ by: "a user with access management, in ClickHouse", language: "sql", script: script.join("\n") }];
}
