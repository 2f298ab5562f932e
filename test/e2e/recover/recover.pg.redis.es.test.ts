/**
 * `recover`: after a lost slot the sinks are brought right by reading what differs.
 * @module-tag heavy
 */
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { PROGRAM } from "../../support/run/program.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROW_COUNT = 2_000;
const PREPARED = `create table item (id int primary key, name text, body text);
  alter table item alter body set storage external;
  insert into item select g, 'n' || g, repeat(md5(g::text), 100) from generate_series(1, ${ROW_COUNT}) g;
  create table pair (a int, b text, n int, primary key (a, b));
  insert into pair select g % 7, 'b' || g, g from generate_series(1, 300) g;
  create table calm (id int primary key);
  insert into calm select generate_series(1, 50)`;
const TABLES = ["item", "pair", "calm"];
/** In the log that is lost. */
const BETWEEN = `update item set name = 'moved' where id in (10, 500, 1999);
  update item set id = id + 10000 where id in (20, 30);
  delete from item where id in (40, 50, 60, 70);
  insert into item values (5001, 'new', 'short'), (5002, null, null);
  update pair set n = -n where a = 3 and n < 100`;
/** Each key counts: one that was moved is one to remove, and one to add. */
const ITEM_DIFFERENCES = 3 + 2 * 2 + 4 + 2;
/** Of the places to be killed at, those of the short form. */
const SHORT: ReadonlySet<string> = new Set(["recover.listed"]);
const AFTER = `update item set name = 'unchanged body' where id = 500;
  update item set name = 'again' where id = 5001;
  delete from item where id = 10;
  insert into calm values (99)`;

interface Recovered {
  readonly applied: boolean;
  readonly lost: { readonly code: string } | null;
  readonly epoch: number;
  readonly tables: readonly string[];
  readonly mended: readonly { readonly table: string; readonly sink: string; readonly rows: number }[];
}

async function recover(pipeline: RunningPipeline, ...args: readonly string[]): Promise<Recovered> {
  const { exitCode, stdout, stderr } = await pipeline.installation.command("recover", "--json", "--yes", ...args);
  expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
  return JSON.parse(stdout);
}

/** Changes whose log nobody will read any more. */
async function loseSlot(pipeline: RunningPipeline): Promise<void> {
  await pipeline.settled();
  await pipeline.daemon.stop();
  await pipeline.run(BETWEEN);
  await pipeline.run(
    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()",
  );
}

test("the plan is shown, then nothing is read again but what differs", async () => {
  await using pipeline = await RunningPipeline.start(PREPARED, { kinds: CHOSEN_KINDS });
  const { installation, sinks } = pipeline;
  await loseSlot(pipeline);
  const { exitCode, stderr } = await installation.run().ended;
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/MR2010.*millrace recover/s),
  });
  const plan = await installation.command("recover");
  expect(plan).toMatchObject({ exitCode: 4, stdout: expect.stringMatching(/MR2010.*public\.item.*--yes/s) });
  expect(await installation.command("recover", "--sink", "redis")).toMatchObject({
    exitCode: 4,
    stderr: expect.stringMatching(/MR1127/),
  });
  const names = Object.keys(sinks.config).toSorted();
  const found = await recover(pipeline);
  expect(found).toMatchObject({ applied: true, lost: { code: "MR2010" }, epoch: 2 });
  const mended = Object.groupBy(found.mended, ({ table }) => table);
  for (const [table, count] of [
    ["public.item", ITEM_DIFFERENCES],
    ["public.pair", 14],
    ["public.calm", 0],
  ] as const) {
    expect(mended[table]?.map(({ rows, sink }) => [sink, rows]).toSorted()).toEqual(names.map((name) => [name, count]));
  }
  // No comparison that somebody asked for: its differences are nobody's alarm.
  expect((await installation.command("report", "list")).stdout).toBe("none\n");
  const { rows } = await sinks.target!.query<{ count: string }>(
    "select count(*) as count from public.item where _millrace_version >= 2::bigint << 55",
  );
  // Those that are there: nothing else was written.
  expect(Number(rows[0]?.count)).toBe(3 + 2 + 2);
  await pipeline.start();
  await pipeline.run(AFTER);
  await pipeline.expectEqual(TABLES);
  expect(await installation.command("recover")).toMatchObject({ exitCode: 4 });
  await pipeline.daemon.stop();
  expect(await installation.command("recover", "--anyway", "--sink", "redis")).toMatchObject({ exitCode: 4 });
  expect(await installation.command("recover")).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/there is nothing to recover/),
  });
});

