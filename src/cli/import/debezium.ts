/** A Debezium connector's configuration as one of Millrace: the source, its tables and rules, and the topics as a sink. */
import { isTopicText } from "../../../connectors/kafka/names.ts";
import { asName } from "../init/init-file.ts";
import type { DebeziumConfig } from "./debezium-config.ts";
import { HiddenColumns, type TableRules } from "./debezium-rules.ts";
import { sinkFrom } from "./debezium-sink.ts";
import { tablesFrom } from "./debezium-tables.ts";
import { shapedBy } from "./debezium-transforms.ts";
import { type Imported, UNDECIDED, type Variable } from "./findings.ts";

/** As millrace.yaml has it; sources and sinks have further keys. */
interface ImportedConfig {
  readonly name: string;
  readonly source: { readonly kind: string; readonly url: string; readonly tables?: readonly string[] };
  readonly sinks: { readonly stream: object };
  readonly tables?: Readonly<Record<string, TableRules>>;
  readonly maskKey?: string;
}

const NAME = /^[a-z][a-z0-9_]{0,39}$/;
const PREFIX_LENGTH_MAX = 100;
const HEARTBEAT_MS = { min: 100, max: 3_600_000 };

export function importedFrom(kind: string, given: DebeziumConfig): Imported<ImportedConfig> {
  const { name, prefix } = naming(given);
  const variables: Variable[] = [];
  const reference: Reference = (key, label) => {
    const variable = `${name.toUpperCase()}_${label}`;
    variables.push({ name: variable, from: key });
    return `\${${variable}}`;
  };
  const url = urlFrom(kind, given, reference);
  const tables = tablesFrom(kind, given);
  const hidden = new HiddenColumns(given, tables);
  const shaped = shapedBy(given, hidden);
  const snapshot = snapshotFrom(given, hidden);
  const own = kind === "postgres" ? postgresKeys(name, given, hidden, reference) : mysqlKeys(given, hidden);
  const sink = sinkFrom({ name, prefix, shaped }, given, variables);
  const heartbeat = heartbeatFrom(given);
  skippedOperations(given);
  if (given.leaveRest(variables) === "unsure") hidden.hideAll();
  const rules = hidden.rules();
  const hashes = Object.values(rules).some(({ columns }) =>
    Object.values(columns ?? {}).some((rule) => !Array.isArray(rule) && "mask" in rule && rule.mask === "hash"),
  );
  if (hashes) variables.push({ name: "MASK_KEY", from: "column.mask.hash.*" });
  const source = {
    kind,
    url,
    ...(tables.length === 0 ? {} : { tables }),
    ...own,
    ...snapshot,
    ...heartbeat,
  };
  const config = {
    name,
    source,
    sinks: { stream: sink },
    ...(Object.keys(rules).length === 0 ? {} : { tables: rules }),
    ...(hashes ? { maskKey: "${MASK_KEY}" } : {}),
  };
  return { config, left: given.left, variables };
}

/** Millrace's topics are named <prefix><name>.<schema>.<table>. */
function naming(given: DebeziumConfig): { readonly name: string; readonly prefix: string } {
  const key = "topic.prefix";
  const topic = given.take(key, "database.server.name") ?? "";
  const name = topic.slice(topic.lastIndexOf(".") + 1);
  const prefix = topic.slice(0, -name.length);
  if (NAME.test(name) && prefix.length <= PREFIX_LENGTH_MAX && isTopicText(prefix)) return { name, prefix };
  if (topic.includes("${")) {
    given.leave(key, "it is a reference: write `name`, and `prefix` of the sink, by hand");
    return { name: "debezium", prefix: "" };
  }
  const plain = asName(topic, 40) || "millrace";
  if (topic !== "")
    given.leave(key, `a name has lower-case letters, digits and _ only: topics are named ${plain}.<schema>.<table>`);
  return { name: plain, prefix: "" };
}

type Reference = (key: string, label: string) => string;

function urlFrom(kind: string, given: DebeziumConfig, reference: Reference): string {
  // `${…}` in Debezium's file is a secret store of Kafka Connect's: the whole value becomes a variable.
  const taken = (key: string, label: string): string | null => {
    const value = given.take(key);
    return value?.includes("${") === true ? reference(key, label) : value && encodeURIComponent(value);
  };
  const { host, port: ownPort } = hostFrom(given, reference);
  const port = taken("database.port", "PORT") ?? ownPort;
  const user = taken("database.user", "USER");
  const password = given.take("database.password") === null ? "" : `:${reference("database.password", "PASSWORD")}`;
  const login = user === null ? "" : `${user}${password}@`;
  const database = kind === "postgres" ? (taken("database.dbname", "DATABASE") ?? "") : "";
  const parameters = kind === "postgres" ? postgresTls(given, taken) : mysqlTls(given);
  const query = parameters.length === 0 ? "" : `?${parameters.map(([name, value]) => `${name}=${value}`).join("&")}`;
  return `${kind}://${login}${host}${port === null ? "" : `:${port}`}/${database}${query}`;
}

