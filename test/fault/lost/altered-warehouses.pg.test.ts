/**
 * Somebody drops or renames columns in a warehouse by hand: their values are read again, or a history stops by number.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { runInFile } from "../../support/warehouses/duckdb-file.ts";
import { runInLake } from "../../support/warehouses/ducklake-target.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { sinkOf } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `create table kept (id int primary key, body text, n int);
  insert into kept select g, repeat('k', g), g from generate_series(1, 100) g`;
const NOTICED = { withinMs: 60_000, everyMs: 250 };

test("columns dropped or renamed in a warehouse while the daemon is down are filled again, though no row moves", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres", "postgres-history", "duckdb", "ducklake"],
  });
  await pipeline.settled();
  await pipeline.daemon.stop();
  const { installation, sinks } = pipeline;
  const dropped = "alter table public.kept drop column body";
  await sinks.target!.query(`${dropped}; alter table history.kept drop column n`);
  await runInFile(
    join(installation.folder, "warehouse.duckdb"),
    "alter table public.kept rename column body to corpus",
  );
  await runInLake(join(installation.folder, "ducklake.db"), dropped);
  await pipeline.start(false);
  await eventually(async () => {
    const { state, error } = await sinkOf(pipeline, "postgres-history");
    expect({ state, code: error?.code }).toEqual({ state: "failed", code: "MR1315" });
  }, NOTICED);
  await installation.command("snapshot", "start", "--sink", "postgres-history");
  await pipeline.expectEqual(["kept"]);
});

test("a column dropped under the running daemon is filled again with the table's next change", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres"] });
  await pipeline.settled();
  await pipeline.sinks.target!.query("alter table public.kept drop column body");
  await pipeline.run("update kept set n = 0 where id = 1");
  await pipeline.expectEqual(["kept"]);
});

test("a view on a column whose type changes at the source suspends the table by number, and names the view", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres"] });
  await pipeline.settled();
  const target = pipeline.sinks.target!;
  await target.query("create view totals as select sum(n) from public.kept");
  await pipeline.run("alter table kept alter n type bigint");
  await pipeline.run("update kept set n = 0 where id = 1");
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(tables.suspended).toMatchObject([
      { table: "public.kept", error: { code: "MR3122", message: expect.stringMatching(/view (public\.)?totals/) } },
    ]);
  }, NOTICED);
  await target.query("drop view totals");
  await pipeline.installation.command("snapshot", "start", "--tables", "public.kept");
  await pipeline.expectEqual(["kept"]);
});
