/**
 * Another host of the replication set answers in place of the one that was read. Where its GTIDs show that it has all that
 * was read, and nothing else in between, the daemon goes on by itself, without reading any table again; else it stops.
 */
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlHosts, run } from "../../support/mysql/mysql-hosts.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { type MysqlFlavour, mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS = ["postgres", "redis", "duckdb"] as const;
const PREPARED = [
  "create table t (id int primary key, v varchar(40), n int not null default 0)",
  "create table log (id int auto_increment primary key, t_id int, note varchar(40))",
  "insert into t (id, v) values (1, 'never changed'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')",
];
const TABLES = ["t", "log"];
const EPOCH = 1n << 55n;

/** Writes to one host until it is stopped. */
class Writer {
  count = 0;
  #isStopped = false;
  readonly #hasTags: boolean;
  readonly #done: Promise<void>;

  constructor(flavour: MysqlFlavour, url: string, database: string) {
    this.#hasTags = flavour === "mysql";
    this.#done = this.#work(url, database);
    this.#done.catch(() => {});
  }

  async #work(url: string, database: string): Promise<void> {
    const connection = await createConnection({ uri: url, database });
    while (!this.#isStopped) {
      const i = this.count++;
      const id = 2 + (i % 4);
      if (this.#hasTags) await connection.query(`set gtid_next = 'automatic${i % 3 === 0 ? ":blue" : ""}'`);
      await connection.query("begin");
      await connection.query(`update t set n = n + 1, v = 'v${i}' where id = ${id}`);
      await connection.query(`insert into log (t_id, note) values (${id}, 'n${i}')`);
      await connection.query("commit");
      if (i % 7 === 0) await connection.query(`delete from log where id % 5 = ${i % 5} and id < ${i}`);
      if (i % 40 === 20) await connection.query("flush binary logs");
    }
    await connection.end();
  }

  async written(count: number): Promise<void> {
    const until = this.count + count;
    await eventually(() => this.count >= until, { withinMs: 60_000 });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#done;
  }
}

