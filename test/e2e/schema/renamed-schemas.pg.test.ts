/**
 * Schemas that get other names, on the oldest Postgres, which announces a table once in a session: by the name that it has at its
 * first change there. Wherever the stream begins, changes behind the rename are those of the table's new name.
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { OLDEST, oldestPostgres } from "../../support/postgres/oldest-postgres.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { eventually } from "../../support/run/waiting.ts";

test(`Postgres ${OLDEST}: tables have the changes that follow the rename of their schema`, async (context) => {
  await using server = await oldestPostgres(context);
  await using pipeline = await RunningPipeline.start(
    "create schema first; create table first.kept (id int primary key, v text); insert into first.kept values (0, 'v0')",
    {
      kinds: ["postgres", "duckdb"],
      source: await createFreshDatabase(server),
      configure: (config) => ({ ...config, source: { ...config.source, tables: ["*.*"] } }),
    },
  );
  let schema = "first";
  let last = 0;
  const change = async (): Promise<void> => {
    last++;
    await pipeline.run(
      `insert into ${schema}.kept values (${last}, 'v${last}'); update ${schema}.kept set v = v || '.'`,
    );
  };
  const rename = async (to: string): Promise<void> => {
    await pipeline.run(`alter schema ${schema} rename to ${to}`);
    schema = to;
  };
  /** A look has found the table under its new name, and a sink has it. */
  const isFound = async (): Promise<void> => {
    await eventually(async () => {
      const { rowCount } = await pipeline.sinks.target!.query(`select 1 from ${schema}.kept where id = 0`);
      return rowCount === 1;
    });
  };
  /** Those that were there when the table was found, and those that come when it is complete. */
  const expectChanges = async (): Promise<void> => {
    for (let round = 0; round < 2; round++) {
      await change();
      await eventually(() => pipeline.expectEqual([{ schema, table: "kept" }]));
    }
  };
  const command = async (...words: readonly string[]): Promise<void> => {
    expect(await pipeline.installation.command(...words)).toMatchObject({ exitCode: 0 });
  };
  await expectChanges();

  // While the daemon is away.
  await pipeline.daemon.stop();
  await change();
  await rename("second");
  await change();
  await pipeline.start();
  await expectChanges();

  // While it runs.
  await rename("third");
  await change();
  await expectChanges();

  // For a sink that is behind, and gets a stream of its own.
  await command("pause", "--sink", "duckdb");
  await change();
  await rename("fourth");
  await change();
  await isFound();
  await command("resume", "--sink", "duckdb");
  await expectChanges();

  // The table is complete under a name that it had before.
  await rename("third");
  await change();
  await expectChanges();

  // The announcement comes behind the rename, from a transaction that has written before it.
  await pipeline.restart();
  await using open = await pipeline.source.connect();
  await open.query("begin");
  await open.query("insert into third.kept values (-1, 'open')");
  await rename("fifth");
  // A look has found the table, and it is not read yet.
  await eventually(() => pipeline.daemon.said.includes("a table waits to be captured until an older transaction ends"));
  await open.query("insert into fifth.kept values (-2, 'open')");
  await open.query("commit");
  await expectChanges();

  expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
});
