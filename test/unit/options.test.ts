/**
 * Every key of every source and sink: what it does, and beside which others it would do nothing. A new key fails here until
 * somebody has said so.
 */
import { expect, test } from "vitest";
import * as z from "zod";
import { connectors } from "../../connectors/registry.ts";
import type { SinkConnector, SourceConnector } from "../../src/config/connectors.ts";

/**
 * What a key of a sink decides: how the target is reached; where rows go, so that another value means other targets; how keys
 * and values look, so that what is there in another form is noticed; or how the sink works.
 */
type Effect = "reach" | "place" | "form" | "work";
/** `value`: one that it may have. `idle`: other keys beside which it is refused, because it would do nothing. */
type Key = readonly [effect: Effect, value: unknown, idle?: object | undefined];

const HTTPS = "https://user@h:1";
const login = (idle: string): Readonly<Record<string, Key>> => ({
  passwordCommand: ["reach", ["./token"], { url: idle }],
  passwordFile: ["reach", "./p", { passwordCommand: ["./token"] }],
});
const tls = (plain: object | undefined, within = (keys: object) => keys): Readonly<Record<string, Key>> => ({
  ca: ["reach", "./ca.pem", plain],
  cert: ["reach", "./c.pem", within({ certKey: undefined })],
  certKey: ["reach", "./k.pem", within({ cert: undefined })],
  serverName: ["reach", "h.test", plain],
});
const within = (outer: string, keys: Readonly<Record<string, Key>>): Readonly<Record<string, Key>> =>
  Object.fromEntries(Object.entries(keys).map(([key, of]) => [`${outer}.${key}`, of]));
const warehouse: Readonly<Record<string, Key>> = {
  schema: ["place", "raw"],
  deletes: ["form", "soft", { mode: "history" }],
  mode: ["form", "history"],
};
const engine: Readonly<Record<string, Key>> = { memoryLimit: ["work", "1GB"], threads: ["work", 2] };
const bucket = (key: string): Readonly<Record<string, Key>> =>
  within("s3", {
    region: ["reach", "eu", { [key]: "./folder" }],
    endpoint: ["reach", "https://s3.test", { [key]: "./folder" }],
    accessKeyId: ["reach", "a", { s3: { secretAccessKey: undefined } }],
    secretAccessKey: ["reach", "b", { s3: { accessKeyId: undefined } }],
    pathStyle: ["reach", true, { [key]: "./folder" }],
    ca: ["reach", "./ca.pem", { s3: { endpoint: "http://s3.test" } }],
  });
const kafka: Readonly<Record<string, Key>> = {
  brokers: ["reach", ["h:1"]],
  prefix: ["place", "p-"],
  ...within(
    "tls",
    tls(undefined, (keys) => ({ tls: keys })),
  ),
  "sasl.mechanism": ["reach", "PLAIN"],
  "sasl.username": ["reach", "u"],
  "sasl.password": ["reach", "p"],
  "sasl.passwordCommand": ["reach", ["./token"], { sasl: { password: "p" } }],
  "sasl.passwordFile": ["reach", "./p", { sasl: { passwordCommand: ["./token"] } }],
};

/** The keys that a kind must have. */
const BASE: Readonly<Record<string, object>> = {
  clickhouse: { url: HTTPS, cert: "./c.pem", certKey: "./k.pem" },
  duckdb: { path: "w.duckdb" },
  ducklake: { catalog: "sqlite:l.db", data: "s3://bucket/lake", s3: { accessKeyId: "a", secretAccessKey: "b" } },
  elasticsearch: { url: HTTPS, cert: "./c.pem", certKey: "./k.pem" },
  files: { path: "s3://bucket/changes", s3: { accessKeyId: "a", secretAccessKey: "b" } },
  kafka: {
    brokers: ["h:1"],
    tls: { cert: "./c.pem", certKey: "./k.pem" },
    sasl: { mechanism: "PLAIN", username: "u", passwordFile: "./p" },
  },
  postgres: { url: "postgres://user@h/d" },
  redis: { url: "rediss://user@h:1", cert: "./c.pem", certKey: "./k.pem" },
  sqlite: { path: "r.sqlite" },
};

const AVRO = {
  format: "debezium",
  encoding: "avro",
  registry: { url: "https://r", username: "u", tls: { cert: "./c.pem", certKey: "./k.pem" } },
};

