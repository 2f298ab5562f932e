/** Tables that somebody has locked while they are to be published: nobody waits for them, and they hold up nobody. */
import type { Client } from "pg";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS: readonly SinkKind[] = ["postgres"];
const AT_ONCE_MS = 5_000;

test("one new table that is locked keeps no other table's rows away", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start("create table hot (id int primary key)", { kinds: KINDS });
  await pipeline.settled();
  await pipeline.run("create table held (id int primary key); insert into held values (1)");
  await using holder = await pipeline.source.connect();
  await holder.query("begin; lock table held in share row exclusive mode");
  const target = pipeline.sinks.target!;
  for (let id = 0; id < 20; id++) {
    await pipeline.run(`insert into hot values (${id})`);
    await eventually(
      async () => {
        const { rows } = await target.query("select from public.hot where id = $1", [id]);
        expect(rows).toHaveLength(1);
      },
      { withinMs: AT_ONCE_MS },
    );
  }
  await pipeline.run("create table later (id int primary key); insert into later values (1)");
  await eventually(async () => {
    const { rows } = await target.query("select from public.later");
    expect(rows).toHaveLength(1);
  });
  const status = await pipeline.installation.ask<{ tables: { refused: { table: string; reason: string }[] } }>(
    "GET",
    "/api/v1/status",
  );
  expect(status!.tables.refused).toMatchObject([{ table: "public.held", reason: /locked/ }]);
  const waited = await pipeline.installation.ask<{ reached: boolean; missing: readonly string[] }>(
    "POST",
    "/api/v1/wait",
    { timeoutMs: 1_500 },
  );
  expect(waited).toMatchObject({ reached: false, missing: [expect.stringMatching(/public\.held/)] });
  await holder.query("commit");
  await pipeline.expectEqual(["hot", "held", "later"]);
});

test("the application's own migration of two new tables is not broken by a deadlock", async () => {
  await using pipeline = await RunningPipeline.start("create table hot (id int primary key)", { kinds: KINDS });
  await pipeline.settled();
  for (let round = 0; round < 3; round++) {
    await using migration = await pipeline.source.connect();
    await using other = await pipeline.source.connect();
    await other.query(`create table a${round} (id int primary key); create table b${round} (id int primary key)`);
    await migration.query(`begin; lock table b${round} in access exclusive mode`);
    // Until an attempt to publish both has met the lock.
    await eventually(() => isPublished(other, `a${round}`));
    await migration.query(
      `alter table a${round} add column note text; alter table b${round} add column note text; commit`,
    );
    await other.query(`insert into a${round} values (1, 'x'); insert into b${round} values (1, 'x')`);
    await pipeline.expectEqual([`a${round}`, `b${round}`]);
  }
});

test("a table that is locked at the first start comes later", async () => {
  let unlock = async (): Promise<unknown> => undefined;
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      await source.query("create table hot (id int primary key); insert into hot values (1)");
      await source.query("create table held (id int primary key); insert into held values (1)");
      const holder = await source.connect();
      await holder.query("begin; lock table held in share row exclusive mode");
      unlock = () => holder.query("commit").then(() => holder.end());
    },
    { kinds: KINDS },
  );
  await eventually(async () => {
    const { rows } = await pipeline.sinks.target!.query("select from public.hot");
    expect(rows).toHaveLength(1);
  });
  await eventually(async () => {
    const { conditions } = await pipeline.installation.status();
    const fix: unknown = expect.stringContaining("pg_terminate_backend");
    expect(conditions).toMatchObject([{ kind: "table.pending", table: "public.held", level: "act", fix }]);
  });
  await unlock();
  await pipeline.expectEqual(["hot", "held"]);
});

async function isPublished(client: Pick<Client, "query">, table: string): Promise<boolean> {
  const { rows } = await client.query("select from pg_publication_rel where prrelid = to_regclass($1)", [table]);
  return rows.length > 0;
}

test("a table that is locked while the first copy reads is read beside the stream", { tags: "long" }, async () => {
  await using pipeline = await RunningPipeline.start(
    `create table a (id int primary key); insert into a select generate_series(1, 300000);
     create table b (id int primary key); insert into b select generate_series(1, 300000);
     create table held (id int primary key); insert into held values (1)`,
    { kinds: KINDS, untilStreaming: false },
  );
  await using holder = await pipeline.source.connect();
  await eventually(
    async () => {
      const { rows } = await holder.query(
        "select from pg_replication_slots where database = current_database() and confirmed_flush_lsn is not null",
      );
      expect(rows).toHaveLength(1);
    },
    { everyMs: 5 },
  );
  await holder.query("begin; lock table held in access exclusive mode");
  await pipeline.daemon.streaming();
  await holder.query("commit");
  await pipeline.expectEqual(["a", "b", "held"]);
  expect(pipeline.daemon.said).toMatch(/public\.held.*copy of the table failed/);
});