/** A driver takes a list of hosts, each with a port of its own or none. */
function hostFrom(
  given: DebeziumConfig,
  reference: Reference,
): { readonly host: string; readonly port: string | null } {
  const key = "database.hostname";
  const text = given.take(key) ?? "localhost";
  if (text.includes("${")) return { host: reference(key, "HOST"), port: null };
  const [first = "", ...others] = text.split(",").map((each) => each.trim());
  if (others.length > 0)
    given.leave(key, `the url names one host, here ${first}: a name that always leads to the primary is best`);
  const [, address, named, port = null] = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d+))?$/.exec(first) ?? [];
  return { host: named === undefined ? `[${address ?? first}]` : encodeURIComponent(named), port };
}

/** What is in none of these lists becomes the strictest mode. */
const POSTGRES_SSL_MODES = new Map([
  ...["disable", "prefer", "require", "verify-ca", "verify-full"].map((mode) => [mode, mode] as const),
  ["allow", "prefer"] as const,
]);

/** MySQL's words and MariaDB's. */
const MYSQL_SSL_MODES = new Map([
  ["disabled", "DISABLED"],
  ["disable", "DISABLED"],
  ["preferred", "PREFERRED"],
  ["required", "REQUIRED"],
  ["trust", "REQUIRED"],
  ["verify-ca", "VERIFY_CA"],
  ["verify-identity", "VERIFY_IDENTITY"],
  ["verify-full", "VERIFY_IDENTITY"],
]);

type Parameters = readonly (readonly [string, string])[];

/** `taken`: as a url has it. */
function postgresTls(given: DebeziumConfig, taken: (key: string, label: string) => string | null): Parameters {
  const word = given.takeWord("database.sslmode");
  const mode = word === null ? null : (POSTGRES_SSL_MODES.get(word) ?? "verify-full");
  if (mode !== null && mode !== word) given.leave("database.sslmode", `it is no mode of Millrace; ${mode} was written`);
  const found: (readonly [string, string])[] = mode === null ? [] : [["sslmode", mode]];
  for (const name of ["sslrootcert", "sslcert"]) {
    const file = taken(`database.${name}`, name.toUpperCase());
    if (file !== null) found.push([name, file]);
  }
  const keyFile = taken("database.sslkey", "SSLKEY");
  if (keyFile !== null) {
    found.push(["sslkey", keyFile]);
    given.leave(
      "database.sslkey",
      "it is written into the url, and must be a PEM file without a password; Debezium's is DER",
    );
  }
  if (given.take("database.sslpassword") !== null)
    given.leave("database.sslpassword", "the key file must have no password: openssl pkey -in OLD -out NEW");
  return found;
}

function mysqlTls(given: DebeziumConfig): Parameters {
  for (const [key] of given.startingWith("database.ssl."))
    if (/(key|trust)store/.test(key)) given.leave(key, "the url takes PEM files: ssl-ca, ssl-cert and ssl-key");
  const key = "database.ssl.mode";
  const word = given.takeWord(key);
  if (word === null) return [];
  const mode = MYSQL_SSL_MODES.get(word.replaceAll("_", "-"));
  if (mode === undefined) given.leave(key, "it is no mode of MySQL or MariaDB; VERIFY_IDENTITY was written");
  return [["ssl-mode", mode ?? "VERIFY_IDENTITY"]];
}

function postgresKeys(name: string, given: DebeziumConfig, hidden: HiddenColumns, reference: Reference): object {
  idleLists("database", given);
  const plugin = given.takeWord("plugin.name") ?? "pgoutput";
  if (plugin !== "pgoutput") given.leave("plugin.name", "Millrace reads pgoutput, which every server has");
  const slot = given.take("slot.name") ?? "debezium";
  given.note(
    "slot.name",
    `Millrace makes millrace_${name}, so that both can run side by side; when Debezium is gone: SELECT pg_drop_replication_slot('${slot.replaceAll("'", "''")}')`,
  );
  const parameters = given.take("slot.stream.params");
  // Of wal2json: `add-tables`, `filter-tables`, `filter-columns` …
  if (parameters !== null && /add-|filter-/.test(parameters)) {
    given.block("slot.stream.params", "it leaves tables or columns out: write them to `source.tables` and `tables`");
    hidden.hideAll();
  } else if (parameters !== null) given.note("slot.stream.params", "Millrace chooses pgoutput's parameters itself");
  const mode = given.takeWord("publication.autocreate.mode");
  const publication = given.take("publication.name");
  // Where Debezium makes none, or an empty one, an administrator says what is in it, and would have to say it again.
  if (mode === "disabled" || mode === "no_tables") {
    if (publication?.includes("${") === true) return { publication: reference("publication.name", "PUBLICATION") };
    return { publication: publication ?? "dbz_publication" };
  }
  const own = `Millrace makes millrace_${name}, and keeps it equal to \`tables\``;
  if (publication !== null && mode === "filtered") given.note("publication.name", own);
  else if (publication !== null)
    given.leave(
      "publication.name",
      `${own}; if somebody made this one, with row filters, lists of columns or fewer tables: \`publication: ${publication}\` in \`source\``,
    );
  return {};
}