const SINKS: Readonly<Record<string, Readonly<Record<string, Key>>>> = {
  clickhouse: {
    url: ["reach", HTTPS],
    ...login("https://user:pw@h:1"),
    ...tls({ url: "http://user@h:1" }),
    ...warehouse,
    cluster: ["work", "c"],
    quorum: ["work", "auto"],
    fsync: ["work", false],
  },
  duckdb: { path: ["place", "w.duckdb"], ...warehouse, ...engine },
  sqlite: { path: ["place", "r.sqlite"], ...warehouse },
  ducklake: {
    catalog: ["place", "sqlite:l.db"],
    data: ["place", "s3://bucket/lake"],
    ...bucket("data"),
    ...warehouse,
    ...engine,
    maintenance: ["work", false],
    "maintenance.every": ["work", "2h"],
    "maintenance.keepSnapshots": ["work", "2d"],
    extensions: ["work", "./e"],
  },
  elasticsearch: {
    url: ["reach", [HTTPS, "https://h:2"], { url: [HTTPS, "https://other:pw@h:2"] }],
    ...login("https://user:pw@h:1"),
    ...tls({ url: [HTTPS, "http://h:2"] }),
    apiKey: ["reach", "k", { url: HTTPS }],
    prefix: ["place", "p-"],
    replicas: ["work", 0],
    shards: ["work", 2],
    refreshInterval: ["work", "5s"],
    index: ["work", { settings: { number_of_shards: 2 }, "public.*": {} }],
  },
  files: {
    path: ["place", "s3://bucket/changes"],
    format: ["form", "ndjson"],
    "roll.rows": ["work", 10],
    "roll.bytes": ["work", "1MB"],
    "roll.age": ["work", "1m"],
    keep: ["work", "30d"],
    ...bucket("path"),
    memoryLimit: ["work", "1GB", { format: "ndjson" }],
  },
  kafka: {
    ...kafka,
    topic: ["place", "all"],
    format: ["form", "debezium"],
    schemas: ["form", false, { format: "millrace" }],
    decimals: ["form", "string", { format: "millrace" }],
    encoding: ["form", "avro"],
    "registry.url": ["reach", "https://r", { encoding: "json" }],
    "registry.username": ["reach", "u"],
    "registry.password": ["reach", "p", { registry: { username: undefined } }],
    "registry.passwordCommand": ["reach", ["./token"], { registry: { password: "p" } }],
    "registry.passwordFile": ["reach", "./p", { registry: { username: undefined } }],
    "registry.register": ["work", false, { encoding: "json" }],
    "registry.subjects": ["work", "record", { encoding: "json" }],
    ...within(
      "registry.tls",
      tls({ registry: { url: "http://r" } }, (keys) => ({ registry: { tls: keys } })),
    ),
    tombstones: ["work", false, { format: "log" }],
    transactions: ["work", true, { format: "log" }],
    conditions: ["work", true, { format: "millrace" }],
    compression: ["work", "zstd"],
    "topics.create": ["work", false],
    "topics.partitions": ["work", 3, { topics: { create: false } }],
    "topics.replication": ["work", 3, { topics: { create: false } }],
    "topics.settings": ["work", { "retention.ms": 1 }, { topics: { create: false } }],
  },
  postgres: { url: ["place", "postgres://user@h/d"], ...login("postgres://user:pw@h/d"), ...warehouse },
  redis: {
    url: ["place", "rediss://user@h:1"],
    ...login("rediss://user:pw@h:1"),
    ...tls({ url: "redis://user@h:1" }),
    prefix: ["place", "p:"],
    format: ["form", "json"],
    cluster: ["work", true],
    waitReplicas: ["work", 1],
  },
};

/** Of a source no key changes how rows look in the sinks. */
const SOURCES: Readonly<Record<string, Readonly<Record<string, Key>>>> = {
  kafka: { ...kafka, from: ["place", "shop"], shares: ["work", 2] },
  mysql: {
    url: ["reach", "mysql://user@h/d"],
    ...login("mysql://user:pw@h/d"),
    serverId: ["reach", 7],
    copySessions: ["work", 3],
  },
  postgres: {
    url: ["reach", "postgres://user@h/d"],
    ...login("postgres://user:pw@h/d"),
    slot: ["reach", "s"],
    primaryUrl: ["reach", "postgres://user@primary/d"],
    publication: ["reach", "p"],
    copySessions: ["work", 3],
  },
};
const SOURCE_BASE: Readonly<Record<string, object>> = {
  kafka: { ...BASE["kafka"], from: "shop" },
  mysql: { url: "mysql://user@h/d" },
  postgres: { url: "postgres://user@h/d" },
};

/** What a key needs beside it to have a use. */
const NEEDS: Readonly<Record<string, object>> = {
  "kafka schemas": { format: "debezium" },
  "kafka decimals": { format: "debezium" },
  "kafka encoding": AVRO,
  "kafka registry": AVRO,
  "kafka conditions": { format: "log" },
  "kafka sasl.password": { sasl: { passwordFile: undefined } },
  "kafka sasl.passwordCommand": { sasl: { passwordFile: undefined } },
  "elasticsearch apiKey": { url: "https://h:1" },
  "files s3.ca": { s3: { endpoint: "https://s3.test" } },
  "ducklake s3.ca": { s3: { endpoint: "https://s3.test" } },
};

