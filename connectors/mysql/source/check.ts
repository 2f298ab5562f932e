/** Preflight of a MySQL or MariaDB source: everything that a start needs, each finding with its exact fix. */
import type { Finding, GrantScript } from "../../../src/core/contracts/connector.ts";
import { findMillraceError, type MillraceError } from "../../../src/core/errors.ts";
import { classify } from "./errors.ts";
import { LOG_FIX } from "./catalog/source-tables.ts";
import { checkServer, expirySeconds, type ServerFacts, unfitSettings } from "./wire/server-facts.ts";
import { openHints, readOpen } from "./health.ts";
import { failed, looked, ok, warning, wrong } from "../../kit/findings.ts";
import { tableId } from "../../../src/core/model/schema.ts";
import { isGlob } from "../../../src/core/table-selection.ts";
import { quoteAccount, quoteName, quoteTable } from "../quote.ts";
import type { MysqlAddress } from "../url.ts";
import type { SourceParts } from "./source-parts.ts";
import type { Server } from "./wire/server.ts";

const EXPIRY_SECONDS_LOW = 86_400;

export async function check(parts: SourceParts, signal: AbortSignal): Promise<readonly Finding[]> {
  const { server } = parts;
  const findings: Finding[] = [];
  let facts: ServerFacts;
  try {
    facts = await server.readFacts(signal);
  } catch (error) {
    return [failed("connection", classify(error, "connecting"))];
  }
  const { flavour, version } = facts;
  findings.push(
    ok("connection", `${flavour === "mariadb" ? "MariaDB" : "MySQL"} ${version} at ${server.address.host}`),
  );
  const unfit = unfitSettings(facts);
  for (const { id, what, fix } of unfit) findings.push(wrong(id, what, fix));
  if (unfit.length === 0) {
    findings.push(ok("binlog", "the binary log holds whole rows with the names of their columns"));
    const isOther = async (): Promise<readonly Finding[]> => (checkServer(facts, server.readerId), []);
    findings.push(...(await looked("server_id", known, isOther)));
  }
  const hasLog = unfit.every(({ id }) => id !== "log_bin");
  findings.push(
    ...(hasLog ? await looked("grants", known, () => logEnd(parts, signal)) : []),
    ...(await grants(server, facts, signal)),
    expiry(facts),
    ...(await connections(parts, facts, signal)),
    ...(hasLog ? await unnoticed(parts, facts, signal) : []),
    ...(await open(server, signal)),
  );
  findings.push(...(await tables(parts, signal)), ...(await cascades(parts, facts, signal)));
  findings.push(...(await zoneColumns(parts, signal)));
  return findings;
}

const OPEN_SECONDS_MAX = 60;

/** Whose locks a first copy, or a change of a table, may wait for. */
async function open(server: Server, signal: AbortSignal): Promise<readonly Finding[]> {
  const hints = openHints(await readOpen(server, signal), OPEN_SECONDS_MAX);
  return hints.map((hint) => {
    const [what = hint, fix = null] = hint.split(/: (.*)/s);
    return warning("transactions", what, fix);
  });
}

/** What the log may leave out without a trace, by the server's settings. */
async function unnoticed(
  { files, server }: SourceParts,
  { variables }: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const findings = await looked("log_filter", known, async () => {
    const filter = await files.filter(signal);
    if (!filter.isSet) return [];
    const user = await server.currentUser(signal);
    return [
      warning(
        "log_filter",
        `the log leaves out the statements of sessions ${filter.sessions} (binlog-do-db, binlog-ignore-db). If they alter or empty a captured table, Millrace notices that at its next look at the catalogue, and resyncs the table, for partitions only with the privilege PROCESS; it can't notice what they write with binlog_format STATEMENT`,
        `Take binlog-do-db and binlog-ignore-db out of the server's configuration and restart it; until then: GRANT PROCESS ON *.* TO ${user};`,
      ),
    ];
  });
  if (!/^ignore/i.test(variables.get("binlog_error_action") ?? "")) return findings;
  return [
    ...findings,
    warning(
      "binlog_error_action",
      "if the server can't write its log, it goes on without one (binlog_error_action is IGNORE_ERROR)",
      "SET PERSIST binlog_error_action = ABORT_SERVER",
    ),
  ];
}

async function logEnd({ files, server }: SourceParts, signal: AbortSignal): Promise<readonly Finding[]> {
  const tip = await files.tip(signal);
  await files.read(signal);
  return [ok("log", `the log ends at ${server.names.format(tip)}`)];
}

/** From this version on, MySQL logs the rows that a foreign key changes in other tables. */
const CASCADES_LOGGED = [9, 6] as const;

