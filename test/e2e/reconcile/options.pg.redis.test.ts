/**
 * `reconcile`: what its options change of what it says, and does.
 * @module-tag heavy
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import type { ReconcileStatus } from "../../../src/core/contracts/reconciliation.ts";
import { partOf } from "../../../src/reconcile/rows/rotation.ts";
import { CANARY } from "../../support/daemon/canary.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { PROGRAM } from "../../support/run/program.ts";
import { copyDuckdbFile, runInFile } from "../../support/warehouses/duckdb-file.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROWS = `create table item (id int primary key, name text);
  insert into item select g, 'n' || g from generate_series(1, 2000) g`;
const KINDS = ["postgres", "redis"] as const;
/** Some of each part. */
const CHANGED = Array.from({ length: 60 }, (_, i) => 100 + i);

async function spoiled(): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(ROWS, { kinds: KINDS });
  await pipeline.settled();
  await pipeline.sinks.target!.query(
    `update public.item set name = 'somebody' where id between 100 and 159;
    delete from public.item where id = 1500;
    insert into public.item (id, name, _millrace_version, _millrace_commit_time) values (-1, 'x', 1, now());
    update public.item set _millrace_version = 9223372036854775807 where id = 7`,
  );
  using cache = pipeline.cache();
  await cache.del(`${pipeline.sinks.keyPrefix}public:item:1600`);
  await cache.hset(`${pipeline.sinks.keyPrefix}public:item:1601`, "stray", "field");
  return pipeline;
}

test("a fast one sees every key, and values of the part of the day; a dry run plans and writes nothing; values are shown when asked", async () => {
  await using pipeline = await spoiled();
  const fast = await reconcile(pipeline.installation, "--mode", "fast", "--sample", "100");
  const part = fast.found.part!.number;
  const inPart = (ids: readonly number[]) => ids.filter((id) => partOf(String(id)) === part);
  expect(inPart(CHANGED).length).toBeGreaterThan(0);
  expect({ exitCode: fast.exitCode, drift: driftOf(fast.found), rest: fast.found.notComparable }).toEqual({
    exitCode: 3,
    drift: {
      postgres: [
        "public.item -1 extra",
        "public.item 1500 missing",
        ...inPart(CHANGED).map((id) => `public.item ${id} different name`),
        ...inPart([7]).map((id) => `public.item ${id} different _millrace_version`),
      ].toSorted(),
      redis: [
        "public.item 1600 missing",
        ...inPart([1601]).map((id) => `public.item ${id} different stray`),
      ].toSorted(),
    },
    rest: [],
  });
  for (const { sourceRows, compared } of fast.found.tables) {
    expect(sourceRows).toBe(2_000);
    expect(compared).toBeLessThan(600);
  }
  const { installation } = pipeline;
  const planned = await installation.command("reconcile", "--repair", "--dry-run", "--show-values", "--sample", "2");
  expect(planned).toMatchObject({ exitCode: 3 });
  expect(planned.stdout).toContain('different id "100": name "somebody" in place of "n100"');
  expect(planned.stdout).toContain(
    "a repair of public.item in postgres: 62 rows would be read again from the source, 1 be left",
  );
  expect(planned.stdout).toContain("and 61 more");
  const full = await reconcile(installation, "--sample", "1000");
  expect(full.stdout).not.toContain("somebody");
  expect(driftOf(full.found)["postgres"]!.length).toBe(63);
  const why = new Map(full.found.tables.flatMap(({ sample }) => sample.map((row) => [row.key["id"], row.why])));
  expect([why.get("100"), why.get("7"), why.get("1601")]).toEqual(["unknown", "beyond-epochs", "written-outside"]);
});

test("what is asked for wrongly is refused; who stops the command stops the comparison", async () => {
  await using pipeline = await RunningPipeline.start(ROWS, { kinds: KINDS });
  const { installation, source } = pipeline;
  for (const wrong of [
    ["--mode", "quick"],
    ["--sample", "0"],
    ["--sample", "10001"],
  ]) {
    expect(await installation.command("reconcile", ...wrong)).toMatchObject({ exitCode: 2 });
  }
  await using locker = await source.connect();
  await locker.query("begin; lock table item in access exclusive mode");
  const status = async () => (await installation.ask<ReconcileStatus>("GET", "/api/v1/reconcile"))!;
  const asked = installation.runProgram(PROGRAM, {}, "reconcile");
  await eventually(async () => (await status()).running !== null);
  asked.signal("SIGINT");
  expect(await asked.ended).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1402") });
  await eventually(async () => (await status()).running === null);
  expect((await status()).failure).toMatchObject({ code: "MR1402", message: expect.stringContaining("was stopped") });
  await locker.query("rollback");
  expect(await reconcile(installation)).toMatchObject({ exitCode: 0 });
  await pipeline.run("create table gone (id int primary key)");
  await pipeline.settled();
  await pipeline.run("drop table gone");
  await eventually(async () => {
    const { exitCode, found } = await reconcile(installation, "--tables", "public.gone");
    expect({ exitCode, reasons: new Set(found.notComparable.map(({ reason }) => reason)) }).toEqual({
      exitCode: 1,
      reasons: new Set(["it is not captured now"]),
    });
  });
  expect(await installation.command("reconcile", "--tables", "public.item", "public.no*")).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("no captured table matches public.no*"),
  });
  expect(await installation.command("reconcile", "--tables", "public.item,public.gone")).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("--tables public.item public.gone"),
  });
  // The wildcard also fits the table that is gone.
  expect(await reconcile(installation, "--tables", "public.*")).toMatchObject({ exitCode: 0 });
});

