/** What the server is and how it is configured; checked before anything is read from it. */
import { errorNumber, sourceError } from "../errors.ts";
import type { Flavour } from "./event-header.ts";

/** Answers statements; every value is the text that the server sent. */
export interface Queryable {
  rows(doing: string, sql: string, signal: AbortSignal): Promise<(string | null)[][]>;
}

export interface ServerFacts {
  readonly flavour: Flavour;
  readonly version: string;
  /** MariaDB has none before 12. */
  readonly uuid: string;
  readonly serverId: number;
  readonly variables: ReadonlyMap<string, string>;
  /** MySQL: transactions have names of their own. MariaDB's always have. */
  readonly hasGtids: boolean;
  /** It takes rows from another server. Only known where it would not log them. */
  readonly isReplica: boolean;
}

const VARIABLES = [
  "version",
  "version_comment",
  "server_uuid",
  "server_id",
  "log_bin",
  "log_bin_basename",
  "binlog_format",
  "binlog_row_image",
  "binlog_row_metadata",
  "binlog_checksum",
  "gtid_mode",
  "binlog_expire_logs_seconds",
  "expire_logs_days",
  "binlog_expire_logs_auto_purge",
  "lower_case_table_names",
  "read_only",
  "log_replica_updates",
  "log_slave_updates",
  "wsrep_on",
  "binlog_error_action",
  "max_allowed_packet",
  "max_connections",
  "max_user_connections",
];

export async function readServer(server: Queryable, signal: AbortSignal): Promise<ServerFacts> {
  const facts = await readVariables(server, signal);
  return logsReplicated(facts) ? facts : { ...facts, isReplica: await isReplica(server, facts, signal) };
}

/** What every login is told. */
export async function readVariables(server: Queryable, signal: AbortSignal): Promise<ServerFacts> {
  const list = VARIABLES.map((name) => `'${name}'`).join(",");
  const sql = `SHOW GLOBAL VARIABLES WHERE variable_name IN (${list})`;
  const rows = await server.rows("reading the server's settings", sql, signal);
  const variables = new Map(rows.map(([name, value]) => [name?.toLowerCase() ?? "", value ?? ""]));
  const version = variables.get("version") ?? "";
  const isMariadb = /mariadb/i.test(`${version} ${variables.get("version_comment") ?? ""}`);
  return {
    flavour: isMariadb ? "mariadb" : "mysql",
    version,
    uuid: variables.get("server_uuid") ?? "",
    serverId: Number(variables.get("server_id") ?? "0"),
    variables,
    hasGtids: variables.get("gtid_mode")?.toUpperCase().startsWith("ON") === true,
    isReplica: false,
  };
}

/** MariaDB shows what it replicates only with a privilege that Millrace does not need, but counts it for everybody. */
async function isReplica(server: Queryable, { flavour }: ServerFacts, signal: AbortSignal): Promise<boolean> {
  const doing = "asking whether the server is a replica";
  if (flavour === "mariadb") {
    const [row] = await server.rows(doing, "SHOW GLOBAL STATUS LIKE 'Slaves_running'", signal);
    return Number(row?.[1] ?? 0) > 0;
  }
  return (await either(server, doing, "SHOW REPLICA STATUS", "SHOW SLAVE STATUS", signal)).length > 0;
}

/** Whether the log also has rows that come from other servers. */
function logsReplicated(facts: ServerFacts): boolean {
  return isOn(facts, facts.variables.has("log_replica_updates") ? "log_replica_updates" : "log_slave_updates");
}

interface Unfit {
  readonly id: string;
  readonly what: string;
  readonly fix: string;
}