test.each([
  ...Object.entries(SINKS).map(([kind, keys]) => ["sink", kind, keys] as const),
  ...Object.entries(SOURCES).map(([kind, keys]) => ["source", kind, keys] as const),
])("%s %s: each key is known, has a use, and is refused where it has none", async (part, kind, keys) => {
  const connector = await (part === "sink" ? connectors.sink(kind) : connectors.source(kind));
  expect(Object.keys(keys).toSorted()).toEqual(leaves(connector.definition).toSorted());
  const base = part === "sink" ? BASE[kind]! : SOURCE_BASE[kind]!;
  for (const [key, [, value, idle]] of Object.entries(keys)) {
    const needed = NEEDS[`${kind} ${key}`] ?? NEEDS[`${kind} ${key.split(".")[0]}`] ?? {};
    const useful = merged(merged(base, needed), at(key, value));
    expect(complaints(connector, useful), key).toEqual([]);
    if (idle === undefined) continue;
    const refused = complaints(connector, merged(useful, idle)).map((path) => path.join("."));
    // Of two keys that exclude each other either may be the one that is named.
    const named = [key, key.split(".")[0], ...Object.keys(idle)];
    expect(named, `${key} beside ${JSON.stringify(idle)}: ${refused.join()}`).toContain(
      refused.find((one) => named.includes(one)),
    );
  }
});

test("all kinds are listed", () => {
  expect(Object.keys(SINKS).toSorted()).toEqual([...connectors.sinkKinds].toSorted());
  expect(Object.keys(SOURCES).toSorted()).toEqual([...connectors.sourceKinds].toSorted());
});

function complaints(connector: SinkConnector | SourceConnector, options: object): readonly string[][] {
  const parsed = connector.parse(options);
  return parsed.kind === "valid" ? [] : parsed.issues.map(({ path }) => path.map(String));
}

/** The paths of all keys; a key that is an object or something else stands beside the keys of the object. */
function leaves(definition: z.ZodObject, before = ""): readonly string[] {
  return Object.entries(definition.shape).flatMap(([key, type]) => {
    const parts = alternatives(type);
    const objects = parts.filter((one) => one instanceof z.ZodObject);
    const own = parts.some((one) => one instanceof z.ZodLiteral) ? [`${before}${key}`] : [];
    if (objects.length === 0) return [`${before}${key}`];
    return [...own, ...objects.flatMap((one) => leaves(one, `${before}${key}.`))];
  });
}

function alternatives(type: unknown): readonly unknown[] {
  if (
    type instanceof z.ZodOptional ||
    type instanceof z.ZodDefault ||
    type instanceof z.ZodPrefault ||
    type instanceof z.ZodNullable
  )
    return alternatives(type.unwrap());
  if (type instanceof z.ZodPipe) return alternatives(type.in);
  if (type instanceof z.ZodUnion) return type.options.flatMap(alternatives);
  return [type];
}

function at(path: string, value: unknown): object {
  const [key = "", ...rest] = path.split(".");
  return { [key]: rest.length === 0 ? value : at(rest.join("."), value) };
}

/** Objects are merged, everything else is replaced; undefined takes a key away. */
function merged(base: object, more: object): object {
  const out = new Map(Object.entries(base));
  for (const [key, value] of Object.entries(more)) {
    const held: unknown = out.get(key);
    const isMerged = isPlain(held) && isPlain(value);
    if (value === undefined) out.delete(key);
    else out.set(key, isMerged ? merged(held, value) : value);
  }
  return Object.fromEntries(out);
}

function isPlain(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

test("settings of a search index that rows do not survive are refused, and so is a name that is no table and no document", async () => {
  const connector = await connectors.sink("elasticsearch");
  const paths = (index: object) => complaints(connector, { url: HTTPS, index }).map((path) => path.join("."));
  expect(paths({ settings: { index: { default_pipeline: "p" } } })).toEqual(["index.settings"]);
  expect(paths({ "public.t": { settings: { "translog.durability": "async" } } })).toEqual(["index.public.t.settings"]);
  expect(paths({ "public.t": { mappings: { dynamic: true } } })).toEqual(["index.public.t.mappings"]);
  expect(paths({ "no table": {} })).toEqual(["index.no table"]);
  expect(paths({ settings: { analysis: { filter: {} } }, analyzers: { a: { type: "custom" } } })).toEqual([]);
});
