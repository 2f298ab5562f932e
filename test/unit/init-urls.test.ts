import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import { readFileSync, writeFileSync } from "node:fs";
import { sinkByUrl, sourceByUrl, writeSecrets, writtenUrl } from "../../src/cli/init/init-urls.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

test.each([
  ["./warehouse.duckdb", "duckdb", { path: "./warehouse.duckdb" }],
  ["duckdb:./w.duckdb", "duckdb", { path: "./w.duckdb" }],
  ["duckdb:any", "duckdb", { path: "any" }],
  ["./replica.sqlite", "sqlite", { path: "./replica.sqlite" }],
  ["./replica.sqlite3", "sqlite", { path: "./replica.sqlite3" }],
  ["/data/R.DB3", "sqlite", { path: "/data/R.DB3" }],
  ["sqlite:data/any", "sqlite", { path: "data/any" }],
  ["sqlite:///data/any", "sqlite", { path: "/data/any" }],
  ["postgres://a@b/c.sqlite", "postgres", { url: "postgres://a@b/c.sqlite" }],
  ["postgresql://a@b/c", "postgres", { url: "postgresql://a@b/c" }],
  ["redis://h/1", "redis", { url: "redis://h/1" }],
  ["rediss://h:6380", "redis", { url: "rediss://h:6380" }],
  ["clickhouse://u:p@h", "clickhouse", { url: "http://u:p@h:8123" }],
  ["clickhouse://u:p@h/shop", "clickhouse", { url: "http://u:p@h:8123", schema: "shop" }],
  ["clickhouse://h:8443", "clickhouse", { url: "https://h:8443" }],
  ["clickhouses://h:9999/", "clickhouse", { url: "https://h:9999" }],
  ["http://h:8123", "clickhouse", { url: "http://h:8123" }],
  ["https://h:9200", "elasticsearch", { url: "https://h:9200" }],
  ["http://h", "elasticsearch", { url: "http://h" }],
  ["kafka://a:9092,b:9093,c", "kafka", { brokers: ["a:9092", "b:9093", "c:9092"] }],
  ["s3://bucket/a/b", "files", { path: "s3://bucket/a/b" }],
  ["s3://bucket/a?region=eu-west-1", "files", { path: "s3://bucket/a", s3: { region: "eu-west-1" } }],
  [
    "s3://bucket/a?endpoint=https://minio:9000&region=x",
    "files",
    { path: "s3://bucket/a", s3: { endpoint: "https://minio:9000", region: "x", pathStyle: true } },
  ],
  [
    "s3://bucket?endpoint=https://r2&pathStyle=false",
    "files",
    { path: "s3://bucket", s3: { endpoint: "https://r2", pathStyle: false } },
  ],
  ["./out/", "files", { path: "./out/" }],
  ["out/", "files", { path: "out/" }],
  ["./out", "files", { path: "./out" }],
  ["/data/out", "files", { path: "/data/out" }],
  ["file:///data/out.d", "files", { path: "/data/out.d" }],
  ["ducklake:./shop.ducklake", "ducklake", { catalog: "sqlite:./shop.ducklake", data: "./shop.files/" }],
  ["ducklake:sqlite:shop.db", "ducklake", { catalog: "sqlite:shop.db", data: "shop.files/" }],
  ["ducklake:duckdb:a.b/shop", "ducklake", { catalog: "duckdb:a.b/shop", data: "a.b/shop.files/" }],
  ["ducklake:postgres://u@h/lake", "ducklake", { catalog: "postgres://u@h/lake", data: "./lake.files/" }],
])("%s is a sink of kind %s, whose definition takes it", async (given, kind, keys) => {
  const { connector, ...named } = await sinkByUrl("--sink", given);
  expect(named).toEqual({ kind, keys });
  expect(connector.parse(keys).kind).toBe("valid");
});