test("one that was broken off goes on where it stood, in another process too, and finds what the whole one would", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table wide (id int primary key, name text, body text);
      insert into wide select g, 'n' || g, repeat(md5(g::text), 30) from generate_series(1, 60000) g;
      create table item (id int primary key, name text);
      insert into item select g, 'n' || g from generate_series(1, 100) g`,
    { kinds: ["postgres"] },
  );
  await pipeline.settled();
  const { target } = pipeline.sinks;
  await target!.query(`update public.wide set name = 'somebody' where id in (5, 59990);
    delete from public.wide where id in (6, 59991); delete from public.item where id = 1;
    insert into public.wide (id, name, _millrace_version, _millrace_commit_time) values (-1, 'x', 1, now())`);
  const { installation } = pipeline;
  const asked = installation.runProgram(PROGRAM, {}, "reconcile");
  const status = async () => (await installation.ask<ReconcileStatus>("GET", "/api/v1/reconcile"))!;
  // Some chunks, and not all of them.
  const { id } = await eventually(
    async () => {
      const { running } = await status();
      expect(running).toMatchObject({ table: "public.wide" });
      expect(running!.rowsCompared).toBeGreaterThan(5_000);
      return running!;
    },
    { everyMs: 5 },
  );
  asked.signal("SIGTERM");
  expect(await asked.ended).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("--resume") });
  await pipeline.restart();
  expect(await installation.command("reconcile", "--resume", "no-such")).toMatchObject({ exitCode: 2 });
  const { exitCode, found } = await reconcile(installation, "--resume", id);
  expect({ exitCode, id: found.id, drift: driftOf(found), rest: found.notComparable }).toEqual({
    exitCode: 3,
    id,
    drift: {
      postgres: [
        "public.item 1 missing",
        "public.wide -1 extra",
        "public.wide 5 different name",
        "public.wide 59990 different name",
        "public.wide 59991 missing",
        "public.wide 6 missing",
      ],
    },
    rest: [],
  });
  const [, wide] = found.tables;
  const rows = wide!.coverage!.map((range) => range.rows!);
  // The first process went through some of them.
  expect(rows.length).toBeGreaterThan(1);
  expect(rows.reduce((sum, one) => sum + one, 0)).toBe(60_000);
  expect(wide!.coverage!.map(({ upTo }) => upTo).lastIndexOf(null)).toBe(rows.length - 1);
  expect(wide).toMatchObject({ compared: 60_000, sourceRows: 60_000, missing: 2, different: 2, extra: 1 });
  // It has ended, and is not kept any more.
  expect(await installation.command("reconcile", "--resume", id)).toMatchObject({ exitCode: 2 });
});

test("one that was broken off compares again what it had compared of a sink in whose place an older copy was put", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table wide (id int primary key, name text, body text);
      insert into wide select g, 'n' || g, repeat(md5(g::text), 30) from generate_series(1, 60000) g`,
    { kinds: ["duckdb", "postgres"] },
  );
  await pipeline.settled();
  const { installation } = pipeline;
  // The source keeps the log for it, from before the copy.
  await installation.command("pause", "--sink", "postgres");
  const arrived = async () =>
    expect(await installation.command("wait", "--sink", "duckdb")).toMatchObject({ exitCode: 0 });
  const file = join(installation.folder, "warehouse.duckdb");
  const copy = `${file}.older`;
  await pipeline.daemon.stop();
  copyDuckdbFile(file, copy);
  await runInFile(copy, "delete from public.wide where id = 5");
  await pipeline.start(false);
  await pipeline.run("update wide set name = 'later' where id = 7");
  await eventually(arrived);
  const asked = installation.runProgram(PROGRAM, {}, "reconcile", "--sink", "duckdb");
  const { id } = await eventually(
    async () => {
      const { running } = (await installation.ask<ReconcileStatus>("GET", "/api/v1/reconcile"))!;
      expect(running!.rowsCompared).toBeGreaterThan(5_000);
      return running!;
    },
    { everyMs: 5 },
  );
  asked.signal("SIGTERM");
  expect(await asked.ended).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("--resume") });
  await pipeline.daemon.stop();
  copyDuckdbFile(copy, file);
  await pipeline.start(false);
  await eventually(arrived);
  const { found } = await reconcile(installation, "--resume", id);
  expect({ drift: driftOf(found), rest: found.notComparable }).toEqual({
    drift: { duckdb: ["public.wide 5 missing"] },
    rest: [],
  });
  expect(found.tables).toMatchObject([{ compared: 60_000 }]);
});

