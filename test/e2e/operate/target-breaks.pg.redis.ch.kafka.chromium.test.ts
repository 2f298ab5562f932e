/**
 * Targets that take no writes any more: a primary that became a standby, a replica, a full disk; and a source whose disk is
 * full. All that a person on call looks at says which, where, since when, and what to do; and each goes on by itself.
 * @module-tag heavy
 */
import { execFile } from "node:child_process";
import { chmod, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { Client } from "pg";
import { expect, test } from "vitest";
import type { RunningPostgres } from "../../../scripts/services/servers/postgres/postgres.ts";
import { ACT_UNREADY, OnCall, UNREADY } from "../../support/daemon/on-call.ts";
import { literally } from "../../support/daemon/told.ts";
import { SmallDisk } from "../../support/faults/small-disk.ts";
import type { FreshDatabase } from "../../support/run/fresh-database.ts";
import { freshDatabase, ownClickhouse, ownKafka, ownPostgres, ownRedis } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

async function onCallOf(source: FreshDatabase, sinks: object, keys: object = {}): Promise<OnCall> {
  const from = { kind: "postgres", url: source.url, heartbeat: "500ms" };
  return await OnCall.of({ name: source.name, source: from, sinks, ...keys });
}

const SINCE = /for \d+ (?:s|min)|since/;

test("a target Postgres that writes nothing by default, and one that became a standby", async () => {
  await using server = await ownPostgres();
  const ask = async (sql: string): Promise<readonly object[]> => {
    const client = new Client({ connectionString: server.url });
    await client.connect();
    try {
      return (await client.query<object>(sql)).rows;
    } finally {
      await client.end();
    }
  };
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using onCall = await onCallOf(source, { target: { kind: "postgres", url: server.url, schema: "copied" } });
  await onCall.begin();
  const shown = async (): Promise<void> =>
    await eventually(async () => {
      const wanted = (await source.query<{ n: number }>("select n from item")).rows;
      expect(await ask("select n from copied.item")).toEqual(wanted);
    });

  // Millrace's sessions say themselves that they write.
  await ask("alter system set default_transaction_read_only = on");
  await ask("select pg_reload_conf()");
  await ask("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'millrace%'");
  await source.query("update item set n = 2");
  await shown();
  await onCall.expectWell();

  const signal = join(server.dataDir!, "standby.signal");
  await server.stop();
  await writeFile(signal, "");
  await server.start();
  await source.query("update item set n = 3");
  await onCall.expectTold(
    [
      /sink target does not take rows/i,
      /MR2031 .*takes no writes/,
      literally(`${server.host}:${server.port}`),
      SINCE,
      /pg_promote\(\)/,
      /`url`.*primary|primary.*`url`/,
    ],
    "MR2031",
    ACT_UNREADY,
  );
  await ask("select pg_promote()");
  await shown();
  await onCall.expectWell();
});

test("a state whose Postgres became a standby: the daemon waits", async () => {
  await using server = await ownPostgres();
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using onCall = await onCallOf(
    source,
    { replica: { kind: "sqlite", path: "./replica.sqlite" } },
    { state: server.url },
  );
  const daemon = await onCall.begin();
  await server.stop();
  await writeFile(join(server.dataDir!, "standby.signal"), "");
  await server.start();
  await source.query("update item set n = 2");
  await onCall.expectTold(
    [
      /the state can't be written/i,
      /read-only transaction/,
      literally(`${server.host}:${server.port}`),
      /pg_promote\(\)/,
      /`state`/,
    ],
    "MR1216",
    ACT_UNREADY,
  );
  expect(daemon.exited).toBe(false);
  const client = new Client({ connectionString: server.url });
  await client.connect();
  await client.query("select pg_promote()");
  await onCall.expectWell();

  // Longer than the state's session waits for a lock. Of the two, each may be the one that has to begin again.
  await eventually(() =>
    client.query(`rollback; begin; do $$ declare t text; begin
      for t in select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'millrace'
      loop execute 'lock table ' || t; end loop; end $$`),
  );
  await source.query("update item set n = 3");
  await onCall.expectTold(
    [/the state can't be written/i, /lock timeout|statement timeout/, literally(`${server.host}:${server.port}`)],
    "MR1216",
    ACT_UNREADY,
  );
  await client.query("rollback");
  await client.end();
  await onCall.expectWell();
  expect(daemon.exited).toBe(false);
});

test("a Redis that became a replica", async () => {
  await using server = await ownRedis();
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using onCall = await onCallOf(source, { cache: { kind: "redis", url: server.url } });
  await onCall.begin();
  const redis = new Redis(server.url);
  try {
    await redis.replicaof("127.0.0.1", 9);
    await source.query("update item set n = 2");
    await onCall.expectTold(
      [
        /sink cache does not take rows/i,
        /Redis is a replica and refuses writes/,
        /it waits for you/,
        literally(`${server.host}:${server.port}`),
        SINCE,
        /REPLICAOF NO ONE/,
        literally("127.0.0.1:9"),
      ],
      "MR2006",
      ACT_UNREADY,
    );
    await redis.replicaof("no", "one");
    await onCall.expectWell();
  } finally {
    redis.disconnect();
  }
});

test("the disk of a target Postgres is full, then that of the state's", async ({ skip }) => {
  await using disk = await SmallDisk.mount("192m");
  skip(disk === null, "this user may not mount a file system");
  const { folder } = disk!;
  await using server = await ownPostgres();
  await server.stop();
  // The log of the server has room: without it the server itself would end.
  await promisify(execFile)("cp", ["-a", join(server.dataDir!, "base"), folder]);
  await chmod(folder, 0o755);
  await rm(join(server.dataDir!, "base"), { recursive: true });
  await symlink(join(folder, "base"), join(server.dataDir!, "base"));
  await server.start();
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, n int, body text); insert into item values (1, 1)");
  const filler = join(folder, "filler");
  const where = [
    literally(`${server.host}:${server.port}`),
    /SQLSTATE 53100/,
    new RegExp(
      `Make room on the disk of ${literally(join(server.dataDir!, "base")).source}/\\S+ \\(\\d[\\d,]* bytes free\\)`,
    ),
    SINCE,
  ];
  const breaks = [
    {
      parts: [/sink target does not take rows/i, /MR3213 /],
      sinks: { target: { kind: "postgres", url: server.url, schema: "copied" } },
      state: {},
      code: "MR3213",
      // Of each row so much that no page of the target has room for it.
      grow: `insert into item select 100 + g, 1, (select string_agg(md5(g::text || i), '') from generate_series(1, 200) i)
        from generate_series(1, 300) g`,
    },
    {
      parts: [/the state can't be written/i, /MR1215 /],
      sinks: { replica: { kind: "sqlite", path: "./replica.sqlite" } },
      state: { state: server.url },
      code: "MR1215",
      // Its shape takes more than a page of the state has.
      grow: `do $$ begin execute (select 'create table wide (id int primary key, ' || string_agg(format('%I int', md5(i::text)), ', ') || ')'
        from generate_series(1, 1000) i); end $$; insert into wide values (1)`,
    },
  ];
  for (const [at, { parts, sinks, state, code, grow }] of breaks.entries()) {
    await using onCall = await onCallOf(source, sinks, { ...state, name: `full_${at}` });
    await onCall.begin();
    await fill(filler);
    await source.query(grow);
    await onCall.expectTold([...parts, ...where], code, ACT_UNREADY);
    await truncate(filler);
    await onCall.expectWell();
  }
});

test("the disk of the source is full, while its log has room", async ({ skip }) => {
  await using disk = await SmallDisk.mount("192m");
  skip(disk === null, "this user may not mount a file system");
  const { folder } = disk!;
  await using server = await ownPostgres({ settings: { logical_decoding_work_mem: "64kB" } });
  await server.stop();
  const log = join(dirname(server.dataDir!), "log");
  await rename(join(server.dataDir!, "pg_wal"), log);
  await symlink(log, join(server.dataDir!, "pg_wal"));
  await moveTo(folder, server);
  await server.start();
  await using source = await freshDatabase(server);
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using onCall = await onCallOf(source, { replica: { kind: "sqlite", path: "./replica.sqlite" } });
  const daemon = await onCall.begin();
  const filler = join(folder, "filler");
  await fill(filler);
  // More than the server decodes without files.
  await source.query("select pg_logical_emit_message(true, 'large', repeat('x', 1000000))");
  await onCall.expectTold(
    [
      /source/i,
      /MR3213 the server's disk is full/,
      literally(`${server.host}:${server.port}`),
      /SQLSTATE 53100/,
      new RegExp(`Make room on the disk of ${literally(server.dataDir!).source}\\S* \\(\\d[\\d,]* bytes free\\)`),
      SINCE,
    ],
    "MR3213",
    ACT_UNREADY,
  );
  await truncate(filler);
  await source.query("update item set n = 2");
  await onCall.expectWell();
  expect(daemon.exited).toBe(false);
});

test("the disk of the source is full, log and all: its server ends", async ({ skip }) => {
  await using disk = await SmallDisk.mount("192m");
  skip(disk === null, "this user may not mount a file system");
  const { folder } = disk!;
  await using server = await ownPostgres();
  await server.stop();
  await moveTo(folder, server);
  await server.start();
  await using source = await freshDatabase(server);
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using onCall = await onCallOf(source, { replica: { kind: "sqlite", path: "./replica.sqlite" } });
  const daemon = await onCall.begin();
  const filler = join(folder, "filler");
  await fill(filler);
  // More than the segments of the log that are there.
  await source.query("select pg_logical_emit_message(false, 'large', repeat('x', 100000000))").catch(() => undefined);
  await onCall.expectTold(
    [
      /source/i,
      literally(`${server.host}:${server.port}`),
      new RegExp(`Make room on the disk of ${literally(server.dataDir!).source}\\S* \\(\\d[\\d,]* bytes free\\)`),
      SINCE,
    ],
    "MR2001",
    UNREADY,
  );
  await truncate(filler);
  await server.kill();
  await server.start();
  await onCall.expectWell();
  expect(daemon.exited).toBe(false);
});

test("Redis can't save for want of room", async ({ skip }) => {
  await using disk = await SmallDisk.mount("8m");
  skip(disk === null, "this user may not mount a file system");
  const { folder } = disk!;
  await using server = await ownRedis();
  await server.stop();
  await rm(server.dataDir!, { recursive: true });
  await symlink(folder, server.dataDir!);
  await server.start();
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  const redis = new Redis(server.url);
  try {
    await redis.config("SET", "save", "3600 1000000");
    await using onCall = await onCallOf(source, { cache: { kind: "redis", url: server.url } });
    await onCall.begin();
    const filler = join(folder, "filler");
    await fill(filler);
    await redis.bgsave();
    await eventually(async () => expect(await redis.info("persistence")).toMatch(/rdb_last_bgsave_status:err/));
    await source.query("update item set n = 2");
    await onCall.expectTold(
      [
        /sink cache does not take rows/i,
        /Redis can't save to disk and refuses writes/,
        literally(`${server.host}:${server.port}`),
        new RegExp(`${literally(folder).source} \\(\\d[\\d,]* bytes free\\)`),
        SINCE,
      ],
      "MR2006",
      ACT_UNREADY,
    );
    await truncate(filler);
    await redis.bgsave();
    await onCall.expectWell();
  } finally {
    redis.disconnect();
  }
});

test("the disk of ClickHouse is full", async ({ skip }) => {
  await using disk = await SmallDisk.mount("256m");
  skip(disk === null, "this user may not mount a file system");
  const { folder } = disk!;
  await using server = await ownClickhouse();
  await server.stop();
  await rm(server.dataDir!, { recursive: true });
  await symlink(folder, server.dataDir!);
  await server.start();
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, n int, body text); insert into item values (1, 1)");
  await using onCall = await onCallOf(source, { columns: { kind: "clickhouse", url: server.url, schema: "copied" } });
  await onCall.begin();
  const filler = join(folder, "filler");
  await fill(filler);
  await source.query("update item set n = 2, body = repeat(md5(n::text), 1000)");
  await onCall.expectTold(
    [
      /sink columns does not take rows/i,
      literally(new URL(server.url).host),
      /MR3213 .*no disk space left/,
      literally("/data/"),
      /bytes free/,
      SINCE,
    ],
    "MR3213",
    ACT_UNREADY,
  );
  await truncate(filler);
  await onCall.expectWell();
});

test("the disk of Kafka is full: its broker ends", async ({ skip }) => {
  await using disk = await SmallDisk.mount("48m");
  skip(disk === null, "this user may not mount a file system");
  const { folder } = disk!;
  const broker = await ownKafka({
    settings: () => ({
      "log.dirs": join(folder, "logs"),
      // Indexes are files of their full size from the beginning.
      "log.index.size.max.bytes": "65536",
      "offsets.topic.num.partitions": "1",
      "transaction.state.log.num.partitions": "1",
    }),
  });
  // Before the disk goes.
  await using _ = broker;
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, body text); insert into item values (0, 'first')");
  await using onCall = await onCallOf(source, { topics: { kind: "kafka", brokers: [`127.0.0.1:${broker.port}`] } });
  await onCall.begin();
  await source.query("insert into item select g, repeat('x', 4800) from generate_series(1, 12000) g");
  await onCall.expectTold(
    [
      /sink topics does not take rows/i,
      literally(`127.0.0.1:${broker.port} failed: ECONNREFUSED`),
      /can't write to its disk \(KAFKA_STORAGE_ERROR\)/,
      /Make room on the disk of the broker's `log.dirs`.*start the broker/,
      SINCE,
    ],
    "MR2001",
    UNREADY,
  );
  await disk!.grow("512m");
  await broker.kill();
  await broker.start();
  await onCall.expectWell();
});

/** Its data, to another disk. */
async function moveTo(folder: string, { dataDir }: RunningPostgres): Promise<void> {
  await promisify(execFile)("cp", ["-a", dataDir!, folder]);
  await chmod(folder, 0o755);
  await rm(dataDir!, { recursive: true });
  await symlink(join(folder, basename(dataDir!)), dataDir!);
}

/** Takes all the room that there is. */
async function fill(path: string): Promise<void> {
  const piece = Buffer.alloc(64 * 1024);
  try {
    for (;;) await writeFile(path, piece, { flag: "a" });
  } catch (error) {
    expect(error).toMatchObject({ code: "ENOSPC" });
  }
}