/** Foreign keys that change rows in a way that the log does not show. */
async function cascades(
  { server, tables: { names } }: SourceParts,
  { flavour, version }: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  if (flavour === "mysql" && isFrom(version, CASCADES_LOGGED)) return [];
  const rows = await server.rows(
    "reading the foreign keys",
    "SELECT constraint_schema, table_name, constraint_name, delete_rule, update_rule FROM information_schema.referential_constraints WHERE delete_rule NOT IN ('NO ACTION', 'RESTRICT') OR update_rule NOT IN ('NO ACTION', 'RESTRICT')",
    signal,
  );
  return rows
    .filter(([schema, table]) => names.captures({ schema: schema ?? "", table: table ?? "" }))
    .map(([schema, table, name, onDelete, onUpdate]) =>
      warning(
        "cascades",
        `the foreign key ${name} of ${schema}.${table} (ON DELETE ${onDelete}, ON UPDATE ${onUpdate}) changes rows that this server does not log`,
        "Delete and update the child rows by statements of the application, or read the table again after such changes: millrace snapshot start --tables.",
      ),
    );
}

function isFrom(version: string, [since, sinceMinor]: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  return major > since || (major === since && minor >= sinceMinor);
}

function known(error: unknown): MillraceError {
  return classify(error, "asking the server");
}

/** What the user may do, as the server lists it; inactive roles are not in the list. */
async function grants(server: Server, facts: ServerFacts, signal: AbortSignal): Promise<readonly Finding[]> {
  const rows = await server.rows("reading the user's grants", "SHOW GRANTS", signal);
  const text = rows.map(([line]) => line ?? "").join("\n");
  const user = await server.currentUser(signal);
  const wanted: readonly (readonly [RegExp, string])[] = [
    [/REPLICATION SLAVE\b/i, "REPLICATION SLAVE"],
    facts.flavour === "mariadb"
      ? [/BINLOG MONITOR|REPLICATION CLIENT/i, "BINLOG MONITOR"]
      : [/REPLICATION CLIENT/i, "REPLICATION CLIENT"],
  ];
  const hasAll = /GRANT ALL PRIVILEGES ON \*\.\*/i.test(text);
  const missing = hasAll ? [] : wanted.filter(([pattern]) => !pattern.test(text));
  if (missing.length === 0) return [ok("privileges", `${user} may read the log`)];
  return missing.map(([, name]) => ({
    id: "privileges",
    level: "error" as const,
    what: `MR2008 ${user} lacks ${name}`,
    fix: `GRANT ${name} ON *.* TO ${user};`,
    byPrivilege: true,
  }));
}

/** As many tables as the runtime reads at once in an initial snapshot. */
const TABLES_AT_ONCE = 2;
/** For the log and for the catalogue. */
const OTHER_CONNECTIONS = 2;

/** A user's limit of connections below what an initial snapshot may use. */
async function connections(
  { copySessions, server }: SourceParts,
  { flavour, hasGtids }: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const isLocking = flavour === "mysql" && !hasGtids;
  const wanted = TABLES_AT_ONCE * (copySessions + (isLocking ? 1 : 0)) + OTHER_CONNECTIONS;
  const sql = "SELECT @@SESSION.max_user_connections";
  const [row] = await server.rows("reading the user's limits", sql, signal);
  const limit = Number(row?.[0] ?? 0);
  // 0: the user may have as many as the server.
  if (limit === 0 || limit >= wanted) return [];
  return [
    warning(
      "connections",
      `the user may have ${limit} connections; an initial snapshot reads large tables with up to ${wanted}, and here with fewer`,
      `ALTER USER ${await server.currentUser(signal)} WITH MAX_USER_CONNECTIONS ${wanted}; or lower \`source.copySessions\`.`,
    ),
  ];
}

function expiry(facts: ServerFacts): Finding {
  const seconds = expirySeconds(facts);
  if (seconds === 0) return ok("expiry", "the server never deletes its log by itself");
  const hours = Math.floor(seconds / 3600);
  if (seconds >= EXPIRY_SECONDS_LOW) return ok("expiry", `the server keeps its log for ${hours} h`);
  return warning(
    "expiry",
    `the server deletes its log after ${hours} h: an outage that lasts longer is a gap`,
    `SET ${facts.flavour === "mariadb" ? "GLOBAL" : "PERSIST"} binlog_expire_logs_seconds = 604800`,
  );
}

