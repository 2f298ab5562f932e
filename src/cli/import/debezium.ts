/** A Debezium connector's configuration as one of Millrace: the source, its tables and rules, and the topics as a sink. */
import { nameFrom } from "../init/init-file.ts";
import type { DebeziumConfig, LeftOut, Variable } from "./debezium-config.ts";
import { rulesFrom } from "./debezium-rules.ts";
import { sinkFrom } from "./debezium-sink.ts";
import { tablesFrom } from "./debezium-tables.ts";

export interface Imported {
  readonly config: Readonly<Record<string, unknown>>;
  readonly left: readonly LeftOut[];
  readonly variables: readonly Variable[];
}

const NAME = /^[a-z][a-z0-9_]{0,39}$/;
const HEARTBEAT_MS = { min: 100, max: 3_600_000 };

export function importedFrom(kind: string, given: DebeziumConfig): Imported {
  const { name, prefix } = naming(given);
  const variables: Variable[] = [];
  const url = urlFrom(kind, given, (key, label) => {
    const variable = `${name.toUpperCase()}_${label}`;
    variables.push({ name: variable, from: key });
    return `\${${variable}}`;
  });
  const tables = tablesFrom(kind, given);
  const rules = rulesFrom(given);
  const hashes = Object.values(rules).some(({ columns }) =>
    Object.values(columns ?? {}).some((rule) => rule.mask === "hash"),
  );
  if (hashes) variables.push({ name: "MASK_KEY", from: "column.mask.hash.*" });
  const source = {
    kind,
    url,
    ...(tables.length === 0 ? {} : { tables }),
    ...(kind === "postgres" ? postgresKeys(name, given) : mysqlKeys(given)),
    ...snapshotFrom(given),
    ...heartbeatFrom(given),
  };
  const config = {
    name,
    source,
    sinks: { stream: sinkFrom(name, prefix, given, variables) },
    ...(Object.keys(rules).length === 0 ? {} : { tables: rules }),
    ...(hashes ? { maskKey: "${MASK_KEY}" } : {}),
  };
  given.leaveRest();
  return { config, left: given.left, variables };
}

/** Millrace's topics are named <prefix><name>.<schema>.<table>. */
function naming(given: DebeziumConfig): { readonly name: string; readonly prefix: string } {
  const key = "topic.prefix";
  const topic = given.take(key, "database.server.name") ?? "";
  const name = topic.slice(topic.lastIndexOf(".") + 1);
  if (NAME.test(name)) return { name, prefix: topic.slice(0, -name.length) };
  const plain = nameFrom(`x:///${encodeURIComponent(topic)}`);
  if (topic !== "")
    given.leave(key, `a name has lower-case letters, digits and _ only: topics are named ${plain}.<schema>.<table>`);
  return { name: plain, prefix: "" };
}

type Reference = (key: string, label: string) => string;

function urlFrom(kind: string, given: DebeziumConfig, reference: Reference): string {
  // `${…}` in Debezium's file is a secret store of Kafka Connect's.
  const taken = (key: string, label: string): string | null => {
    const value = given.take(key);
    return value?.includes("${") === true ? reference(key, label) : value && encodeURIComponent(value);
  };
  const hostKey = "database.hostname";
  const host = given.take(hostKey) ?? "localhost";
  const place = host.includes("${") ? reference(hostKey, "HOST") : host.includes(":") ? `[${host}]` : host;
  const port = taken("database.port", "PORT");
  const user = taken("database.user", "USER");
  const password = given.take("database.password") === null ? "" : `:${reference("database.password", "PASSWORD")}`;
  const login = user === null ? "" : `${user}${password}@`;
  const database = kind === "postgres" ? (taken("database.dbname", "DATABASE") ?? "") : "";
  const parameters = kind === "postgres" ? postgresTls(given) : mysqlTls(given);
  const query =
    parameters.length === 0
      ? ""
      : `?${parameters.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")}`;
  return `${kind}://${login}${place}${port === null ? "" : `:${port}`}/${database}${query}`;
}

type Parameters = readonly (readonly [string, string])[];

function postgresTls(given: DebeziumConfig): Parameters {
  const mode = given.take("database.sslmode");
  const found: (readonly [string, string])[] = mode === null ? [] : [["sslmode", mode]];
  for (const name of ["sslrootcert", "sslcert"]) {
    const file = given.take(`database.${name}`);
    if (file !== null) found.push([name, file]);
  }
  const keyFile = given.take("database.sslkey");
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
  const mode = given.take("database.ssl.mode");
  return mode === null ? [] : [["ssl-mode", mode.toUpperCase()]];
}

function postgresKeys(name: string, given: DebeziumConfig): object {
  const plugin = given.take("plugin.name") ?? "pgoutput";
  if (plugin !== "pgoutput") given.leave("plugin.name", "Millrace reads pgoutput, which every server has");
  const slot = given.take("slot.name") ?? "debezium";
  given.leave(
    "slot.name",
    `Millrace makes millrace_${name}, so that both can run side by side; when Debezium is gone: SELECT pg_drop_replication_slot('${slot.replaceAll("'", "''")}')`,
  );
  const mode = given.take("publication.autocreate.mode");
  const publication = given.take("publication.name");
  // Where Debezium makes none, an administrator has made it, and would have to make another one.
  if (publication !== null && mode === "disabled") return { publication };
  if (publication !== null)
    given.leave("publication.name", `Millrace makes millrace_${name}, and keeps it equal to \`tables\``);
  return {};
}

function mysqlKeys(given: DebeziumConfig): object {
  if (given.take("database.server.id") !== null)
    given.leave(
      "database.server.id",
      "Millrace derives its own from the name, so that both can run side by side: `serverId` sets it",
    );
  return {};
}

function snapshotFrom(given: DebeziumConfig): object {
  const key = "snapshot.mode";
  const mode = given.take(key);
  switch (mode) {
    case null:
    case "initial":
      return {};
    case "never":
    case "no_data":
    case "schema_only":
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
      given.leave(key, "Millrace knows `initial` and `none`");
      return {};
  }
}

function heartbeatFrom(given: DebeziumConfig): object {
  const ms = Number(given.take("heartbeat.interval.ms") ?? 0);
  if (!Number.isInteger(ms) || ms <= 0) return {};
  return { heartbeat: `${Math.min(Math.max(ms, HEARTBEAT_MS.min), HEARTBEAT_MS.max)}ms` };
}
