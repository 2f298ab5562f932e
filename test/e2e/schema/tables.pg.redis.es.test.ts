/**
 * Tables that come, go and change while the daemon runs, and partitions, of whose coming and going the log says nothing:
 * every sink follows.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

let pipeline: RunningPipeline;

beforeAll(async () => {
  // An empty database is a fine start.
  pipeline = await RunningPipeline.start("select 1", { kinds: CHOSEN_KINDS });
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

test("tables made while the daemon runs are taken in with the rows that they had, without a restart", async () => {
  await pipeline.expectEqual([]);
  await pipeline.run("create table empty (id int primary key, body text)");
  await pipeline.run(`begin; create table filled (id int primary key, body text);
    insert into filled select g, 'x' from generate_series(1, 500) g; commit; update filled set body = 'y' where id = 7`);
  await pipeline.expectEqual(["empty", "filled"]);
  await pipeline.run("insert into empty values (1, 'first'); delete from filled where id < 5");
  await pipeline.expectEqual(["empty", "filled"]);
});

test("a table is taken in while a transaction is writing to it", async () => {
  const { source } = pipeline;
  await using writer = await source.connect();
  await pipeline.settled();
  await writer.query("create table written (id int primary key, body text)");
  await writer.query("begin");
  await writer.query("insert into written select g, 'early' from generate_series(1, 10) g");
  await writer.query("savepoint s");
  await writer.query("insert into written values (11, 'early too')");
  await eventually(async () => {
    const { rows } = await source.query("select from pg_publication_tables where tablename = 'written'");
    return rows.length === 1;
  });
  // Others write meanwhile, and are seen in the log: that must not pass for the whole table.
  await source.query("insert into written values (100, 'meanwhile')");
  await source.query("update written set body = 'again' where id = 100");
  await writer.query("insert into written values (12, 'late')");
  await source.query("insert into written values (101, 'meanwhile')");
  const { installation } = pipeline;
  const during = await installation.ask<{ reached: boolean }>("POST", "/api/v1/wait", { timeoutMs: 1_500 });
  expect(during?.reached).toBe(false);
  // Other tests may have older ones open on the shared server.
  const held = /^table public\.written waits: .*; the oldest is pid \d+ \(.* pg_terminate_backend\(\d+\)/;
  await eventually(async () => {
    const { conditions } = await installation.status();
    expect(conditions.map(({ what }) => what)).toContainEqual(expect.stringMatching(held));
  });
  await writer.query("commit");
  await pipeline.expectEqual(["written"]);
});

test(
  "killed while a table waits for a transaction that writes to it, the next start waits for it too",
  { tags: "long" },
  async () => {
    const { source } = pipeline;
    await using writer = await source.connect();
    await writer.query("create table interrupted (id int primary key, body text)");
    await writer.query("begin; insert into interrupted select g, 'early' from generate_series(1, 10) g");
    await eventually(async () => {
      const { rows } = await source.query("select from pg_publication_tables where tablename = 'interrupted'");
      return rows.length === 1;
    });
    await pipeline.kill();
    await pipeline.start();
    await source.query("insert into interrupted values (100, 'meanwhile')");
    await pipeline.installation.ask("POST", "/api/v1/wait", { timeoutMs: 1_500 });
    await writer.query("commit");
    await pipeline.expectEqual(["interrupted"]);
  },
);

test("tables that are dropped, made again or swapped by their names", async () => {
  await pipeline.run("create table dropped (id int primary key, body text); insert into dropped values (1, 'x')");
  await pipeline.run(
    "create table remade (id int primary key, body text); insert into remade select g, 'old' from generate_series(1, 9) g",
  );
  await pipeline.run(
    "create table swap (id int primary key, body text); insert into swap select g, 'old' from generate_series(1, 9) g",
  );
  await pipeline.settled();
  await pipeline.run("insert into dropped values (2, 'y'); drop table dropped");
  await pipeline.run(
    "begin; drop table remade; create table remade (id int primary key, body text); insert into remade values (3, 'new'); commit",
  );
  await pipeline.run(`begin; create table next (id int primary key, body text); insert into next values (100, 'new'), (4, 'new');
    alter table swap rename to swapped_out; alter table next rename to swap; commit`);
  await pipeline.expectEqual(["remade", "swap", "swapped_out"]);
  await pipeline.run(
    "insert into remade values (5, 'x'); update swap set body = 'z'; update swapped_out set body = 'kept'",
  );
  await pipeline.expectEqual(["remade", "swap", "swapped_out"]);
});

test("a table that is truncated again and again, or written anew as it was, is not read again", async () => {
  await pipeline.run("create table queue (id int primary key, body text); insert into queue values (1, 'x')");
  await pipeline.expectEqual(["queue"]);
  const reads = async (): Promise<number> => {
    const snapshots = await pipeline.installation.ask<readonly { tableId: string }[]>("GET", "/api/v1/snapshots");
    return snapshots!.filter(({ tableId }) => tableId === "public.queue").length;
  };
  const before = await reads();
  for (let round = 0; round < 3; round++) {
    await pipeline.run(
      `begin; truncate queue; insert into queue select g, 'r${round}' from generate_series(1, 5) g; commit`,
    );
    // Waiting looks at the catalogue.
    await pipeline.settled();
  }
  await pipeline.run("vacuum full queue");
  await pipeline.expectEqual(["queue"]);
  expect(await reads()).toBe(before);
  await pipeline.run(
    "begin; truncate queue; insert into queue values (1, 'y'); alter table queue alter body type text using body || '!'; commit",
  );
  await pipeline.expectEqual(["queue"]);
  expect(await reads()).toBeGreaterThan(before);
});

test("a read that was asked for of a table that is then dropped holds nobody up", async () => {
  await pipeline.run(
    "create table doomed (id int primary key, body text); insert into doomed select g, 'x' from generate_series(1, 9) g",
  );
  await pipeline.settled();
  await using blocker = await pipeline.source.connect();
  await blocker.query("begin; lock table doomed in access exclusive mode");
  await pipeline.readAgain("public.doomed");
  await blocker.query("drop table doomed");
  await blocker.query("commit");
  await pipeline.run("insert into filled values (1000, 'after')");
  await pipeline.expectEqual(["filled"]);
  expect((await pipeline.installation.status()).unfinishedSnapshots).toBe(0);
});

const PARTITIONED = `
  create table part (id int, region int, body text, primary key (id, region)) partition by list (region);
  create table part_1 partition of part for values in (1);
  create table part_2 partition of part for values in (2);
  create table part_3 partition of part for values in (3) partition by range (id);
  create table part_3_low partition of part_3 for values from (0) to (100);
  create table part_3_high partition of part_3 for values from (100) to (1000);
  insert into part select g, 1 + g % 3, repeat(md5(g::text), 2) from generate_series(1, 199) g;
  create table separate (id int, region int, body text, primary key (id, region));
  insert into separate select g, 4, 'before' from generate_series(1, 20) g`;

test("partitions through their root: attached filled, detached, dropped, truncated by their own name", async () => {
  await pipeline.run(PARTITIONED);
  await pipeline.expectEqual(["part", "separate"]);
  await pipeline.run(
    "update part set region = 2 where id = 6; delete from part where id = 9; update part set body = 'u' where region = 3",
  );
  await pipeline.expectEqual(["part"]);

  await pipeline.run("alter table part attach partition separate for values in (4)");
  await pipeline.run(
    "update part set body = 'after' where id = 3 and region = 4; insert into part values (500, 4, 'new')",
  );
  await pipeline.expectEqual(["part"]);

  await pipeline.run("truncate part_2; insert into part values (501, 2, 'after the truncate')");
  await pipeline.expectEqual(["part"]);

  await pipeline.run("alter table part detach partition part_1; update part_1 set body = 'alone'");
  await pipeline.expectEqual(["part", "part_1"]);
  await pipeline.run("drop table part_3_low");
  await pipeline.expectEqual(["part"]);
  await pipeline.run("truncate part_3; alter table part attach partition part_1 for values in (1)");
  await pipeline.expectEqual(["part"]);
  await pipeline.run("vacuum full separate");
  await pipeline.run("truncate part");
  await pipeline.run("insert into part select g, 4, 'last' from generate_series(1, 5) g");
  await pipeline.expectEqual(["part"]);
});

test(
  "a partition that changes while the daemon is down, or that dies before it has read, is followed at the next start",
  { tags: "heavy" },
  async () => {
    await pipeline.run("insert into part select g, 1 + g % 2, 'again' from generate_series(1, 100) g");
    await pipeline.settled();
    await pipeline.daemon.stop();
    await pipeline.run("truncate part_1");
    await pipeline.start();
    await pipeline.expectEqual(["part"]);
    await pipeline.daemon.stop();
    pipeline.daemon = pipeline.installation.run({ MILLRACE_FAILPOINTS: "snapshot.chunk-read=kill" });
    await pipeline.daemon.streaming();
    await pipeline.run("truncate part_2");
    await pipeline.daemon.ended;
    await pipeline.start();
    await pipeline.expectEqual(["part"]);
  },
);
