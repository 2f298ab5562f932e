/** Preflight of a MySQL or MariaDB source: everything that a start needs, each finding with its exact fix. */
import type { Finding } from "../../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import type { SourceContext } from "./context.ts";
import { classify } from "./errors.ts";
import { readLogFilter } from "./catalog/log-filter.ts";
import { readFiles, readTip } from "./log/log-state.ts";
import { currentUser } from "./catalog/hidden.ts";
import { LOG_FIX, selectTables } from "./catalog/selection.ts";
import { checkServer, expirySeconds, readServer, type ServerFacts, unfitSettings } from "./server.ts";
import { zoneColumns } from "./catalog/zone-columns.ts";
import { openHints, readOpen } from "./transactions/open.ts";
import { ok } from "../../kit/findings.ts";

const EXPIRY_SECONDS_LOW = 86_400;

export async function check(context: SourceContext, signal: AbortSignal): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  let facts: ServerFacts;
  try {
    facts = await readServer(context, signal);
  } catch (error) {
    const known = classify(error, "connecting");
    return [{ id: "connection", level: "error", what: known.message, fix: known.hint ?? null }];
  }
  const { flavour, version } = facts;
  findings.push(
    ok("connection", `${flavour === "mariadb" ? "MariaDB" : "MySQL"} ${version} at ${context.address.host}`),
  );
  const unfit = unfitSettings(facts);
  for (const { id, what, fix } of unfit) findings.push({ id, level: "error", what, fix });
  if (unfit.length === 0) {
    findings.push(ok("binlog", "the binary log holds whole rows with the names of their columns"));
    await collect(findings, "server_id", async () => checkServer(facts, context));
  }
  const hasLog = unfit.every(({ id }) => id !== "log_bin");
  await collect(findings, "grants", async () => {
    if (!hasLog) return;
    const tip = await readTip(context, signal);
    await readFiles(context, signal);
    findings.push(ok("log", `the log ends at ${context.names.format(tip)}`));
  });
  findings.push(
    ...(await grants(context, facts, signal)),
    expiry(facts),
    ...(await connections(context, facts, signal)),
    ...(hasLog ? await unnoticed(context, facts, signal) : []),
    ...(await open(context, signal)),
  );
  findings.push(...(await tables(context, signal)), ...(await cascades(context, facts, signal)));
  findings.push(...(await zoneColumns(context, signal)));
  return findings;
}

const OPEN_SECONDS_MAX = 60;

/** Whose locks a first copy, or a change of a table, may wait for. */
async function open(context: SourceContext, signal: AbortSignal): Promise<readonly Finding[]> {
  const hints = openHints(await readOpen(context, signal), OPEN_SECONDS_MAX);
  return hints.map((hint) => {
    const [what = hint, fix = null] = hint.split(/: (.*)/s);
    return { id: "transactions", level: "warning" as const, what, fix };
  });
}

/** What the log may leave out without a trace, by the server's settings. */
async function unnoticed(
  context: SourceContext,
  { variables }: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  await collect(findings, "log_filter", async () => {
    const filter = await readLogFilter(context, signal);
    if (!filter.isSet) return;
    const user = await currentUser(context, signal);
    findings.push({
      id: "log_filter",
      level: "warning",
      what: `the log leaves out the statements of sessions ${filter.sessions} (binlog-do-db, binlog-ignore-db). If they alter or empty a captured table, Millrace notices that at its next look at the catalogue, and resyncs the table, for partitions only with the privilege PROCESS; it can't notice what they write with binlog_format STATEMENT`,
      fix: `Take binlog-do-db and binlog-ignore-db out of the server's configuration and restart it; until then: GRANT PROCESS ON *.* TO ${user};`,
    });
  });
  if (/^ignore/i.test(variables.get("binlog_error_action") ?? ""))
    findings.push({
      id: "binlog_error_action",
      level: "warning",
      what: "if the server can't write its log, it goes on without one (binlog_error_action is IGNORE_ERROR)",
      fix: "SET PERSIST binlog_error_action = ABORT_SERVER",
    });
  return findings;
}

/** From this version on, MySQL logs the rows that a foreign key changes in other tables. */
const CASCADES_LOGGED = [9, 6] as const;

