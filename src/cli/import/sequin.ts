/** Sequin's sequin.yaml as a configuration of Millrace: one of its databases, and the sinks that take it. */
import { isDeepStrictEqual } from "node:util";
import { isGlob } from "../../core/table-selection.ts";
import { cliError } from "../errors.ts";
import { asName } from "../init/init-file.ts";
import { refuseOthers, yamlObject } from "./connector-file.ts";
import { Findings, type Imported, UNDECIDED } from "./findings.ts";
import { type Reasons, Section, urlOf } from "./section.ts";

interface SinkKeys {
  readonly kind: string;
  readonly tables?: readonly string[];
  readonly [key: string]: unknown;
}

interface SequinConfig {
  readonly name: string;
  readonly source: { readonly kind: string; readonly url: string; readonly tables?: readonly string[] };
  readonly sinks: Readonly<Record<string, SinkKeys>>;
}

/** `from`: the name of the database; null: the file's only one. */
export function importedFromSequin(file: string, text: string, from: string | null): Imported<SequinConfig> {
  refuseOthers(file, text, "sequin");
  const findings = new Findings();
  const root = new Section(findings, "", yamlObject(file, text));
  const databases = root.entries("databases").map((section) => ({ section, given: section.text("name") ?? "" }));
  const chosen = databases.filter(({ given }) => from === null || given === from);
  const [database] = chosen;
  const names = databases.map(({ given }) => JSON.stringify(given)).join(", ");
  if (database === undefined) throw cliError("MR1140", `${file} has no such database; it has ${names || "none"}`);
  if (chosen.length > 1)
    throw cliError("MR1140", `${file} has ${chosen.length} databases; choose one with --from: ${names}`);
  const name = asName(database.given, 40) || "sequin";
  const source = sourceFrom(name, database.section);
  const functions = [...root.entries("functions"), ...root.entries("transforms")];
  const byName = new Map(functions.map((each) => [each.text("name") ?? "", each]));
  const taken = root.entries("sinks").filter((sink) => {
    const own = sink.text("database") ?? database.given;
    if (own !== database.given) sink.note("database", `it takes ${own}, another database`);
    return own === database.given;
  });
  const made = taken.map((sink) => sinkFrom(name, sink, byName)).filter((sink) => sink !== null);
  root.leaveRest(OF_FILE, true);
  const all = made.every(({ tables }) => tables !== null && tables.some((each) => !each.startsWith("!")))
    ? [...new Set(made.flatMap(({ tables }) => tables ?? []))].filter((each) => !each.startsWith("!"))
    : null;
  const isOneSelection = made.every(({ tables }) => isDeepStrictEqual(tables, made[0]?.tables));
  const captured = isOneSelection ? (made[0]?.tables ?? null) : all;
  const sinks = made.map(({ name: own, keys, tables }): readonly [string, SinkKeys] => [
    own,
    isOneSelection || tables === null ? keys : { ...keys, tables },
  ]);
  const isUnnamed = new Set(sinks.map(([own]) => own)).size < sinks.length;
  if (isUnnamed) findings.block("sinks", "two of them would have one name here: give them others");
  if (sinks.length === 0) findings.block("sinks", "none of them can be carried over: choose a sink");
  const undecided = isUnnamed || sinks.length === 0 ? { [UNDECIDED]: { kind: UNDECIDED } } : {};
  return {
    config: {
      name,
      source: { ...source, ...(captured === null ? {} : { tables: captured }) },
      sinks: { ...Object.fromEntries(sinks), ...undecided },
    },
    left: findings.left,
    variables: findings.variables,
  };
}

const OF_FILE: Reasons = {
  needless: {
    "account users api_tokens": "Millrace has no accounts: `admin.tokens` protects its page and its API",
    http_endpoints: "no sink calls a webhook",
  },
  missing: {
    change_retentions: "a warehouse with `mode: history` keeps every change of a table",
  },
};

const OF_DATABASE: Reasons = {
  needless: {
    "id pool_size await_database ipv6 annotations":
      "Millrace connects by itself, again and again until the server answers",
  },
  missing: {
    use_local_tunnel: "write the address at which the database is reached",
    tables: "the publication and the sinks select tables",
  },
};

function sourceFrom(name: string, database: Section): SequinConfig["source"] {
  const slot = nameIn(database, "slot");
  const dropping = `when Sequin is gone: SELECT pg_drop_replication_slot('${(slot ?? "NAME").replaceAll("'", "''")}')`;
  database.note("slot", `Millrace makes millrace_${name}, so that both can run side by side; ${dropping}`);
  const publication = nameIn(database, "publication");
  const url = urlFrom(database, name.toUpperCase());
  const primary = database.has("primary") ? database.inner("primary") : null;
  const primaryUrl = primary === null ? {} : { primaryUrl: urlFrom(primary, `${name.toUpperCase()}_PRIMARY`) };
  primary?.leaveRest(OF_DATABASE);
  database.findings.leave(
    "backfills",
    "the tables are copied first: `snapshot: none` begins with the changes from now on",
  );
  database.leaveRest(OF_DATABASE);
  return {
    kind: "postgres",
    url,
    ...primaryUrl,
    ...(publication === null ? {} : { publication }),
    ...database.undecided(),
  };
}