async function versionsIn(pipeline: MysqlPipeline): Promise<bigint[]> {
  const { target } = pipeline.sinks;
  if (target === null) throw new Error("there is no Postgres sink");
  const { rows } = await target.query<{ version: string }>(
    `select _millrace_version::text as version from "${pipeline.source.name}".t order by id`,
  );
  return rows.map(({ version }) => BigInt(version) / EPOCH);
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("goes on while the application writes, with sinks at different places, and reads nothing again", async () => {
    await using hosts = await MysqlHosts.start(flavour);
    await using pipeline = await MysqlPipeline.start(flavour, PREPARED, { kinds: KINDS, url: hosts.url });
    const { installation, source } = pipeline;
    const before = new Writer(flavour, hosts.source.url, source.name);
    await before.written(40);
    await pipeline.settled();
    await installation.ask("POST", "/api/v1/pause", { sink: "redis" });
    await before.written(60);
    await before.stop();
    await hosts.caughtUp();
    await hosts.part();
    const after = new Writer(flavour, hosts.replica.url, source.name);
    await after.written(10);
    hosts.lead();
    await after.written(60);
    await eventually(async () => expect(await epochOf(pipeline)).toBe(2), MOVED);
    await installation.ask("POST", "/api/v1/resume", { sink: "redis" });
    await after.written(60);
    await after.stop();
    await pipeline.reconnect();
    await pipeline.expectEqual(...TABLES);
    expect(await versionsIn(pipeline)).toEqual([1n, 2n, 2n, 2n, 2n]);
    const { stdout } = await installation.command("snapshot", "list", "--json");
    expect(JSON.stringify(JSON.parse(stdout))).not.toMatch(/"reason"/);
  });

  test(
    "goes on where nobody reads the log, as its only sink is paused while the other host takes over",
    { tags: "long" },
    async () => {
      await using hosts = await MysqlHosts.start(flavour);
      await using pipeline = await MysqlPipeline.start(flavour, PREPARED, { kinds: ["postgres"], url: hosts.url });
      const { installation, source } = pipeline;
      await pipeline.settled();
      const writer = new Writer(flavour, hosts.source.url, source.name);
      await writer.written(20);
      // What was asked for then is read, and nothing behind it.
      await installation.ask("POST", "/api/v1/pause", { sink: "postgres" });
      await writer.written(20);
      await writer.stop();
      await hosts.caughtUp();
      await hosts.part();
      hosts.lead();
      await run(hosts.replica.url, `insert into ${source.name}.t (id, v) values (21, 'meanwhile')`);
      await installation.ask("POST", "/api/v1/resume", { sink: "postgres" });
      await eventually(async () => expect(await epochOf(pipeline)).toBe(2), MOVED);
      await pipeline.reconnect();
      await pipeline.expectEqual(...TABLES);
    },
  );

  // In the short form on MariaDB, which stamps its names.
  test(
    "goes on though the transaction read last stood open for seconds, and came late to the other host",
    { tags: "long" },
    async () => {
      await using hosts = await MysqlHosts.start(flavour);
      await using pipeline = await MysqlPipeline.start(flavour, PREPARED, { kinds: ["duckdb"], url: hosts.url });
      const insert = (id: number): string => `insert into ${pipeline.source.name}.t (id, v) values (${id}, 'slowly')`;
      await hosts.caughtUp();
      await hosts.part();
      await run(hosts.source.url, "begin", insert(10), "do sleep(1.1)", insert(11), "do sleep(1.1)", "commit");
      await pipeline.settled();
      await run(hosts.source.url, "do sleep(1.1)");
      await hosts.replicate();
      await hosts.caughtUp();
      await hosts.part();
      hosts.lead();
      await eventually(async () => expect(await epochOf(pipeline)).toBe(2), MOVED);
      await pipeline.reconnect();
      await pipeline.expectEqual(...TABLES);
    },
  );

  test("goes on after a kill, whatever the sinks had got meanwhile", { tags: "long" }, async () => {
    await using hosts = await MysqlHosts.start(flavour);
    await using pipeline = await MysqlPipeline.start(flavour, PREPARED, { kinds: KINDS, url: hosts.url });
    const before = new Writer(flavour, hosts.source.url, pipeline.source.name);
    await before.written(120);
    await pipeline.kill();
    await before.written(20);
    await before.stop();
    await hosts.caughtUp();
    await hosts.part();
    await run(hosts.replica.url, `insert into ${pipeline.source.name}.t (id, v) values (99, 'on the new host')`);
    hosts.lead();
    // Killed again and again while the sinks are put to their new places.
    for (const entry of ["reset.noted=kill", "reset.settled=kill@2", "reset.noted=kill"]) {
      const { signal, stderr } = await pipeline.installation.run({ MILLRACE_FAILPOINTS: entry }).ended;
      expect({ entry, signal, stderr }).toMatchObject({ signal: "SIGKILL" });
    }
    await pipeline.start();
    await pipeline.reconnect();
    await pipeline.expectEqual(...TABLES);
    expect(await epochOf(pipeline)).toBe(2);
  });

  test(
    "is not torn between two hosts while the stream from the former one lives, in a file that has just begun",
    { tags: "long" },
    async () => {
      await using hosts = await MysqlHosts.start(flavour);
      const prepared = [...PREPARED, "flush binary logs"];
      await using pipeline = await MysqlPipeline.start(flavour, prepared, { kinds: ["duckdb"], url: hosts.url });
      await pipeline.settled();
      await hosts.caughtUp();
      await hosts.part();
      await hosts.leadSlowly();
      await run(hosts.replica.url, `insert into ${pipeline.source.name}.t (id, v) values (99, 'on the new host')`);
      await eventually(async () => expect(await epochOf(pipeline)).toBe(2), MOVED);
      await pipeline.reconnect();
      await pipeline.expectEqual(...TABLES);
    },
  );

  test("stops at a host that lacks what was read, or has something else in between", async () => {
    await using hosts = await MysqlHosts.start(flavour);
    await using pipeline = await MysqlPipeline.start(flavour, PREPARED, { kinds: ["duckdb"], url: hosts.url });
    const table = `${pipeline.source.name}.t`;
    await pipeline.run("insert into t (id, v) values (10, 'everywhere')");
    await hosts.caughtUp();
    await hosts.part();
    await pipeline.run("insert into t (id, v) values (11, 'on the source alone')");
    await pipeline.settled();
    hosts.lead();
    const { exitCode, stderr } = await pipeline.daemon.ended;
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/MR2013/) });

    // It gets what it lacks, behind something of its own.
    if (flavour === "mariadb") await run(hosts.replica.url, "set global gtid_strict_mode = off");
    await run(hosts.replica.url, `insert into ${table} (id, v) values (12, 'of its own')`);
    await hosts.replicate();
    await eventually(async () => {
      expect(await run(hosts.replica.url, `select count(*) from ${table} where id = 11`)).toEqual(["1"]);
    });
    expect(await pipeline.refusal()).toMatchObject({ exitCode: 1, code: "MR2013" });
  });
});

/** Each look starts a command. */
const MOVED = { withinMs: 60_000, everyMs: 500 };

async function epochOf(pipeline: MysqlPipeline): Promise<number | null> {
  const { stdout } = await pipeline.installation.command("offsets", "show", "--json");
  const { source }: { source: { epoch: number | null } } = JSON.parse(stdout);
  return source.epoch;
}
