/**
 * `reconcile` and keys whose ids are digests: a document or a key of the cache tells its key by its values alone.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { rowIdOf } from "../../../src/core/model/row-id.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshKeyPrefix } from "../../support/run/services.ts";

/** Values that documents spell otherwise than the source. */
const PARTS: Readonly<Record<string, readonly string[]>> = {
  bytes: ["bytea", "\\x", "\\x00ff", `\\x${"ab".repeat(600)}`],
  yes: ["bool", "t", "f"],
  clock: ["time", "12:34:56.1", "24:00:00"],
  day: ["date", "0044-03-15 BC", "12345-01-01", "infinity"],
  seen: ["timestamptz", "2026-11-20 06:43:15.12+00", "0044-03-15 12:00:00+00 BC"],
  plain_seen: ["timestamp", "2026-11-20 06:43:15", "-infinity"],
  amount: ["float8", "1e+22", "NaN", "-0.5"],
  words: ["text[]", '{a,"b c",NULL,"NULL","\\"",""}', "{{a},{b}}", "[0:1]={a,b}"],
  numbers: ["float8[]", "{0,-0,NaN,Infinity,NULL}", "{}", "{{1,2},{3,4}}"],
  zero: ["float8", "-0"],
  exact: ["numeric", "1.50", "NaN", "-Infinity"],
  mood: ["mood", "sad", "it''s: ok"],
  uuid: ["uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
  passed: ["interval", "1 mon 2 days 03:04:05.6"],
  span: ["int4range", "[1,5)", "empty"],
  doc: ["jsonb", '{"b": 1, "aa": [1.50, {"c": "\\u0001ä"}]}', "null"],
};
const LONG = "x".repeat(600);
const names = Object.keys(PARTS).map((part) => `k_${part}`);
const SQL = Object.entries(PARTS)
  .map(
    ([part, [type, ...values]]) => `create table k_${part} (k ${type}, filler text, n int, primary key (k, filler));
      insert into k_${part} select v::${type}, '${LONG}', 1 from unnest(array[${values.map((text) => `'${text}'`).join(", ")}]) v;`,
  )
  .join("\n");

test("right rows are no drift, whatever their keys are made of; a row too many goes, a missing one comes back", async () => {
  await using texts = freshKeyPrefix();
  const { prefix } = texts;
  await using pipeline = await RunningPipeline.start(
    `create type mood as enum ('sad', 'it''s: ok'); ${SQL} create table looks_so (k text, b bytea, primary key (k, b)); insert into looks_so values ('sha256', '\\x0102')`,
    {
      kinds: ["duckdb", "postgres", "redis", "elasticsearch"],
      configure: (config) => ({
        ...config,
        sinks: { ...config.sinks, texts: { ...config.sinks["redis"], prefix, format: "json" } },
      }),
    },
  );
  await pipeline.settled();
  const clean = await reconcile(pipeline.installation);
  expect({ exitCode: clean.exitCode, drift: driftOf(clean.found), rest: clean.found.notComparable }).toEqual({
    exitCode: 0,
    drift: {},
    rest: [],
  });
  expect(clean.found.tables).toHaveLength(5 * (names.length + 1));

  using cache = pipeline.cache();
  const at = (...key: readonly string[]) => `${pipeline.sinks.keyPrefix}public:k_bytes:${rowIdOf(key)}`;
  await cache.del(at("\\x00ff", LONG));
  await cache.hset(at("\\x00fe", LONG), "k", "AP4=", "filler", LONG, "_millrace_version", "1");
  const repaired = await reconcile(pipeline.installation, "--repair");
  expect({ exitCode: repaired.exitCode, drift: driftOf(repaired.found) }).toEqual({
    exitCode: 3,
    drift: { redis: [`public.k_bytes \\x00fe ${LONG} extra`, `public.k_bytes \\x00ff ${LONG} missing`] },
  });
  const after = await reconcile(pipeline.installation);
  expect({ exitCode: after.exitCode, drift: driftOf(after.found) }).toEqual({ exitCode: 0, drift: {} });
});
