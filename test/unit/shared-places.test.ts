/** Two sinks of one config that would overwrite each other's rows are refused before anything is connected. */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { stringify } from "yaml";
import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import type { Config } from "../../src/config/config.ts";
import { ConfigError } from "../../src/config/errors.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const SOURCE = { kind: "postgres", url: "postgres://u@localhost/shop" };

async function loaded(a: object, b: object, more: object = {}): Promise<Config> {
  using folder = temporaryFolder();
  mkdirSync(folder.file("data"));
  symlinkSync(folder.file("data"), folder.file("link"));
  const file = folder.file("millrace.yaml");
  writeFileSync(file, stringify({ name: "shop", source: SOURCE, ...more, sinks: { a, b } }));
  return await loadConfig(file, { connectors, environment: {}, secrets: new Secrets() });
}

async function problems(a: object, b: object, more: object = {}): Promise<readonly string[]> {
  try {
    await loaded(a, b, more);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ code, path, message }) => `${code} ${path.join(".")}: ${message}`);
  }
}

const postgres = (url: string, schema?: string) => ({
  kind: "postgres",
  url,
  ...(schema === undefined ? {} : { schema }),
});
const duckdb = (path: string) => ({ kind: "duckdb", path });
const redis = (url: string, prefix = "") => ({ kind: "redis", url, prefix });
const kafka = (more: object) => ({ kind: "kafka", brokers: ["k:9092"], ...more });
const clickhouse = (url: string, schema: string) => ({ kind: "clickhouse", url, schema });
const files = (path: string, s3?: object) => ({ kind: "files", path, ...(s3 === undefined ? {} : { s3 }) });
const lake = (catalog: string, data: string) => ({ kind: "ducklake", catalog, data });
const search = (url: string | string[], prefix = "") => ({ kind: "elasticsearch", url, prefix });

test.each([
  [
    "a database",
    postgres("postgres://a:pw-canary@localhost/w"),
    postgres("postgresql://b@127.0.0.1:5432/w?sslmode=disable"),
  ],
  ["a schema", postgres("postgres://a@db/w", "s"), postgres("postgres://a@DB:5432/w", "s")],
  ["a file", duckdb("./data/w.duckdb"), duckdb("link/../data/../link/w.duckdb")],
  ["a replica", { kind: "sqlite", path: "./data/r.db3" }, { kind: "sqlite", path: "link/r.db3" }],
  ["keys", redis("redis://:pw-canary@localhost", "p:"), redis("rediss://127.0.0.1:6379/0", "p:")],
  ["keys of one host", redis("redis://Cache/1"), redis("redis://cache:6379/01")],
  ["keys of no host", redis("redis://"), redis("redis://127.0.0.1")],
  ["topics", kafka({}), kafka({ brokers: ["k:9092"], format: "cloudevents" })],
  ["one topic", kafka({ topic: "all" }), kafka({ prefix: "a", topic: "ll" })],
  ["the topic of transactions", kafka({ transactions: true }), kafka({ prefix: "shop.", topic: "_transactions" })],
  [
    "topics of a cluster with several addresses",
    kafka({ brokers: ["k:9092", "l:9092"] }),
    kafka({ brokers: ["L:9092"] }),
  ],
  [
    "databases of one address",
    clickhouse("http://127.0.0.1:8123", "s"),
    clickhouse("http://u:pw-canary@LOCALHOST.:8123/", "s"),
  ],
  ["a folder", files("./data/x"), files("link/x/")],
  ["a folder in another one", files("./data/x"), files("link/x/y/z")],
  ["a folder around another one", files("./none/x/y"), files("none")],
  ["a bucket", files("s3://bucket/x/"), files("s3://bucket/x", { endpoint: "https://s3.eu-central-1.amazonaws.com" })],
  ["a prefix in another one", files("s3://bucket"), files("s3://bucket/y")],
  ["data of lakes", lake("sqlite:a.db", "lake"), lake("duckdb:b.duckdb", "./lake/")],
  ["data of a lake and files", lake("sqlite:a.db", "lake/data"), files("lake")],
  ["one catalogue", lake("sqlite:a.db", "one"), lake("sqlite:./a.db", "two")],
  [
    "a catalogue on a server",
    lake("postgres://a:pw-canary@DB/w", "one"),
    lake("postgresql://b@db:5432/w?sslmode=disable", "two"),
  ],
  ["a file of two kinds", duckdb("w"), { kind: "sqlite", path: "./data/../w" }],
  ["a catalogue and a file", lake("sqlite:w.db", "one"), { kind: "sqlite", path: "w.db" }],
  ["indices", search(["http://a:9200", "http://b:9200"], "p-"), search("http://u:pw-canary@b:9200", "p-")],
])("%s that two sinks write into", async (_what, a, b) => {
  const found = await problems(a, b);
  expect(found).toEqual([expect.stringMatching(/^MR1010 sinks\.b: writes into the same place as sinks\.a: /)]);
  expect(found.join()).not.toMatch(/pw-canary|a@|b@/);
});