/** Foreign keys that change rows in a way that the log does not show. */
async function cascades(
  context: SourceContext,
  { flavour, version }: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  const [since, sinceMinor] = CASCADES_LOGGED;
  if (flavour === "mysql" && (major > since || (major === since && minor >= sinceMinor))) return [];
  const rows = await context.database.rows(
    "reading the foreign keys",
    "SELECT constraint_schema, table_name, constraint_name, delete_rule, update_rule FROM information_schema.referential_constraints WHERE delete_rule NOT IN ('NO ACTION', 'RESTRICT') OR update_rule NOT IN ('NO ACTION', 'RESTRICT')",
    signal,
  );
  return rows
    .filter(([schema, table]) => context.captures(schema ?? "", table ?? ""))
    .map(([schema, table, name, onDelete, onUpdate]) => ({
      id: "cascades",
      level: "warning" as const,
      what: `the foreign key ${name} of ${schema}.${table} (ON DELETE ${onDelete}, ON UPDATE ${onUpdate}) changes rows that this server does not log`,
      fix: "Delete and update the child rows by statements of the application, or read the table again after such changes: millrace snapshot start --tables.",
    }));
}

async function collect(findings: Finding[], id: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const known = classify(error, "asking the server");
    findings.push({ id, level: "error", what: `${known.code} ${known.message}`, fix: known.hint ?? null });
  }
}

/** What the user may do, as the server lists it; inactive roles are not in the list. */
async function grants(context: SourceContext, facts: ServerFacts, signal: AbortSignal): Promise<readonly Finding[]> {
  const rows = await context.database.rows("reading the user's grants", "SHOW GRANTS", signal);
  const text = rows.map(([line]) => line ?? "").join("\n");
  const user = await currentUser(context, signal);
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
    what: `MR2113 ${user} lacks ${name}`,
    fix: `GRANT ${name} ON *.* TO ${user};`,
  }));
}

/** As many tables as the runtime reads at once in an initial snapshot. */
const TABLES_AT_ONCE = 2;
/** For the log and for the catalogue. */
const OTHER_CONNECTIONS = 2;

/** A user's limit of connections below what an initial snapshot may use. */
async function connections(
  context: SourceContext,
  { flavour, hasGtids }: ServerFacts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { copySessions, database } = context;
  const isLocking = flavour === "mysql" && !hasGtids;
  const wanted = TABLES_AT_ONCE * (copySessions + (isLocking ? 1 : 0)) + OTHER_CONNECTIONS;
  const sql = "SELECT @@SESSION.max_user_connections";
  const [row] = await database.rows("reading the user's limits", sql, signal);
  const limit = Number(row?.[0] ?? 0);
  // 0: the user may have as many as the server.
  if (limit === 0 || limit >= wanted) return [];
  return [
    {
      id: "connections",
      level: "warning",
      what: `the user may have ${limit} connections; an initial snapshot reads large tables with up to ${wanted}, and here with fewer`,
      fix: `ALTER USER ${await currentUser(context, signal)} WITH MAX_USER_CONNECTIONS ${wanted}; or lower \`source.copySessions\`.`,
    },
  ];
}

function expiry(facts: ServerFacts): Finding {
  const seconds = expirySeconds(facts);
  if (seconds === 0) return ok("expiry", "the server never deletes its log by itself");
  const hours = Math.floor(seconds / 3600);
  if (seconds >= EXPIRY_SECONDS_LOW) return ok("expiry", `the server keeps its log for ${hours} h`);
  return {
    id: "expiry",
    level: "warning",
    what: `the server deletes its log after ${hours} h: an outage that lasts longer is a gap`,
    fix: `SET ${facts.flavour === "mariadb" ? "GLOBAL" : "PERSIST"} binlog_expire_logs_seconds = 604800`,
  };
}

async function tables(context: SourceContext, signal: AbortSignal): Promise<readonly Finding[]> {
  try {
    const { tables: captured, refused, missing, unlogged } = await selectTables(context, false, signal);
    const findings = missing.map((name): Finding => ({
      id: "tables",
      level: "error",
      what: `MR2115 the table ${name} does not exist, or the user may not read it`,
      fix: "Correct its name in `tables` (database.table), create it first, or GRANT SELECT on it.",
    }));
    for (const what of unlogged)
      findings.push({ id: "log_filter", level: "error", what: `MR2114 ${what}`, fix: LOG_FIX });
    for (const { id, reason, fix, isCopy } of refused) {
      const level = isNamed(context, id) ? "error" : isCopy === true ? "ok" : "warning";
      findings.push({ id: "tables", level, what: `${id} is left out: ${reason}`, fix });
    }
    return [
      ...findings,
      ok("tables", `${captured.length} ${captured.length === 1 ? "table" : "tables"} can be captured`),
    ];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [{ id: "tables", level: "error", what: `${known.code} ${known.message}`, fix: known.hint ?? null }];
  }
}

function isNamed({ literals }: SourceContext, id: string): boolean {
  return literals.includes(id);
}
