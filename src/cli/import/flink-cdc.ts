/** A pipeline of Flink CDC, as its YAML has it, as a configuration of Millrace. */
import { parseWhere, WhereError } from "../../rules/where/syntax.ts";
import { cliError } from "../errors.ts";
import { asName } from "../init/init-file.ts";
import { refuseOthers, yamlObject } from "./connector-file.ts";
import { globOf, haveCommonNames, nameGlobs, readExpression } from "./expression.ts";
import { Findings, type Imported, UNDECIDED } from "./findings.ts";
import { type Reasons, Section, urlOf } from "./section.ts";

interface TableKeys {
  readonly into?: string;
  readonly columns?: Readonly<Record<string, object | readonly string[]>>;
  readonly where?: string;
  readonly key?: readonly string[];
  readonly [UNDECIDED]?: readonly string[];
}

interface FlinkConfig {
  readonly name: string;
  readonly source: object;
  readonly sinks: { readonly sink: object };
  readonly tables?: Readonly<Record<string, TableKeys>>;
}

export function importedFromFlinkCdc(file: string, text: string): Imported<FlinkConfig> {
  refuseOthers(file, text, "flink-cdc");
  const findings = new Findings();
  const root = new Section(findings, "", yamlObject(file, text));
  for (const key of ["source", "sink"])
    if (!root.has(key)) throw cliError("MR1140", `${file} is no pipeline of Flink CDC: it has no ${key}`);
  const pipeline = root.inner("pipeline");
  const given = pipeline.text("name") ?? "";
  const name = asName(given, 40) || "flink_cdc";
  const source = root.inner("source");
  const kind = KINDS.get(source.text("type") ?? "");
  if (kind === undefined) source.block("type", "Millrace reads Postgres, MySQL and MariaDB: write `kind` and `url`");
  const isNested = kind === "postgres";
  const transforms = byGlob(root.entries("transform"), (entry) => transformed(entry, isNested));
  const routes = byGlob(root.entries("route"), (entry) => routed(entry, isNested));
  const tables = both(transforms, routes);
  const behaviour = pipeline.text("schema.change.behavior");
  if (behaviour !== null && !["evolve", "try_evolve", "lenient"].includes(behaviour))
    pipeline.leave(
      "schema.change.behavior",
      "changed tables are followed: `schemaChange` in `tables` is `pause` or `ignore`",
    );
  pipeline.leaveRest(OF_PIPELINE, true);
  const sourceKeys = sourceFrom(name, kind ?? UNDECIDED, source);
  const sink = sinkFrom(name, root.inner("sink"));
  root.leaveRest({}, true);
  const config = {
    name,
    source: sourceKeys,
    sinks: { sink },
    ...(tables.size === 0 ? {} : { tables: Object.fromEntries(tables) }),
  };
  return { config, left: findings.left, variables: findings.variables };
}

const KINDS: ReadonlyMap<string, string> = new Map([
  ["mysql", "mysql"],
  ["postgres", "postgres"],
]);

const OF_PIPELINE: Reasons = {
  needless: {
    "parallelism execution.* operator.* schema.operator.* schema-operator.* flink-conf description":
      "Millrace is one process, without Flink",
  },
  missing: {
    "user-defined-function model": "computed columns are functions of TypeScript, under `columns`",
    "local-time-zone": "times keep the form that they have at the source",
  },
};

const OF_SOURCE: Reasons = {
  needless: {
    "name description": "Millrace names a daemon, and its sinks",
    "server-id": "Millrace derives its own from the name, so that both can run side by side: `serverId` sets it",
    "slot.name": "Millrace makes its own slot, so that both can run side by side; drop the other one later",
    "decoding.plugin.name": "Millrace reads pgoutput, which every server has",
    "scan.incremental.* scan.snapshot.* scan.read-changelog-as-append-only.* scan.parse.online.* scan.newly-added-table.* scan.binlog.newly-added-table.* scan.lsn-commit.* scan.publish.* connect.* connection.pool.size heartbeat.interval chunk-* chunk-meta.group.size":
      "memory and pace are bounded without it, and new tables are read beside the stream",
    "server-time-zone use.legacy.json.format":
      "Millrace reads the log with a decoder of its own, which needs no such setting",
  },
  missing: {
    "schema-change.enabled include-comments.enabled": "changed tables are followed; comments are not",
    "metadata.list treat-tinyint1-as-boolean.enabled":
      "the sink's own columns have version and commit time, and `tinyint(1)` is a number",
    "jdbc.properties.*": "sessions take their settings from the url",
  },
};

