import { expect, test, vi } from "vitest";
import { sinkByUrl, sourceByUrl } from "../../src/cli/init/init-urls.ts";
import { progressOf } from "../../src/cli/up/progress.ts";
import { type CopyStatus, pipelineStatus } from "../../src/core/contracts/status.ts";
import { statusDocument } from "../../src/core/conditions/conditions.ts";

const TABLE = { schema: "public", table: "or'ders" };

test.each([
  ["./w.duckdb", /^select \* from "public"."or'ders" limit 10$/],
  ["./public.duckdb", /^select \* from "public"."public"."or'ders" limit 10$/],
  ["./w.sqlite", /^select \* from "public.or'ders" limit 10$/],
  ["ducklake:l.db", /^select \* from "public"."or'ders" limit 10$/],
  ["postgres://u:canary@h:1/d", /^psql postgres:\/\/u@h:1\/d -c 'select \* from "public"."or'\\''ders" limit 10'$/],
  ["clickhouse://u:canary@h/d", /^curl -u u http:\/\/h:8123\/ --data-binary 'SELECT \* FROM `d`.`or'\\''ders_current`/],
  ["https://u:canary@h:9200", /^curl -u u 'https:\/\/h:9200\/public\.or.*\/_search\?pretty&size=10'$/],
  ["redis://u:canary@h:1/2", /^redis-cli -u redis:\/\/u@h:1\/2 --scan --pattern 'public:or.*:\*'$/],
  ["kafka://a,b", /^kafka-console-consumer\.sh --bootstrap-server a:9092,b:9092 --topic shop\.public\.or_ders_\w+ /],
  [
    "s3://bucket/p?endpoint=http://h:9000&region=r",
    /^duckdb -c 'create secret \(type s3, provider credential_chain, region '\\''r'\\'', endpoint '\\''h:9000'\\'', use_ssl false, url_style '\\''path'\\''\); from read_parquet\(/,
  ],
  ["s3://bucket/p/", /^duckdb -c 'from read_parquet\('\\''s3:\/\/bucket\/p\/public\.or%27ders\/\*\/\*\.parquet/],
])("%s: how to read a table is said without the password", async (url, command) => {
  const { connector, keys } = await sinkByUrl("--sink", url);
  const parsed = connector.parse(keys);
  if (parsed.kind === "invalid") throw new Error("the definition takes the keys");
  const reading = await parsed.bind({ name: "s", daemon: "shop", folder: "/f" }).reading?.(TABLE);
  expect(Object.values(reading ?? {})).toEqual([expect.stringMatching(command)]);
  expect(JSON.stringify(reading)).not.toContain("canary");
});

test.each([
  ["postgres://u:one@h/d", "postgres://u:one@h/d", "same"],
  ["postgres://u:one@h/d", "postgresql://u@h/d?sslmode=require", "same"],
  ["postgres://u@h/d", "postgres://u:one@h/d", "same"],
  ["postgres://u:one@h/d", "postgres://u:two@h/d", "password"],
  ["postgres://u:one@h/d", "postgres://v:one@h/d", "other"],
  ["postgres://u:one@h/d", "postgres://u:one@h:5433/d", "other"],
  ["postgres://u:one@h/d", "postgres://u:one@h/e", "other"],
  ["mysql://u@h/d", "mariadb://u@h/d", "same"],
])("%s and %s: %s", async (own, given, fit) => {
  const { connector, keys } = await sourceByUrl("--source", own);
  const parsed = connector.parse(keys);
  if (parsed.kind === "invalid") throw new Error("the definition takes the keys");
  const bound = parsed.bind({ daemon: "shop", folder: "/f", tables: [] });
  expect(bound.fit({ url: given })).toBe(fit);
});

test.each([
  ["s3://bucket/p?endpoint=http://h:9000", "same"],
  ["s3://bucket/p", "same"],
  ["s3://bucket/p?endpoint=http://other:9000", "other"],
  ["s3://bucket/other?endpoint=http://h:9000", "other"],
])("a bucket and %s: %s", async (given, fit) => {
  const { connector, keys } = await sinkByUrl("--sink", "s3://bucket/p?endpoint=http://h:9000&region=r");
  const parsed = connector.parse(keys);
  if (parsed.kind === "invalid") throw new Error("the definition takes the keys");
  const bound = parsed.bind({ name: "s", daemon: "shop", folder: "/f" });
  expect(bound.fit((await sinkByUrl("--sink", given)).keys)).toBe(fit);
});

test("a path fits wherever it is written from", async () => {
  const { connector, keys } = await sinkByUrl("--sink", "./w.duckdb");
  const parsed = connector.parse(keys);
  if (parsed.kind === "invalid") throw new Error("the definition takes the keys");
  const bound = parsed.bind({ name: "s", daemon: "shop", folder: "/f" });
  expect(["./w.duckdb", "w.duckdb", "/f/w.duckdb", "/w.duckdb"].map((path) => bound.fit({ path }))).toEqual([
    "same",
    "same",
    "same",
    "other",
  ]);
});

test("a bucket without a region is a finding, not a bug", async () => {
  for (const name of ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"]) vi.stubEnv(name, undefined);
  for (const name of ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"]) vi.stubEnv(name, "/nowhere");
  const { connector, keys } = await sinkByUrl("--sink", "s3://bucket/p");
  const parsed = connector.parse(keys);
  if (parsed.kind === "invalid") throw new Error("the definition takes the keys");
  const bound = parsed.bind({ name: "s", daemon: "shop", folder: "/f" });
  try {
    expect(await bound.check(AbortSignal.timeout(10_000))).toMatchObject([
      { level: "error", what: expect.stringMatching(/MR3229: s3:.*no region is known: set `s3\.region`/) },
    ]);
  } finally {
    vi.unstubAllEnvs();
  }
});

test("progress says what is copied, and what is waited for", () => {
  const named = { name: "shop", source: { kind: "postgres" }, sinks: [{ name: "w", kind: "duckdb" }] };
  const of = (phase: string, copy: CopyStatus | null, state: "starting" | "streaming") => {
    const known = pipelineStatus(named, { phase, source: { copy }, sinks: new Map([["w", { state }]]) });
    const reconcile = { next: null, last: null, drift: null, failure: null };
    return progressOf(statusDocument(known, { state: { error: null }, reconcile }));
  };
  const copy = { tableCount: 3, tablesDone: 1, rowsRead: 1500, rowsEstimated: 3000, share: 0.5, secondsLeft: 90 };
  expect(progressOf(undefined)).toEqual({ share: null, text: "starting" });
  expect(of("starting", null, "starting").text).toBe("starting");
  expect(of("snapshot", copy, "starting")).toEqual({
    share: 0.5,
    text: "copying 50 %, 1,500 of about 3,000 rows, 1 of 3 tables, 90 s left",
  });
  const unknown = { ...copy, rowsEstimated: null, share: null, secondsLeft: null };
  expect(of("snapshot", unknown, "starting").text).toBe("copying, 1,500 rows, 1 of 3 tables");
  expect(of("streaming", null, "starting").text).toBe("waiting for w");
  expect(of("streaming", null, "streaming").text).toBe("bringing the sinks up to date");
});
