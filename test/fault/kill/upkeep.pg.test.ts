/** The daemon is killed as a sink suspends a table, and as DuckDB writes one anew: nothing is lost, nothing forgotten. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

test.concurrent(
  "killed as a table is suspended in one sink: it stays so, and the others go on",
  { tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      `create table t (id int primary key, a int); insert into t values (1, 1), (2, 2);
       create table other (id int primary key, a int); insert into other values (1, 1)`,
      { kinds: ["postgres", "duckdb"] },
    );
    const { installation } = pipeline;
    await pipeline.expectEqual(["t", "other"]);
    await pipeline.daemon.stop();
    const target = pipeline.sinks.target!;
    await target.query("create view public.shows as select a from public.t");
    pipeline.daemon = installation.run({ MILLRACE_FAILPOINTS: "sink.table-suspended=kill" });
    await pipeline.daemon.streaming();
    await pipeline.run("alter table t alter column a type text using 'n' || a; insert into t values (3, 'three')");
    await pipeline.killed("sink.table-suspended");
    await pipeline.run("insert into t values (4, 'four'); insert into other values (2, 2)");
    await pipeline.start();
    await eventually(async () => {
      const { suspended } = (await installation.status()).tables;
      expect(suspended).toMatchObject([{ table: "public.t", sink: "postgres", error: { code: "MR2027" } }]);
      expect((await target.query("select from public.other")).rowCount).toBe(2);
    });
    await target.query("drop view public.shows");
    const asked = await installation.command("snapshot", "start", "--tables", "public.t", "--sink", "postgres");
    expect(asked, asked.stderr).toMatchObject({ exitCode: 0 });
    await pipeline.expectEqual(["t", "other"]);
    expect((await installation.status()).tables.suspended).toEqual([]);
  },
);

const ROW_COUNT = 60_000;

const REWRITING = ["duckdb.rows-copied=kill@2", "duckdb.took-place=kill", "duckdb.rewritten=kill"];

test.concurrent.each(REWRITING)(
  "killed as DuckDB writes a table anew (%s): the rows are there, and the dead ones are gone",
  { tags: "long" },
  async (point) => {
    await using pipeline = await RunningPipeline.start(
      `create table worn (id int primary key, tags text[]);
       insert into worn select g, array['a'] from generate_series(1, ${ROW_COUNT}) g`,
      { kinds: ["duckdb"] },
    );
    const { installation } = pipeline;
    await pipeline.expectEqual(["worn"]);
    await pipeline.daemon.stop();
    pipeline.daemon = installation.run({ MILLRACE_FAILPOINTS: point });
    await pipeline.daemon.streaming();
    for (const tag of ["b", "c"]) await pipeline.run(`update worn set tags = array['${tag}']`);
    await pipeline.killed(point);
    await pipeline.start();
    await pipeline.run("update worn set tags = array['d'] where id <= 10");
    await pipeline.expectEqual(["worn"]);
    await eventually(
      async () => expect((await installation.status()).sinks).toMatchObject([{ deadRows: expect.closeTo(0, -3) }]),
      { withinMs: 60_000 },
    );
  },
);