function sourceFrom(name: string, kind: string, source: Section): object {
  const label = name.toUpperCase();
  const isNested = kind === "postgres";
  const included = globsOf(source, "tables", isNested);
  const excluded = globsOf(source, "tables.exclude", isNested);
  if (!source.has("tables")) source.block("tables", "it selects no table");
  const databases = [...new Set([...included.databases, ...excluded.databases])];
  const [database = "", ...more] = databases;
  if (more.length > 0) source.block("tables", "it names several databases: one source is one database");
  for (const [key, why] of [
    ["debezium.table", "it selects tables"],
    ["debezium.column", "it hides columns"],
  ] as const)
    if (source.keysFrom(key).length > 0)
      source.blockFrom(key, `${why}: write them to \`source.tables\` and \`tables\``);
  if (source.keysFrom("debezium.").length > 0)
    source.blockFrom(
      "debezium.",
      "a key of Debezium's may leave something out: `import debezium` says what becomes of it",
    );
  const url = urlOf({
    kind,
    host: source.inUrl("hostname", `${label}_HOST`) ?? "localhost",
    port: source.inUrl("port", `${label}_PORT`),
    user: source.inUrl("username", `${label}_USER`),
    password: source.secret("password", `${label}_PASSWORD`),
    database: isNested ? encodeURIComponent(database) : null,
  });
  const snapshot = snapshotFrom(source);
  source.leaveRest(OF_SOURCE);
  const blocked = source.undecided();
  return {
    kind,
    url,
    tables: [
      ...(included.isExact && excluded.isExact ? [] : [UNDECIDED]),
      ...included.globs,
      ...excluded.globs.map((glob) => `!${glob}`),
    ],
    ...snapshot,
    ...blocked,
  };
}

function snapshotFrom(source: Section): object {
  const key = "scan.startup.mode";
  const mode = source.text(key)?.toLowerCase() ?? "initial";
  if (mode === "initial") return {};
  if (mode === "latest-offset") return { snapshot: "none" };
  if (mode === "snapshot") {
    source.leave(key, "the tables are copied, then followed: `millrace run --once` ends when every sink has all of it");
    return {};
  }
  source.block(key, "Millrace copies the tables first, or begins with the changes from now on: `initial` or `none`");
  source.blockFrom("scan.startup.", "it begins at the present, or with a copy");
  return { snapshot: UNDECIDED };
}

interface Selected {
  readonly globs: readonly string[];
  readonly databases: readonly string[];
  readonly isExact: boolean;
}

/** A list of `database.table`, for Postgres `database.schema.table`, each part an expression. A `.` in one is `\.`. */
function globsOf(section: Section, key: string, isNested: boolean): Selected {
  const text = section.text(key);
  if (text === null) return { globs: [], databases: [], isExact: !section.has(key) };
  const globs: string[] = [];
  const databases: string[] = [];
  for (const each of text.split(",").map((one) => one.trim())) {
    const found = selected(each, isNested);
    if (found === null) {
      section.block(
        key,
        "no glob says one of its expressions: write it to `source.tables`, with a `!` before what it leaves out",
      );
      return { globs, databases, isExact: false };
    }
    globs.push(...found.globs);
    if (found.database !== null) databases.push(found.database);
  }
  return { globs, databases, isExact: true };
}