test("one that was broken off takes nothing over of tables whose shape or rules have changed since", async () => {
  let config: PipelineConfig | null = null;
  await using pipeline = await RunningPipeline.start(
    `create table person (code text primary key, country text, mail text);
      insert into person values ('a1', 'AT', '${CANARY}'), ('a2', 'AT', '${CANARY}'), ('${CANARY}', 'DE', 'm');
      create table shape (id int primary key, name text); insert into shape values (1, 'n'), (2, 'n');
      create table same (id int primary key, name text); insert into same values (1, 'n'), (2, 'n');
      create table zone (id int primary key)`,
    { kinds: ["postgres"], configure: (made) => (config = made) },
  );
  await pipeline.settled();
  const { installation, source, sinks } = pipeline;
  await sinks.target!.query(`delete from public.person where country = 'DE' or code = 'a2';
    update public.person set mail = 'another'; delete from public.same where id = 1; delete from public.shape where id = 1`);
  await using locker = await source.connect();
  await locker.query("begin; lock table zone in access exclusive mode");
  const asked = installation.runProgram(PROGRAM, {}, "reconcile", "--show-values");
  const { id } = await eventually(async () => {
    const { running } = (await installation.ask<ReconcileStatus>("GET", "/api/v1/reconcile"))!;
    expect(running).toMatchObject({ tablesDone: 3, table: "public.zone" });
    return running!;
  });
  asked.signal("SIGTERM");
  expect(await asked.ended).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("--resume") });
  await locker.query("rollback");
  await pipeline.daemon.stop();
  const rules = { where: "country = 'AT'", columns: { mail: { drop: true } } };
  installation.configure({ ...config!, tables: { "public.person": rules } });
  await pipeline.start();
  await pipeline.run("alter table shape add more text default 'm'");
  await pipeline.settled();
  const { exitCode, found, stdout } = await reconcile(installation, "--resume", id);
  expect(stdout).not.toContain(CANARY);
  expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({
    exitCode: 3,
    drift: { postgres: ["public.same 1 missing"] },
    rest: [],
  });
});

test(
  "while the source is away nothing is said of the sinks: the comparison is broken off, and goes on later",
  { tags: "long" },
  async () => {
    const source = await freshDatabase();
    await using proxy = await tcpProxy(source.url);
    await using pipeline = await RunningPipeline.start(
      `${ROWS}; create table later (id int primary key); insert into later select generate_series(1, 50)`,
      {
        kinds: KINDS,
        source,
        configure: (config) => ({ ...config, source: { ...config.source, url: proxy.url(source.url) } }),
      },
    );
    await pipeline.settled();
    await pipeline.sinks.target!.query("delete from public.item where id = 5; delete from public.later where id = 6");
    const { installation } = pipeline;
    for (const isRunning of [true, false]) {
      if (!isRunning) await pipeline.daemon.stop();
      await using locker = await source.connect();
      await locker.query("begin; lock table later in access exclusive mode");
      const asked = installation.runProgram(PROGRAM, {}, "reconcile", "--patience", "2s");
      const status = async () => await installation.ask<ReconcileStatus>("GET", "/api/v1/reconcile");
      await eventually(async () => expect(await status()).toMatchObject({ running: { table: "public.later" } }));
      const { id } = (await status())!.running!;
      await proxy.refuse();
      proxy.cut();
      expect(await asked.ended).toMatchObject({
        exitCode: 1,
        stdout: "",
        stderr: expect.stringMatching(new RegExp(`MR1402: comparison ${id} was broken off: MR2001.*\\n.*--resume ID`)),
      });
      await proxy.resume();
      await locker.query("rollback");
      if (isRunning) await pipeline.settled();
      const { exitCode, found } = await reconcile(installation, "--resume", id);
      expect({ exitCode, id: found.id, drift: driftOf(found), rest: found.notComparable }).toEqual({
        exitCode: 3,
        id,
        drift: { postgres: ["public.item 5 missing", "public.later 6 missing"] },
        rest: [],
      });
    }
  },
);
