/** What is large at the source passes through a daemon that stays small. */
import { expect, test } from "vitest";
import { residentWatch } from "../../support/daemon/resident-watch.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { eventually } from "../../support/run/waiting.ts";

const MB = 1024 * 1024;
const RESIDENT_BYTES_MAX = 256 * MB;
const RESIDENT_BYTES_MAX_LARGE_ROWS = 500 * MB;
const ROW_COUNT = isLongForm() ? 2_000_000 : 300_000;

test(
  `a transaction of ${ROW_COUNT} rows, half of them updated in it, within 256 MB`,
  { tags: "heavy", timeout: ROW_COUNT + 120_000 },
  async () => {
    await using pipeline = await RunningPipeline.start("create table big (id int primary key, n int, body text)", {
      kinds: ["postgres", "redis"],
    });
    await using watch = residentWatch(pipeline.daemon);
    await pipeline.run(`begin;
    insert into big select g, 0, repeat(md5(g::text), 4) from generate_series(1, ${ROW_COUNT}) g;
    update big set n = 1 where id % 2 = 0; delete from big where id % 10 = 0; commit`);
    await pipeline.settled(ROW_COUNT);
    await pipeline.expectEqual(["big"]);
    report(`${ROW_COUNT} rows`, watch.mostBytes);
    expect(watch.mostBytes).toBeLessThan(RESIDENT_BYTES_MAX);
  },
);

test("killed in the middle of a large transaction it goes on there, within 256 MB", { tags: "long" }, async () => {
  await using pipeline = await RunningPipeline.start("create table big (id int primary key, n int, body text)", {
    kinds: ["postgres", "redis"],
  });
  await pipeline.run(`begin;
    insert into big select g, 0, repeat(md5(g::text), 4) from generate_series(1, 100000) g;
    update big set n = 1 where id % 2 = 0; commit`);
  const target = pipeline.sinks.target!;
  for (const part of [10_000, 50_000]) {
    await eventually(
      async () => {
        const { rows } = await target.query<{ count: number }>("select count(*)::int as count from public.big");
        return (rows[0]?.count ?? 0) >= part;
      },
      { withinMs: 60_000 },
    );
    await pipeline.kill();
    await pipeline.start();
  }
  await using watch = residentWatch(pipeline.daemon);
  await pipeline.expectEqual(["big"]);
  expect(watch.mostBytes).toBeLessThan(RESIDENT_BYTES_MAX);
});

test(
  "many rows of 5 MB are read beside the stream, and compared while a sink lacks them, within 500 MB",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      `create table wide (id int primary key, body text); alter table wide alter body set storage external;
     insert into wide select g, repeat('y', 5000000) from generate_series(1, 60) g`,
      { kinds: ["postgres"] },
    );
    await pipeline.settled(90_000);
    await using watch = residentWatch(pipeline.daemon);
    const { installation } = pipeline;
    expect(await installation.command("snapshot", "start", "--tables", "public.wide")).toMatchObject({ exitCode: 0 });
    expect(await installation.command("wait", "--timeout", "90s")).toMatchObject({ exitCode: 0 });
    report("rows of 5 MB, read beside the stream", watch.mostBytes);
    await pipeline.sinks.target!.query("delete from public.wide");
    const compared = await installation.command("reconcile", "--repair");
    report("rows of 5 MB, compared", watch.mostBytes);
    expect(compared).toMatchObject({ exitCode: 3 });
    await pipeline.settled(90_000);
    await pipeline.expectEqual(["wide"]);
    expect(watch.mostBytes).toBeLessThan(RESIDENT_BYTES_MAX_LARGE_ROWS);
  },
);

function report(what: string, bytes: number): void {
  process.stdout.write(`${what}: at most ${Math.round(bytes / MB)} MB resident\n`);
}
