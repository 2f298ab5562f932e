/** `reconcile`: what the sinks hold beside the source, while both are live, by the real command line. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { runInFile } from "../../support/warehouses/duckdb-file.ts";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import { IN_WAREHOUSES, ITEMS, STATEMENTS } from "../../support/planted/planted-items.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { searchCall } from "../../support/caches/search-rows.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { elasticsearchUrl, type FreshDatabase } from "../../support/run/services.ts";
import { KEPT_KINDS, SINK_KINDS, type SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

/** With each of them some more work for the machine: the other forms are compared without writers. */
const UNDER_LOAD: readonly SinkKind[] = ["postgres", "duckdb-soft", "redis", "elasticsearch"];
const EVERY_FORM: readonly SinkKind[] = [...SINK_KINDS, ...KEPT_KINDS];

test("writers that change rows in every way while it compares: no drift in any sink", async () => {
  let workload: Workload | undefined;
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      workload = new Workload(source.url, 7);
      await workload.createTables(800);
    },
    { kinds: UNDER_LOAD },
  );
  await using writers = workload!;
  writers.start(50);
  const before = writers.transactionCount;
  const { exitCode, found } = await reconcile(pipeline.installation);
  expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({
    exitCode: 0,
    drift: {},
    rest: [],
  });
  expect(found.drift).toBe(false);
  expect(found.tables.length).toBe(UNDER_LOAD.length * WORKLOAD_TABLES.length);
  for (const { table, compared } of found.tables) {
    if (table === "public.line") expect(compared).toBeGreaterThan(400);
  }
  expect(writers.transactionCount).toBeGreaterThan(before);
});

const IN_CACHE = [
  "public.item 10 p:10 different name",
  "public.item 12  different note",
  "public.item 13 p:13 different note",
  "public.item 14 p:14 missing",
  "public.item 15 stray extra",
  "public.item 16 p:16 different name",
  "public.item 17 p:17 different seen",
  "public.item 20 p:20 different stray",
  "public.item 24  different _millrace_version",
  "public.item 26 p:26 different id part name note seen amount tags body _millrace_version",
  "public.item no:number extra",
].toSorted();

async function plantInCache(pipeline: RunningPipeline): Promise<void> {
  using cache = pipeline.cache();
  const at = (id: string) => `${pipeline.sinks.keyPrefix}public:item:${id}`;
  await cache.hset(at("10:p%3A10"), "name", "wrong");
  await cache.hdel(at("12:%"), "note");
  await cache.hset(at("13:p%3A13"), "note", "");
  await cache.del(at("14:p%3A14"));
  await cache.hset(at("15:stray"), "id", "15", "_millrace_version", "1");
  await cache.hset(at("16:p%3A16"), "name", "n16 ");
  await cache.hset(at("17:p%3A17"), "seen", "2026-11-20T06:43:15.123457Z");
  await cache.hset(at("20:p%3A20"), "stray", "field");
  await cache.hset(at("24:%"), "_millrace_version", "9223372036854775807");
  await cache.set(at("26:p%3A26"), "no hash");
  await cache.hset(at("no:number"), "id", "no");
}

const IN_INDEX = [
  "public.item 10 p:10 different name _version",
  "public.item 11 p:11 different id _version",
  "public.item 12  different note _version",
  "public.item 14 p:14 missing",
  "public.item 15 stray extra",
  "public.item 17 p:17 different seen _version",
  "public.item no:number extra",
].toSorted();

async function plantInIndex(pipeline: RunningPipeline): Promise<void> {
  const alias = `/${pipeline.sinks.indexPrefix}public.item`;
  const call = async (method: string, path: string, body?: object) => {
    const { status, text } = await searchCall(elasticsearchUrl(), method, path, body && JSON.stringify(body));
    if (status > 201) throw new Error(text);
  };
  const change = (id: string, doc: object) => call("POST", `${alias}/_update/${encodeURIComponent(id)}`, { doc });
  await change("10:p%3A10", { name: "wrong" });
  await change("11:p%3A11", { id: "11" });
  await change("12:%", { note: null });
  await call("DELETE", `${alias}/_doc/${encodeURIComponent("14:p%3A14")}`);
  await call("PUT", `${alias}/_doc/15:stray`, { id: 15, _millrace_version: 1 });
  await change("17:p%3A17", { seen: "2026-11-20T06:43:15.123457Z" });
  await call("PUT", `${alias}/_doc/no:number`, { id: 0, _millrace_version: 1 });
}