/** Null: no glob says it. `database` is a name. */
function selected(
  text: string,
  isNested: boolean,
): { readonly globs: readonly string[]; readonly database: string | null } | null {
  const parts = text.split(/(?<!\\)\./).map((part) => part.replaceAll(String.raw`\.`, "."));
  if (text.includes("${") || parts.length !== (isNested ? 3 : 2)) return null;
  const read = parts.map((part) => {
    const found = readExpression(part);
    const isExact = found?.every((each) => each.isExact && each.without.length === 0) ?? false;
    return isExact
      ? (found ?? []).flatMap((each) => (nameGlobs(each.parts).length === 0 ? [] : [globOf(each.parts)]))
      : [];
  });
  if (read.some((globs) => globs.length === 0)) return null;
  const database = isNested ? read[0]! : [];
  if (isNested && (database.length !== 1 || /[*?]/.test(database[0]!))) return null;
  const [schemas = [], tables = []] = read.slice(isNested ? 1 : 0);
  return {
    globs: schemas.flatMap((schema) => tables.map((table) => `${schema}.${table}`)),
    database: database[0] ?? null,
  };
}

/** What one entry says of the tables that a glob names. */
interface Said {
  readonly globs: readonly string[];
  readonly keys: TableKeys;
}

type Tables = ReadonlyMap<string, TableKeys>;

/** A glob has one key in `tables`, and the most exact one decides there: entries that fit one table are put together by hand. */
function byGlob(entries: readonly Section[], said: (entry: Section) => Said): Tables {
  const tables = new Map<string, TableKeys>();
  for (const entry of entries) {
    const { globs, keys } = said(entry);
    for (const glob of globs) {
      if ([...tables.keys()].some((other) => haveCommonNames(other, glob)))
        entry.block("source-table", "another entry fits some of its tables: write one for both");
      tables.set(glob, { ...tables.get(glob), ...keys, ...entry.undecided() });
    }
  }
  return tables;
}

function both(transforms: Tables, routes: Tables): Tables {
  const merged = new Map(routes);
  for (const [glob, keys] of transforms) {
    const undecided = [...(routes.get(glob)?.[UNDECIDED] ?? []), ...(keys[UNDECIDED] ?? [])];
    merged.set(glob, { ...routes.get(glob), ...keys, ...(undecided.length === 0 ? {} : { [UNDECIDED]: undecided }) });
  }
  return merged;
}

function subjects(entry: Section, isNested: boolean): readonly string[] {
  const { globs, isExact } = globsOf(entry, "source-table", isNested);
  return isExact && globs.length > 0 ? globs : ["*.*"];
}

function transformed(entry: Section, isNested: boolean): Said {
  const globs = subjects(entry, isNested);
  const columns = columnsOf(entry);
  const filter = entry.text("filter");
  const where = filter !== null && isWhere(filter) ? { where: filter } : {};
  if ("where" in where) entry.note("filter", "it is `where`: what is compared with null leaves a row out");
  else if (filter !== null)
    entry.block("filter", "it leaves rows out in a way that `where` can't say: write its condition");
  const key =
    entry
      .text("primary-keys")
      ?.split(",")
      .map((each) => each.trim()) ?? null;
  entry.leaveRest({
    needless: { "description partition-keys table-options table-options.*": "the sink makes its tables by itself" },
    missing: { "converter-after-transform": "a warehouse with `deletes: soft` keeps deleted rows and marks them" },
  });
  const keys = {
    ...(columns === null ? {} : { columns }),
    ...where,
    ...(key === null ? {} : { key }),
  };
  return { globs, keys: { ...keys, ...entry.undecided() } };
}

function isWhere(text: string): boolean {
  try {
    parseWhere(text);
    return !/__\w+__/.test(text);
  } catch (error) {
    if (error instanceof WhereError) return false;
    throw error;
  }
}

const COLUMN = /^[\p{L}_][\p{L}\p{N}_]*$/u;

/** Null: all as they are. What is no name of a column is computed, and may take a column's place to hide its value. */
function columnsOf(entry: Section): { readonly only: readonly string[] } | null {
  const key = "projection";
  const text = entry.text(key);
  if (text === null) return null;
  const parts = text.split(",").map((each) => each.trim());
  const isAll = parts.some((each) => each === String.raw`\*` || each === "*");
  const others = parts.filter((each) => each !== String.raw`\*` && each !== "*");
  if (others.some((each) => !COLUMN.test(each)))
    entry.block(
      key,
      "it computes columns: write which go out (`only`), and those that it makes (`value`) or hides (`mask`)",
    );
  if (isAll) return null;
  return { only: others.filter((each) => COLUMN.test(each)) };
}