/** `slot: { name }`, or `slot_name` as it was before. */
function nameIn(database: Section, key: string): string | null {
  const former = database.plain(`${key}_name`, `SEQUIN_${key.toUpperCase()}`);
  if (!database.has(key)) return former;
  const inner = database.inner(key);
  const own = inner.plain("name", `SEQUIN_${key.toUpperCase()}`);
  inner.leaveRest({
    needless: { "create_if_not_exists init_sql schemas": "the publication is there, and is used as it is" },
  });
  return own ?? former;
}

function urlFrom(section: Section, label: string): string {
  // With a login: the whole is a variable.
  const whole = section.secret("url", `${label}_URL`);
  if (whole !== null) return whole;
  const host = section.inUrl("hostname", `${label}_HOST`);
  if (host === null) section.block("hostname", "there is none");
  const parameters = section.flag("ssl") === true ? { sslmode: "require" } : {};
  return urlOf({
    kind: "postgres",
    host: host ?? "",
    port: section.inUrl("port", `${label}_PORT`) ?? "5432",
    user: section.inUrl("username", `${label}_USER`) ?? "postgres",
    password: section.secret("password", `${label}_PASSWORD`),
    database: section.inUrl("database", `${label}_DATABASE`),
    parameters,
  });
}

const OF_SINK: Reasons = {
  needless: {
    "id status_message annotations batch_size max_ack_pending max_storage_mb max_memory_mb max_retry_count max_deliver ack_wait_ms load_shedding_policy active_backfill health":
      "memory and pace are bounded without it, and nothing is dropped; the sink's `batch` has upper limits of one write",
  },
  missing: {
    "message_grouping group_column_names": "a record's key is the row's key, which orders its changes",
    timestamp_format: "times are texts in the envelope",
    enrichment: "no sink has values of other rows: documents join tables",
    actions: "every insert, update and delete is followed, so that sinks equal the source",
  },
};

interface MadeSink {
  readonly name: string;
  readonly keys: SinkKeys;
  /** Null: what the publication has. */
  readonly tables: readonly string[] | null;
}

/** Null: it is left out. */
function sinkFrom(daemon: string, sink: Section, functions: ReadonlyMap<string, Section>): MadeSink | null {
  const given = sink.text("name") ?? "";
  const name = asName(given, 40) || "sink";
  const status = sink.text("status") ?? "active";
  if (status !== "active") {
    sink.leave("status", `it is ${status}: the sink was left out`);
    return null;
  }
  const destination = sink.inner("destination");
  const keys = destinationFrom(`${daemon}_${name}`.toUpperCase(), destination);
  if (keys === null) return null;
  const tables = selectionOf(sink);
  for (const key of ["filter", "filters"])
    if (sink.isOtherThan("none", key))
      sink.block(key, "it leaves rows out: write its condition as `where` in `tables`, in SQL");
  transformOf(sink, functions);
  if (sink.isOtherThan("none", "routing"))
    sink.block("routing", "what goes where is not known: the sink writes all of a table under its name");
  // Of each table: only how its messages are grouped.
  for (const table of sink.entries("tables")) {
    table.text("name");
    table.leaveRest({ missing: OF_SINK.missing ?? {} });
  }
  sink.leaveRest(OF_SINK);
  return { name, keys: { ...keys, ...sink.undecided() }, tables };
}

const OF_FUNCTION = new Set(["id", "name", "type", "description", "transform"]);

/** What a message shows of a row. */
function transformOf(sink: Section, functions: ReadonlyMap<string, Section>): void {
  const key = "transform";
  if (!sink.isOtherThan("none", key)) return;
  const called = functions.get(sink.text(key) ?? "");
  const own = called?.has("transform") === true ? called.inner("transform") : called;
  const isOfRecord = own?.text("type") === "path" && own.text("path") === "record";
  const others = [called, own].flatMap((part) => part?.keysFrom("") ?? []).filter((each) => !OF_FUNCTION.has(each));
  if (isOfRecord && others.length === 0)
    sink.leave(key, "path record: a message is the row alone; the sink's form has the row beside other fields");
  else sink.block(key, "write what it leaves of the rows to `tables`: `columns: { only: […] }`");
}