/** Keeps changing rows of `moving` until it is stopped. */
function keepMoving(source: FreshDatabase): () => Promise<void> {
  const stopping = new AbortController();
  const moving = (async () => {
    await using client = await source.connect();
    for (let n = 1; !stopping.signal.aborted; n++) {
      await client.query("update moving set n = $1 where id % 10 = $1 % 10", [n]);
      await client.query("delete from moving where id = $1", [n % 1000]);
      await client.query("insert into moving values ($1, $2) on conflict do nothing", [(n % 1000) - 5, n]);
      // Some time for the sinks of a busy machine.
      await client.query("select pg_sleep(0.02)");
    }
  })();
  return async () => {
    stopping.abort();
    await moving;
  };
}

test(
  "faults planted in the sinks are found with key and column, and nothing else, with a daemon and without",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(ITEMS, { kinds: SINK_KINDS });
    await pipeline.settled();
    await pipeline.daemon.stop();
    await pipeline.sinks.target!.query(STATEMENTS);
    await runInFile(join(pipeline.installation.folder, "warehouse.duckdb"), STATEMENTS);
    await plantInCache(pipeline);
    await plantInIndex(pipeline);
    const stop = keepMoving(pipeline.source);
    try {
      for (const isRunning of isLongForm() ? [false, true] : [false]) {
        if (isRunning) await pipeline.start();
        const { exitCode, found, stderr } = await reconcile(pipeline.installation);
        expect({ exitCode, drift: driftOf(found), rest: found.notComparable }, stderr).toEqual({
          exitCode: 3,
          drift: { postgres: IN_WAREHOUSES, duckdb: IN_WAREHOUSES, redis: IN_CACHE, elasticsearch: IN_INDEX },
          rest: [],
        });
        for (const { table, sink, ...counts } of found.tables) {
          if (table !== "public.item" || !["postgres", "duckdb"].includes(sink)) continue;
          expect({ sink, counts }).toEqual({
            sink,
            counts: expect.objectContaining({
              sourceRows: 1_500,
              sinkRows: 1_501,
              missing: 2,
              extra: 3,
              different: 12,
            }),
          });
        }
      }
      if (!isLongForm()) await pipeline.start();
      const some = ["--tables", "public.item", "--sink", "duckdb", "--report", "./reports"];
      const one = await pipeline.installation.command("reconcile", ...some);
      expect(one).toMatchObject({ exitCode: 3, stdout: expect.stringMatching(/different id "10", part "p:10": name/) });
      expect(one.stdout).not.toMatch(/wrong|postgres/);
      const reports = join(pipeline.installation.folder, "reports");
      const written = readdirSync(reports).toSorted();
      expect(written).toEqual([
        expect.stringMatching(/\.html$/),
        expect.stringMatching(/\.json$/),
        expect.stringMatching(/\.md$/),
      ]);
      const [asPage = "", asJson = "", asText = ""] = written.map((file) => readFileSync(join(reports, file), "utf8"));
      expect(JSON.parse(asJson)).toMatchObject({ drift: true, tables: [{ sink: "duckdb", table: "public.item" }] });
      for (const text of [asPage, asText]) expect(text).toContain("17 rows differ");
      const mended = await reconcile(pipeline.installation, "--repair");
      expect(mended, mended.stderr).toMatchObject({ exitCode: 3, found: { drift: true, notComparable: [] } });
      const counts = mended.found.tables.filter(({ table }) => table === "public.item");
      expect(Object.fromEntries(counts.map(({ sink, repaired }) => [sink, repaired]))).toEqual({
        postgres: IN_WAREHOUSES.length - 1,
        duckdb: IN_WAREHOUSES.length - 1,
        redis: IN_CACHE.length - 3,
        elasticsearch: IN_INDEX.length - 1,
      });
      const again = await reconcile(pipeline.installation);
      expect({ drift: driftOf(again.found), rest: again.found.notComparable }).toEqual({
        drift: {
          // A version beyond the log keeps every write out, and what lies under an id of no row can't be told to go.
          postgres: ["public.item 24  different _millrace_version"],
          duckdb: ["public.item 24  different _millrace_version"],
          redis: ["public.item 24  different _millrace_version", "public.item no:number extra"],
          elasticsearch: ["public.item no:number extra"],
        },
        rest: [],
      });
      // What is no hash refuses the row, which waits as a dead letter.
      expect(again.found.tables.find(({ sink, table }) => sink === "redis" && table === "public.item")).toMatchObject({
        deadLetters: 1,
      });
    } finally {
      await stop();
    }
  },
);