/** Lists that the connector of this kind does not read. */
function idleLists(part: "database" | "schema", given: DebeziumConfig): void {
  for (const word of ["include.list", "exclude.list", "whitelist", "blacklist"])
    if (given.take(`${part}.${word}`) !== null) given.leave(`${part}.${word}`, "this connector does not read it");
}

function mysqlKeys(given: DebeziumConfig, hidden: HiddenColumns): object {
  idleLists("schema", given);
  const isFilter = given.takeFlag("gtid.source.filter.dml.events") !== false;
  for (const key of ["gtid.source.includes", "gtid.source.excludes"])
    if (isFilter && given.take(key) !== null) {
      given.block(key, "it leaves out changes by where they were made: no rule of Millrace tells them apart");
      hidden.filter();
    }
  if (given.take("database.server.id") !== null)
    given.note(
      "database.server.id",
      "Millrace derives its own from the name, so that both can run side by side: `serverId` sets it",
    );
  return {};
}

/** A first copy that leaves out tables or rows is no copy of all that is captured. */
function snapshotFrom(given: DebeziumConfig, hidden: HiddenColumns): object {
  const mode = snapshotMode(given);
  if ("snapshot" in mode) {
    for (const start of ["snapshot.include.", "snapshot.select.", "snapshot.query."])
      for (const [key] of given.startingWith(start)) given.note(key, "nothing is copied at the start");
    return mode;
  }
  if (given.takeWord("snapshot.query.mode") === "select_all") given.note("snapshot.query.mode", "so it is");
  const selects = [
    ...given.startingWith("snapshot.select.statement.overrides"),
    ...given.startingWith("snapshot.query.mode").filter(([, value]) => value.trim().toLowerCase() !== "select_all"),
  ].flatMap(([key, value]) => (value.trim() === "" ? [] : [key]));
  for (const key of selects) given.block(key, "it selects rows: write its condition as `where` in `tables`, in SQL");
  if (selects.length > 0) hidden.filter();
  const list = "snapshot.include.collection.list";
  if (given.take(list) === null) return mode;
  given.block(list, "write `snapshot: none`; then `millrace snapshot start --tables …` copies those tables");
  return { snapshot: UNDECIDED };
}

function snapshotMode(given: DebeziumConfig): object {
  const key = "snapshot.mode";
  const mode = given.takeWord(key);
  switch (mode) {
    case null:
    case "initial":
      return {};
    case "never":
    case "no_data":
    case "schema_only":
    case "schema_only_recovery":
    case "recovery":
      return { snapshot: "none" };
    case "initial_only":
      given.leave(
        key,
        "the tables are copied, then followed: `millrace run --once` ends when every sink has all of it",
      );
      return {};
    case "when_needed":
      given.leave(key, "a lost position stops the daemon: `millrace recover` then reads what differs");
      return {};
    case "always":
      given.leave(key, "the tables are copied at the first start only: `millrace snapshot start` copies them again");
      return {};
    default:
      // A copy that nobody asked for can be large.
      given.block(key, "Millrace knows `initial` and `none`: write which of them is meant");
      return { snapshot: UNDECIDED };
  }
}

function heartbeatFrom(given: DebeziumConfig): object {
  const key = "heartbeat.interval.ms";
  const text = given.take(key);
  if (text === null || Number(text) === 0) return {};
  const ms = Number(text);
  const { min, max } = HEARTBEAT_MS;
  if (!Number.isInteger(ms) || ms < 0) {
    given.leave(key, "it is no number of milliseconds: `heartbeat` keeps its default");
    return {};
  }
  const own = Math.min(Math.max(ms, min), max);
  if (own !== ms) given.leave(key, `\`heartbeat\` is from ${min}ms to ${max / 3_600_000}h: ${own}ms was written`);
  return { heartbeat: `${own}ms` };
}

/** By default Debezium skips truncates alone. */
function skippedOperations(given: DebeziumConfig): void {
  const key = "skipped.operations";
  const text = given.takeWord(key);
  if (text === null || text === "none") return;
  const isKnown = text.split(",").every((each) => ["c", "u", "d", "t", "r"].includes(each.trim()));
  given.leave(
    key,
    isKnown
      ? "every insert, update, delete and truncate is followed, so that sinks equal the source"
      : "it is no list of c, u, d and t; every change is followed",
  );
}