async function tables({ tables: all }: SourceParts, signal: AbortSignal): Promise<readonly Finding[]> {
  try {
    const { tables: captured, refused, missing, unlogged, uncarried } = await all.select(false, signal);
    const findings = missing.map((name): Finding =>
      wrong(
        "tables",
        `MR2020 the table ${name} does not exist, or the user may not read it`,
        "Correct its name in `tables` (database.table), create it first, or GRANT SELECT on it.",
      ),
    );
    for (const what of unlogged) findings.push(wrong("log_filter", `MR2005 ${what}`, LOG_FIX));
    for (const { id, reason, fix, isCopy, byPrivilege = false } of refused) {
      const level = all.names.literals.includes(id) ? "error" : isCopy === true ? "ok" : "warning";
      findings.push({ id: "tables", level, what: `${id} is left out: ${reason}`, fix, byPrivilege });
    }
    if (uncarried.length > 0)
      findings.push(
        warning(
          "generated",
          `this server leaves generated columns out of its log, so they are in no sink: ${uncarried.join(", ")}`,
          "If sinks shall have them, compute them there, or fill plain columns by triggers.",
        ),
      );
    return [
      ...findings,
      ok("tables", `${captured.length} ${captured.length === 1 ? "table" : "tables"} can be captured`),
    ];
  } catch (error) {
    const found = findMillraceError(error);
    if (found === undefined) throw error;
    return [failed("tables", found)];
  }
}

interface GeneratedColumn {
  readonly name: string;
  readonly type: string;
  /** Null: it is not computed at each read. */
  readonly expression: string | null;
}

/** Logged generated columns whose values depend on the time zone of the session; MariaDB logs none from 11.8 on. */
async function zoneColumns({ server, tables }: SourceParts, signal: AbortSignal): Promise<readonly Finding[]> {
  const rows = await server.rows(
    "reading the generated columns",
    `SELECT c.table_schema, c.table_name, c.column_name, c.data_type,
       CASE WHEN c.extra LIKE '%VIRTUAL GENERATED%' THEN c.generation_expression END
     FROM information_schema.columns c JOIN (
       SELECT DISTINCT table_schema, table_name FROM information_schema.columns WHERE extra LIKE '%VIRTUAL GENERATED%' /*M!110800 AND FALSE */
     ) v ON v.table_schema = c.table_schema AND v.table_name = c.table_name
     ORDER BY c.table_schema, c.table_name, c.ordinal_position`,
    signal,
  );
  const captured = rows.filter(([schema, table]) =>
    tables.names.captures({ schema: schema ?? "", table: table ?? "" }),
  );
  const byTable = Map.groupBy(captured, ([schema, table]) => tableId(schema ?? "", table ?? ""));
  return [...byTable].flatMap(([table, found]) => {
    const columns = found.map(([, , name, type, expression]) => ({
      name: name ?? "",
      type: type ?? "",
      expression: expression ?? null,
    }));
    return dependent(columns).map((name) =>
      warning(
        "zone_columns",
        `the generated column ${name} of ${table} is VIRTUAL and computed from a TIMESTAMP: the log has it in the time zone of the session that wrote the row, rows that are read have it in UTC, so copies may differ from the stream`,
        "Make it STORED, compute it from a DATETIME, or drop it by a rule: columns: { NAME: { drop: true } }. If a rule drops it already, nothing is left to do.",
      ),
    );
  });
}

/** Names of the virtual columns that are computed from a TIMESTAMP, directly or through other columns. */
function dependent(columns: readonly GeneratedColumn[]): readonly string[] {
  const dependentOnZone = new Set(
    columns.filter(({ type }) => type.toLowerCase() === "timestamp").map(({ name }) => name),
  );
  const virtual = columns.filter(({ expression }) => expression !== null);
  const found = new Set<string>();
  for (let size = -1; size !== found.size;) {
    size = found.size;
    for (const { name, expression } of virtual) {
      if (![...dependentOnZone].some((other) => other !== name && names(expression ?? "", other))) continue;
      found.add(name);
      dependentOnZone.add(name);
    }
  }
  return [...found];
}

/** Servers print every name of an expression in backticks. */
function names(expression: string, column: string): boolean {
  return expression.toLowerCase().includes(`\`${column.replaceAll("`", "``").toLowerCase()}\``);
}

/**
 * What the source's user needs, as a script for an administrator of MySQL or MariaDB. From the configuration alone: a user
 * without grants sees no table. `globs` as in `source.tables`.
 */
export function grantScripts({ user, database }: MysqlAddress, globs: readonly string[]): readonly GrantScript[] {
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

/** Runs the script with the login of another address. */
export async function grantBy(
  source: MysqlAddress,
  globs: readonly string[],
  administrator: Server,
  signal: AbortSignal,
): Promise<readonly GrantScript[]> {
  const doing = "granting what the user needs";
  const who = quoteAccount(`${source.user}@%`);
  const scripts = grantScripts(source, globs);
  // A user that is there keeps its password.
  await administrator.rows(
    doing,
    `CREATE USER IF NOT EXISTS ${who} IDENTIFIED BY '${source.password.replaceAll("'", "''")}'`,
    signal,
  );
  for (const { script } of scripts)
    for (const line of script.split("\n")) if (!line.startsWith("--")) await administrator.rows(doing, line, signal);
  return scripts;
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