/** The same cache in the other format, below the prefix that is cleared at the end. */
function inJson(redis: object): object {
  return { ...redis, format: "json", prefix: `${String(Reflect.get(redis, "prefix"))}json:` };
}

test("every type of Postgres with its edge values is equal in every form of sink, after changes too", async () => {
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      await source.query(EDGE_TYPES);
      const columns = edgeValues.map(([native], i) => `c${i} ${native}`);
      await source.query(`create table every (id serial primary key, ${columns.join(", ")})`);
      for (const [i, [native, texts]] of edgeValues.entries()) {
        await source.query(`insert into every (c${i}) select text::${native} from unnest($1::text[]) as v (text)`, [
          texts,
        ]);
      }
      await source.query("insert into every default values");
    },
    {
      kinds: EVERY_FORM,
      // The cache in its other format, too.
      configure: ({ sinks, ...config }) => ({
        ...config,
        sinks: { ...sinks, json: inJson(sinks["redis"]!) },
      }),
    },
  );
  await pipeline.run("update every set id = id + 100000 where id % 11 = 0; delete from every where id % 7 = 0");
  await pipeline.run("insert into every (id) values (7); update every set id = -id where id % 5 = 0");
  const { exitCode, found } = await reconcile(pipeline.installation);
  expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({ exitCode: 0, drift: {}, rest: [] });
  expect(found.tables.length).toBe(EVERY_FORM.length + 1);
  for (const { compared } of found.tables) expect(compared).toBeGreaterThan(200);
});

test("a sink that does not come is not comparable, a second comparison is refused, and what is named wrongly is told", async () => {
  await using pipeline = await RunningPipeline.start(ITEMS, { kinds: ["postgres", "duckdb"] });
  await pipeline.settled();
  expect(await pipeline.installation.command("reconcile", "--sink", "nowhere")).toMatchObject({ exitCode: 2 });
  expect(await pipeline.installation.command("reconcile", "--tables", "public.nothing")).toMatchObject({ exitCode: 2 });
  await pipeline.installation.command("pause", "--sink", "postgres");
  const { exitCode, found } = await reconcile(pipeline.installation, "--patience", "3s", "--tables", "public.item");
  expect({ exitCode, drift: found.drift, compared: found.tables.map(({ sink }) => sink) }).toEqual({
    exitCode: 1,
    drift: false,
    compared: ["duckdb"],
  });
  expect(found.notComparable).toEqual([
    { sink: "postgres", table: "public.item", reason: expect.stringMatching(/paused.*behind/) },
  ]);
  await pipeline.installation.command("resume", "--sink", "postgres");
  await pipeline.daemon.streaming();
  await using locker = await pipeline.source.connect();
  await locker.query("begin; lock table item in access exclusive mode");
  const first = reconcile(pipeline.installation);
  await eventually(async () => {
    const status = await pipeline.installation.ask<{ running: object | null }>("GET", "/api/v1/reconcile");
    expect(status?.running).not.toBeNull();
  });
  expect(await pipeline.installation.command("reconcile")).toMatchObject({
    exitCode: 4,
    stderr: expect.stringContaining("MR1401"),
  });
  await locker.query("rollback");
  expect(await first).toMatchObject({ exitCode: 0, found: { drift: false, notComparable: [] } });
});