/** Settings with which changes would be lost or unreadable. */
export function unfitSettings(facts: ServerFacts): readonly Unfit[] {
  const unfit: Unfit[] = [];
  const isMariadb = facts.flavour === "mariadb";
  if (!isOn(facts, "log_bin")) {
    unfit.push({
      id: "log_bin",
      what: "the server writes no binary log (log_bin is OFF)",
      fix: "Put log_bin, and a server_id, into the server's configuration file and restart it.",
    });
    return unfit;
  }
  if (!logsReplicated(facts) && (facts.isReplica || isOn(facts, "wsrep_on"))) {
    const name = isMariadb ? "log_slave_updates" : "log_replica_updates";
    unfit.push({
      id: name,
      what: `the log leaves out what the server takes from ${facts.isReplica ? "its source" : "other nodes"} (${name} is OFF)`,
      fix: `Put ${name} into the server's configuration file and restart it, or follow the server that the rows come from.`,
    });
  }
  // Servers on macOS. Rows would be of a table that the catalogue does not have.
  if (facts.variables.get("lower_case_table_names") === "2") {
    unfit.push({
      id: "lower_case_table_names",
      what: "the log has the names of tables in lower case where the catalogue has capitals (lower_case_table_names is 2)",
      fix: "Follow a server whose lower_case_table_names is 0, as in a container, or 1: it is set when its data folder is made.",
    });
  }
  for (const [name, wanted] of [
    ["binlog_format", "ROW"],
    ["binlog_row_image", "FULL"],
    ["binlog_row_metadata", "FULL"],
  ] as const) {
    const value = facts.variables.get(name) ?? "";
    // MariaDB's name for the same image is FULL_NODUP, in which a new row leaves out columns that the update did not
    // change.
    if (value.toUpperCase() === wanted) continue;
    const set = isMariadb
      ? `SET GLOBAL ${name} = '${wanted}'; and ${name} = ${wanted} in the configuration file; open sessions keep their own`
      : `SET PERSIST ${name} = '${wanted}'; open sessions keep their own`;
    unfit.push({
      id: name,
      what: `${name} is ${value === "" ? "not known to the server" : value}, not ${wanted}`,
      fix: set,
    });
  }
  return unfit;
}

export function checkVersion(facts: ServerFacts): void {
  const [major = 0, minor = 0] = facts.version.split(".").map((part) => Number.parseInt(part, 10));
  const isTooOld = facts.flavour === "mariadb" ? major < 10 || (major === 10 && minor < 5) : major < 8;
  if (isTooOld) throw sourceError("MR2005", "fatal", `the server is ${facts.flavour} ${facts.version}`);
}

export function checkServer(facts: ServerFacts, readerId: number): void {
  checkVersion(facts);
  const [first] = unfitSettings(facts);
  if (first !== undefined) throw sourceError("MR2005", "fatal", first.what, { hint: first.fix });
  if (facts.serverId === readerId) {
    throw sourceError("MR2012", "fatal", `source.serverId ${readerId} is the server's own server_id`);
  }
}

function isOn({ variables }: ServerFacts, name: string): boolean {
  return /^(on|1)$/i.test(variables.get(name) ?? "");
}

/** A longer statement ends the session. */
export function packetBytesMax({ variables }: ServerFacts): number {
  return Number(variables.get("max_allowed_packet"));
}

/** Seconds after which the server deletes files of its log; 0: never. */
export function expirySeconds({ variables }: ServerFacts): number {
  if (/^(off|0)$/i.test(variables.get("binlog_expire_logs_auto_purge") ?? "")) return 0;
  const seconds = Number(variables.get("binlog_expire_logs_seconds") ?? "0");
  return seconds > 0 ? seconds : Number(variables.get("expire_logs_days") ?? "0") * 86_400;
}

const SYNTAX_ERROR = 1064;

/** MySQL has renamed the statement; MariaDB has not. */
export async function either(
  server: Queryable,
  doing: string,
  sql: string,
  old: string,
  signal: AbortSignal,
): Promise<(string | null)[][]> {
  try {
    return await server.rows(doing, sql, signal);
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (errorNumber(cause) !== SYNTAX_ERROR) throw error;
    return await server.rows(doing, old, signal);
  }
}
