/**
 * `query`: read-only SQL on a DuckDB sink, with a daemon and without.
 * @module-tag heavy
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

test("answers beside the running daemon, after a kill and without one, and changes nothing", async () => {
  await using pipeline = await RunningPipeline.start(
    "create table orders (id int primary key, name text); insert into orders select g, 'n' || g from generate_series(1, 30) g",
    { kinds: ["duckdb"] },
  );
  const { installation } = pipeline;
  await pipeline.settled();
  const ask = (sql: string, ...more: readonly string[]) => installation.command("query", sql, ...more);
  const refused = [
    "delete from public.orders",
    "copy public.orders to 'out.csv'",
    "attach 'x.db'",
    "install httpfs",
    "select * from read_text('/etc/hostname')",
    "explain analyze delete from public.orders",
    "select 1; drop table public.orders",
  ];
  for (const isRunning of [true, false]) {
    const asJson = await ask("select id, name from public.orders where id < 3 order by id", "--json");
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      sink: "duckdb",
      rows: [
        { id: 1, name: "n1" },
        { id: 2, name: "n2" },
      ],
      truncated: false,
    });
    const table = await ask("select name from public.orders order by id", "--limit", "2");
    expect(table, table.stderr).toMatchObject({
      exitCode: 0,
      stdout: expect.stringMatching(/n1[\s\S]*n2[\s\S]*and more/),
    });
    for (const sql of refused) {
      const answer = await ask(sql);
      expect(answer, sql).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/MR1321/) });
    }
    expect(existsSync(join(installation.folder, "out.csv"))).toBe(false);
    expect(await ask("select 1", "--sink", "nowhere")).toMatchObject({ exitCode: 2 });
    if (isRunning) {
      const long = ask("select count(*) from range(1000000000) a, range(1000000) b", "--timeout", "1s");
      await pipeline.run("insert into orders values (100, 'while a query runs')");
      await pipeline.settled(8_000);
      expect(await long).toMatchObject({ exitCode: 5 });
      await pipeline.kill();
    }
  }
  await pipeline.start();
  await pipeline.expectEqual(["orders"]);
});