test.each([
  ["./x.db", /no kind is known/],
  ["warehouse", /no kind is known/],
  ["sqlite:", /no kind is known/],
  ["ftp://a/b.sqlite", /no kind is known for ftp:\/\//],
  ["mysql://a/b", /no kind is known for mysql:\/\//],
  ["clickhouse://u:canary@h:9000/shop", /of kind clickhouse: port 9000 is that of ClickHouse's native protocol/],
  ["clickhouse://h/shop?x=canary", /nothing behind the database/],
  ["clickhouse://h/canary%zz", /the database has a % that is not/],
  ["kafka://u:canary@h:9092", /a login goes into the file/],
  ["kafka://h:9092/canary", /nothing behind the hosts/],
  ["ducklake:mysql://u:canary@h/d", /expected ducklake:sqlite:FILE/],
  ["s3://Bucket/canary", /expected s3:\/\/bucket\/prefix/],
  ["s3://bucket/a?secretAccessKey=canary", /known behind the \? are endpoint, region, pathStyle; a login comes from/],
  ["s3://bucket/a?endpoint=canary", /expected endpoint=https/],
  ["s3://bucket/a?endpoint=https://u:canary@h", /the endpoint has a login/],
])("%s is refused, without the URL itself", async (given, message) => {
  const refused = await sinkByUrl("--sink", given).catch((error: unknown) => error);
  expect(refused).toHaveProperty("message", expect.stringMatching(message));
  expect(JSON.stringify(refused)).not.toContain("canary");
});

test("a URL of no kind is answered with the forms of all kinds", async () => {
  const sink = await sinkByUrl("--sink", "ftp://x").catch((error: unknown) => error);
  const source = await sourceByUrl("--source", "ftp://x").catch((error: unknown) => error);
  for (const kind of connectors.sinkKinds) expect(sink).toHaveProperty("hint", expect.stringContaining(`${kind}: `));
  for (const form of ["postgres://", "mysql://", "mariadb://"])
    expect(source).toHaveProperty("hint", expect.stringContaining(form));
});

test.each([
  ["postgres://h/d", "postgres"],
  ["postgresql://h/d", "postgres"],
  ["mysql://h/d", "mysql"],
  ["MariaDB://h/d", "mysql"],
])("%s is a source of kind %s", async (given, kind) => {
  expect(await sourceByUrl("--source", given)).toMatchObject({ kind, keys: { url: given } });
});

test("a file with another config's password stays, and nothing is written beside it", async () => {
  using folder = temporaryFolder();
  const init = (file: string, password: string) =>
    runCli(["init", "-c", file, "--sink", `redis://u:${password}@h/0`, "--name", "shop"], { folder: folder.path });
  expect((await init("a.yaml", "first-password")).exitCode).toBe(0);
  const other = await init("b.yaml", "second-password");
  expect([other.exitCode, other.stderr]).toEqual([4, expect.stringContaining("holds another password")]);
  expect(readFileSync(folder.file(".millrace/secrets/shop.cache"), "utf8")).toBe("first-password\n");
  expect(() => readFileSync(folder.file("b.yaml"))).toThrow("ENOENT");
  expect((await init("b.yaml", "first-password")).exitCode).toBe(0);
});

test("of several secrets the one in the way keeps all from being written", () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("b"), "theirs\n");
  const secrets = [
    { file: "a", value: "ours" },
    { file: "b", value: "ours" },
  ];
  expect(() => writeSecrets(folder.path, secrets)).toThrow(/holds another password/);
  expect(() => readFileSync(folder.file("a"))).toThrow("ENOENT");
});

test.each([
  ["mysql://u:p@ss@h/d", "mysql://u:${file:f}@h/d"],
  ["postgres://u@s:pw@h/d", "postgres://u@s:${file:f}@h/d"],
  // Where the password ends is not known.
  ["postgres://u:pw@h/d?application_name=a@b", "${file:f}"],
])("%s is written without its password", (url, text) => {
  expect(writtenUrl(url, "f", {}).text).toBe(text);
});