test("a sink that is paused delays no other: those are repaired, and a comparison of them is not refused", async () => {
  await using pipeline = await RunningPipeline.start(PREPARED, { kinds: ["postgres", "redis"] });
  const { installation } = pipeline;
  await loseSlot(pipeline);
  await installation.command("pause", "--sink", "redis");
  expect(await installation.command("recover", "--yes")).toMatchObject({ exitCode: 1 });
  await pipeline.start(false);
  await eventually(async () =>
    expect((await installation.ask<StatusDocument>("GET", "/api/v1/status"))?.phase).toBe("streaming"),
  );
  await eventually(async () => {
    const { exitCode, found } = await reconcile(installation, "--sink", "postgres");
    expect({ exitCode, notComparable: found.notComparable }).toEqual({ exitCode: 0, notComparable: [] });
  });
  // However often it was looked at.
  expect(pipeline.daemon.said.match(/can't be compared yet/g)).toHaveLength(1);
  await installation.command("resume", "--sink", "redis");
  await pipeline.settled();
  await pipeline.expectEqual(TABLES);
});

test.for(["recover.created", "recover.listed", "reset.noted", "reset.settled"])(
  "killed at %s it is done again, or gone on with",
  async (where, { skip }) => {
    skip(!SHORT.has(where) && !isLongForm(), "it is part of the long form");
    await using pipeline = await RunningPipeline.start(PREPARED, { kinds: ["postgres", "redis"] });
    await loseSlot(pipeline);
    const environment = { MILLRACE_FAILPOINTS: `${where}=kill` };
    const { signal, stderr } = await pipeline.installation.runProgram(PROGRAM, environment, "recover", "--yes").ended;
    expect({ signal, stderr }).toMatchObject({ signal: "SIGKILL" });
    await pipeline.run(AFTER);
    if (where.startsWith("recover.")) expect(await recover(pipeline)).toMatchObject({ lost: { code: "MR2010" } });
    await pipeline.start();
    await pipeline.expectEqual(TABLES);
  },
);

test("one sink that was spoiled is compared, and the others are left alone", { tags: "long" }, async () => {
  await using pipeline = await RunningPipeline.start(PREPARED, { kinds: ["postgres", "duckdb"] });
  await pipeline.settled();
  await pipeline.daemon.stop();
  await pipeline.sinks.target!.query(
    "delete from public.item where id % 400 = 1; update public.pair set n = 0 where a = 1 and b = 'b1'",
  );
  await pipeline.run(BETWEEN);
  const found = await recover(pipeline, "--sink", "postgres");
  expect(found).toMatchObject({ applied: true, lost: null, epoch: 1 });
  expect(new Set(found.mended.map(({ sink }) => sink))).toEqual(new Set(["postgres"]));
  await pipeline.start();
  await pipeline.run(AFTER);
  await pipeline.expectEqual(TABLES);
});

test("a new position is made although the log is good, where that is asked for", { tags: "long" }, async () => {
  await using pipeline = await RunningPipeline.start(PREPARED, { kinds: ["postgres"] });
  await pipeline.settled();
  await pipeline.daemon.stop();
  await pipeline.run(BETWEEN);
  const found = await recover(pipeline, "--anyway");
  expect(found).toMatchObject({ applied: true, lost: null, epoch: 2 });
  expect(found.mended.find(({ table }) => table === "public.item")?.rows).toBe(ITEM_DIFFERENCES);
  await pipeline.start();
  await pipeline.run(AFTER);
  await pipeline.expectEqual(TABLES);
});

interface Finding {
  readonly part: string;
  readonly id: string;
  readonly level: string;
  readonly what: string;
  readonly fix: string | null;
}

async function errorsOfCheck({ installation }: RunningPipeline): Promise<readonly Finding[]> {
  const { stdout } = await installation.command("check", "--json");
  const { findings }: { findings: readonly Finding[] } = JSON.parse(stdout);
  return findings.filter(({ level }) => level === "error");
}

test(
  "a state restored to before a recovery: check says what run says, and recover is the way out",
  { tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start(PREPARED, { kinds: ["postgres", "redis"] });
    const { installation } = pipeline;
    const [folder, copy] = [join(installation.folder, ".millrace"), join(installation.folder, "copy")];
    await pipeline.settled();
    await pipeline.daemon.stop();
    cpSync(folder, copy, { recursive: true });
    await recover(pipeline, "--anyway");
    await pipeline.run(BETWEEN);
    expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
    rmSync(folder, { recursive: true });
    cpSync(copy, folder, { recursive: true });
    await pipeline.run(AFTER);
    // The slot was made anew, behind everything that this state knows.
    expect(await errorsOfCheck(pipeline)).toMatchObject([
      { id: "log", what: expect.stringContaining("MR2010"), fix: expect.stringContaining("millrace recover") },
    ]);
    expect(await installation.command("run", "--once")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("MR2010"),
    });
    expect(await recover(pipeline)).toMatchObject({ lost: { code: "MR2010" }, epoch: 3 });
    expect(await errorsOfCheck(pipeline)).toEqual([]);
    await pipeline.start();
    await pipeline.expectEqual(TABLES);
  },
);

test(
  "a state that is older than a sink's epoch: check names the sink as run does, and recover is the way out",
  { tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start(PREPARED, { kinds: ["postgres", "redis"] });
    const { installation, sinks } = pipeline;
    await pipeline.settled();
    await pipeline.daemon.stop();
    await sinks.target!.query("update _millrace.progress set epoch = epoch + 1");
    const [error, ...others] = await errorsOfCheck(pipeline);
    expect(others).toEqual([]);
    expect(error).toMatchObject({ part: "postgres", id: "MR1311", fix: expect.stringContaining("millrace recover") });
    expect(await installation.command("run", "--once")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("MR1311"),
    });
    expect(await recover(pipeline)).toMatchObject({ lost: { code: "MR1311" }, epoch: 3 });
    expect(await errorsOfCheck(pipeline)).toEqual([]);
    await pipeline.start();
    await pipeline.run(AFTER);
    await pipeline.expectEqual(["item", "calm"]);
  },
);