/** Null: all that the publication has. Names of tables are written as they are, with their schema. */
function selectionOf(sink: Section): readonly string[] | null {
  const source = sink.inner("source");
  const names = (section: Section, key: string, isTable: boolean): readonly string[] | null => {
    const texts = section.has(key) ? section.texts(key) : null;
    // A schema with a point in its name would read as another one's table.
    const isOdd = (each: string) =>
      isGlob(each) || each.startsWith("!") || each.includes("${") || each === "" || (!isTable && each.includes("."));
    const odd = texts?.find(isOdd);
    if (odd !== undefined) section.block(key, "one of its names can't be written as it is: write `source.tables`");
    return texts?.map((each) => (isTable && !each.includes(".") ? `public.${each}` : each)) ?? null;
  };
  const schemas = names(source, "include_schemas", false) ?? names(sink, "schema", false);
  const tables = names(source, "include_tables", true) ?? names(sink, "table", true);
  const noSchemas = names(source, "exclude_schemas", false) ?? [];
  const noTables = names(source, "exclude_tables", true) ?? [];
  source.leaveRest({});
  const schemaOf = (table: string) => table.slice(0, table.indexOf("."));
  const both = tables?.filter((table) => schemas?.includes(schemaOf(table)) !== false);
  const included = both ?? schemas?.map((schema) => `${schema}.*`) ?? [];
  if (tables !== null && included.length === 0) source.block("include_tables", "none is in one of the schemas");
  const excluded = [...noSchemas.map((schema) => `!${schema}.*`), ...noTables.map((table) => `!${table}`)];
  const blocked = UNDECIDED in sink.undecided() ? [UNDECIDED] : [];
  const all = [...blocked, ...included, ...excluded];
  return all.length === 0 ? null : all;
}

const OF_DESTINATION: Reasons = {
  needless: { "connection_id batch_size timeout_seconds": "the sink connects, waits and batches by itself" },
  missing: {
    "index_name routing_mode": "the index is named <prefix><schema>.<table>",
    expire_ms: "keys do not expire: a deleted row's key is removed",
    mode: "keys are named <prefix><schema>:<table>:<id>",
    "aws_region auth_method": "the login is by user and password",
  },
};

/** Null: Millrace has no such sink. */
function destinationFrom(label: string, destination: Section): (Record<string, unknown> & SinkKeys) | null {
  const type = destination.text("type") ?? "";
  const made = ofType(type, label, destination);
  if (made === null) {
    destination.leave("type", `Millrace has no sink of the type ${JSON.stringify(type)}: it was left out`);
    return null;
  }
  destination.leaveRest(OF_DESTINATION);
  return made;
}

function ofType(type: string, label: string, destination: Section): SinkKeys | null {
  if (type === "kafka") {
    const username = destination.plain("username", `${label}_USER`);
    const password = destination.secret("password", `${label}_PASSWORD`);
    const mechanism = (destination.text("sasl_mechanism") ?? "plain").toUpperCase().replaceAll("_", "-");
    const topic = destination.plain("topic", `${label}_TOPIC`);
    destination.leave(
      "type",
      "a message is Millrace's envelope: op, key, before and after in place of action, record, changes and metadata",
    );
    return {
      kind: "kafka",
      brokers: (destination.plain("hosts", `${label}_BROKERS`) ?? "localhost:9092")
        .split(",")
        .map((each) => each.trim()),
      ...(topic === null ? {} : { topic }),
      ...(destination.flag("tls") === true ? { tls: true } : {}),
      ...(username === null ? {} : { sasl: { mechanism, username, ...(password === null ? {} : { password }) } }),
    };
  }
  if (type === "redis_string") {
    destination.leave("type", "a value is the row as JSON, with its version, under <prefix><schema>:<table>:<id>");
    const url = urlOf({
      kind: destination.flag("tls") === true ? "rediss" : "redis",
      host: destination.inUrl("host", `${label}_HOST`) ?? "localhost",
      port: destination.inUrl("port", `${label}_PORT`) ?? "6379",
      user: destination.inUrl("username", `${label}_USER`),
      password: destination.secret("password", `${label}_PASSWORD`),
      database: destination.inUrl("database", `${label}_DATABASE`) ?? "0",
    });
    return { kind: "redis", url, format: "json" };
  }
  if (type !== "elasticsearch") return null;
  const kind = destination.text("auth_type") ?? "api_key";
  const url =
    kind === "basic"
      ? destination.secret("endpoint_url", `${label}_URL`)
      : destination.address("endpoint_url", `${label}_URL`);
  if (kind === "basic") destination.leave("auth_value", "write user and password into the url: http://user:password@…");
  else if (kind !== "api_key") destination.block("auth_value", "write `apiKey`, or user and password into the url");
  const apiKey = kind === "api_key" ? destination.secret("auth_value", `${label}_API_KEY`) : null;
  return { kind: "elasticsearch", url: url ?? "", ...(apiKey === null ? {} : { apiKey }) };
}
