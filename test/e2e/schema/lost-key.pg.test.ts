/**
 * Tables that lose their key and get it back: what the log shows of them in between reaches no sink, and stops none.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

let pipeline: RunningPipeline;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(
    `create table flip (id int primary key, n int);
    create table calm (id int primary key, n int);
    insert into flip select g, g from generate_series(1, 20) g;
    insert into calm select g, g from generate_series(1, 20) g`,
    { kinds: ["duckdb", "postgres"] },
  );
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

async function command(...words: string[]): Promise<void> {
  expect(await pipeline.installation.command(...words)).toMatchObject({ exitCode: 0 });
}

/** The tables that are suspended now. */
async function suspended(): Promise<readonly string[]> {
  return (await pipeline.installation.status()).tables.suspended.map(({ table }) => table);
}

test("a sink that was away while a table had no key passes over those rows, also after a restart", async () => {
  await pipeline.expectEqual(["flip", "calm"]);
  await command("pause", "--sink", "duckdb");
  await pipeline.run("alter table flip drop constraint flip_pkey");
  await pipeline.run("insert into flip values (21, 21)");
  await eventually(async () => (await suspended()).includes("public.flip"));
  await pipeline.run("alter table flip add primary key (id)");
  await pipeline.run("insert into flip values (22, 22); update calm set n = n + 1");
  await eventually(async () => (await suspended()).length === 0);
  await command("resume", "--sink", "duckdb");
  await pipeline.expectEqual(["flip", "calm"]);
  await pipeline.restart();
  await pipeline.run("update flip set n = n + 1; update calm set n = n + 1");
  await pipeline.expectEqual(["flip", "calm"]);
});

test("tables made again with and without a key in quick succession stop nothing", async () => {
  for (let round = 0; round < 15; round++) {
    const table = `again${round % 3}`;
    await pipeline.run(`create table ${table} (id int primary key, n int)`);
    await pipeline.run(`insert into ${table} select g, g from generate_series(1, 20) g`);
    await pipeline.run(`alter table ${table} drop constraint ${table}_pkey`);
    await pipeline.run(`insert into ${table} values (30, ${round})`);
    await pipeline.run(round % 2 === 0 ? `drop table ${table}` : `alter table ${table} rename to gone${round}`);
    await pipeline.run(`create table ${table} (id int not null, n int)`);
    await pipeline.run(`insert into ${table} values (31, ${round})`);
    await pipeline.run(`alter table ${table} add primary key (id)`);
    await pipeline.run(`insert into ${table} values (32, ${round}); update calm set n = n + 1`);
    if (round < 12) await pipeline.run(`drop table ${table}`);
  }
  await pipeline.expectEqual(["calm", "flip", "again0", "again1", "again2"]);
});