test.each([
  ["databases", postgres("postgres://a@db/w"), postgres("postgres://a@db/x")],
  ["schemas", postgres("postgres://a@db/w", "s"), postgres("postgres://a@db/w", "t")],
  ["servers", postgres("postgres://a@db:5432/w"), postgres("postgres://a@db:5433/w")],
  ["files", duckdb("w.duckdb"), duckdb("x.duckdb")],
  ["databases of a cache", redis("redis://r/0"), redis("redis://r/1")],
  ["prefixes of keys", redis("redis://r", "a:"), redis("redis://r", "b:")],
  ["prefixes of indices", search("http://a:9200", "a-"), search("http://a:9200", "b-")],
  ["folders", files("data/x"), files("data/xy")],
  ["prefixes of a bucket", files("s3://bucket/x"), files("s3://bucket/xy")],
  ["buckets", files("s3://bucket/x"), files("s3://bucket/x", { endpoint: "http://minio:9000" })],
  ["paths behind a proxy", search("http://proxy/a"), search("http://proxy/b")],
  ["lakes", lake("sqlite:a.db", "a"), lake("sqlite:b.db", "b")],
])("different %s may be written into", async (_what, a, b) => {
  expect(await problems(a, b)).toEqual([]);
});

test.each([
  [
    "one within all keys",
    redis("redis://r", ""),
    redis("rediss://r:6379/0", "docs:"),
    [[{ sink: "b", start: "docs:" }], []],
  ],
  [
    "one within a prefix",
    redis("redis://localhost", "a:b:"),
    redis("redis://127.0.0.1", "a:"),
    [[], [{ sink: "a", start: "a:b:" }]],
  ],
  ["different ones", redis("redis://r", "a:"), redis("redis://r", "b:"), [[], []]],
  ["one within that of another database", redis("redis://r/0", ""), redis("redis://r/1", "docs:"), [[], []]],
  [
    "one topic within those of tables",
    kafka({ topics: { partitions: 3 } }),
    kafka({ prefix: "shop.", topic: "public.item" }),
    [[{ sink: "b", start: "shop.public.item" }], []],
  ],
  ["files", duckdb("w.duckdb"), duckdb("w.duckdb.old"), [[], []]],
])("the sink with the shorter prefix knows of the other: %s", async (_what, a, b, neighbours) => {
  expect((await loaded(a, b)).sinks.map((sink) => sink.neighbours)).toEqual(neighbours);
});

test.each([
  ["the state", {}, { kind: "sqlite", path: ".millrace/shop.db" }],
  ["a state elsewhere", { state: "sqlite:./data/own.db" }, duckdb("link/own.db")],
  ["a state as a catalogue", {}, lake("sqlite:.millrace/shop.db", "lake")],
  [
    "documents",
    { nest: "n.db", documents: { d: { from: "public.item" } } },
    { kind: "sqlite", path: "n.db", documents: ["d"] },
  ],
])("a sink does not write into the daemon's own file: %s", async (_what, more, a) => {
  expect(await problems(a, duckdb("b.duckdb"), more)).toEqual([
    expect.stringMatching(
      /^MR1010 sinks\.a: writes into the same place as (state|nest): the file of (the state|documents) \//,
    ),
  ]);
});

test("the command line ends with 2 and names both", async () => {
  using folder = temporaryFolder();
  const sinks = { one: duckdb("w.duckdb"), two: duckdb("./w.duckdb") };
  writeFileSync(folder.file("millrace.yaml"), stringify({ name: "shop", source: SOURCE, sinks }));
  const { exitCode, stderr } = await runCli(["run"], { folder: folder.path });
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/MR1010: .*sinks\.two: writes into the same place as sinks\.one: the DuckDB file /);
});