function routed(entry: Section, isNested: boolean): Said {
  const globs = subjects(entry, isNested);
  const symbol = entry.text("replace-symbol");
  const target = entry.text("sink-table") ?? "";
  const [glob = "", ...more] = globs;
  const wildcards = glob.match(/[*?]/g)?.length ?? 0;
  entry.leaveRest({ needless: { description: "it has no effect" } });
  // The symbol stands for the table's name.
  const isWholeTable = /^[^*?]+\.\*$/.test(glob);
  const into =
    symbol === null ? target : target.replaceAll(symbol, isWholeTable ? "$1" : glob.slice(glob.indexOf(".") + 1));
  const isOne = more.length === 0 && (wildcards === 0 || (symbol !== null && target.includes(symbol) && isWholeTable));
  if (isOne && /^[^.]+\.[^.]+$/.test(into) && !(symbol === null && target.includes("$")))
    return { globs, keys: { into, ...entry.undecided() } };
  entry.leave("sink-table", "`into` is schema.table; where tables share one, `add` has to tell them apart");
  return { globs, keys: entry.undecided() };
}

function sinkFrom(name: string, sink: Section): object {
  const label = `${name.toUpperCase()}_SINK`;
  const keys = ofType(sink.text("type") ?? "", label, sink);
  sink.leaveRest(
    {
      needless: {
        "name description sink.* batch.* flush.* properties.* inflight.* buffered.* record.*":
          "the sink connects, waits and batches by itself",
      },
      missing: {
        "include.schema.changes exclude.schema.changes": "changed tables are followed",
        "version sharding.*": "the sink asks the server",
        "value.format key.format partition.strategy topic sink.add-tableId-to-header-enabled":
          "records are as `format` says, under <name>.<schema>.<table>, in the partition of their key",
      },
    },
    true,
  );
  return { ...keys, ...sink.undecided() };
}

function ofType(type: string, label: string, sink: Section): object {
  if (type === "kafka") {
    const topic = sink.plain("topic", `${label}_TOPIC`);
    const given = sink.plain("properties.bootstrap.servers", `${label}_BROKERS`) ?? "localhost:9092";
    if (/(?:SSL|SASL\w*):\/\//i.test(given))
      sink.block("properties.bootstrap.servers", "write the sink's `tls` and `sasl`");
    const brokers = given.split(",").map((each) => each.trim().replace(/^[A-Za-z_]+:\/\//, ""));
    const isDebezium = (sink.text("value.format") ?? "debezium-json") === "debezium-json";
    if (!isDebezium) sink.leave("value.format", "Millrace writes no records of Canal: `format` has others");
    if (sink.keysFrom("properties.sasl").length > 0 || sink.has("properties.security.protocol"))
      sink.blockFrom("properties.s", "write the sink's `tls` and `sasl`");
    return {
      kind: "kafka",
      brokers,
      ...(topic === null ? {} : { topic }),
      ...(isDebezium ? { format: "debezium", schemas: false } : {}),
    };
  }
  if (type === "elasticsearch") {
    const user = sink.inUrl("username", `${label}_USER`);
    const password = sink.secret("password", `${label}_PASSWORD`);
    const hosts = (sink.address("hosts", `${label}_URL`) ?? "http://localhost:9200").split(",");
    const login = user === null ? "" : `${user}${password === null ? "" : `:${password}`}@`;
    if (login !== "" && hosts.some((host) => !host.includes("://")))
      sink.leave("username", "write user and password into the urls: http://user:password@…");
    return { kind: "elasticsearch", url: hosts.map((host) => host.trim().replace("://", `://${login}`)) };
  }
  sink.block("type", `Millrace has no sink of the type ${JSON.stringify(type)}: choose another one`);
  return { kind: UNDECIDED };
}
