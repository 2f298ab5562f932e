/**
 * What servers leave out of their log: databases, statements of sessions that stand in them, rows that they replicate, and
 * rows of some engines.
 * @module-tag heavy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlHosts } from "../../support/mysql/mysql-hosts.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS = ["duckdb"] as const;

interface Checked {
  readonly findings: readonly { readonly id: string; readonly level: string; readonly what: string }[];
}

async function findings(pipeline: MysqlPipeline, id: string): Promise<string[]> {
  const { stdout } = await pipeline.installation.command("check", "--json");
  const { findings: all }: Checked = JSON.parse(stdout);
  return all.filter((finding) => finding.id === id).map(({ level, what }) => `${level} ${what}`);
}

/** A daemon of another name, without a state, that is to capture these tables. */
function another(pipeline: MysqlPipeline, tables: readonly string[]): void {
  pipeline.installation.configure({
    name: `${pipeline.source.name}_b`,
    source: { kind: "mysql", url: pipeline.url, tables },
    sinks: pipeline.sinks.config,
  });
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a database that is not logged is refused; sessions that stand in it are named, and what they alter is found", async () => {
    await using server = await ownMysql(flavour, { settings: { "binlog-ignore-db": "left_out" } });
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, v int, w int)",
        "create table emptied (id int primary key, v int)",
        "create table grown (id int primary key, v int)",
        ...["t (id, v)", "emptied", "grown"].map((name) => `insert into ${name} values (1, 1), (2, 2)`),
        "create table `par-ts é` (id int primary key, v int) partition by range (id) (partition low values less than (10), partition high values less than maxvalue)",
        "create table beside (id int primary key, v int)",
        "insert into `par-ts é` values (1, 1), (11, 1)",
        "create database left_out",
        "create table left_out.t (id int primary key)",
      ],
      { kinds: KINDS, url: server.url },
    );
    const { name } = pipeline.source;
    expect(await findings(pipeline, "log_filter")).toEqual([
      expect.stringMatching(/^warning .* that stand in left_out /),
    ]);
    const aside = await createConnection({ uri: server.url, database: "left_out" });
    await aside.query(`alter table ${name}.t drop column v, add column v int default 7 after id`);
    await aside.query(`truncate ${name}.emptied`);
    await aside.query(`alter table ${name}.grown add column more varchar(20) default 'x' after id, drop column v`);
    await aside.query(`insert into ${name}.grown values (3, 'y')`);
    await aside.query(`create table ${name}.made (id int primary key)`);
    await aside.query(`alter table ${name}.\`par-ts é\` truncate partition low`);
    await aside.query(`alter table ${name}.\`par-ts é\` exchange partition high with table ${name}.beside`);
    await aside.end();
    await pipeline.run("insert into grown (id) values (4)", "insert into made values (1)");
    await eventually(() => pipeline.expectEqual("t", "emptied", "grown", "made", "par-ts é", "beside"), {
      withinMs: 60_000,
    });
    expect(pipeline.daemon.said).not.toContain("MR2133");
    await pipeline.daemon.stop();

    for (const tables of [["left_out.*"], [`${name}.*`, "left_out.t"]]) {
      another(pipeline, tables);
      expect(await findings(pipeline, "log_filter")).toEqual([
        expect.stringMatching(/^warning/),
        expect.stringMatching(/^error MR2005 the log leaves out the database left_out \(binlog-ignore-db\)/),
      ]);
      expect((await pipeline.installation.command("check")).exitCode).toBe(1);
      expect(await pipeline.refusal()).toMatchObject({ exitCode: 1, code: "MR2005" });
    }
  });

  test(
    "another host that leaves it out: its tables are suspended while the daemon runs",
    { tags: "long" },
    async ({ skip }) => {
      skip(flavour === "mariadb", "its GTIDs count only what is logged, so such a host does not have what was read");
      await using hosts = await MysqlHosts.start(flavour, { "binlog-do-db": "nothing" });
      await using pipeline = await MysqlPipeline.start(flavour, ["create table t (id int primary key)"], {
        kinds: KINDS,
        url: hosts.url,
      });
      await pipeline.run("insert into t values (1)");
      await pipeline.expectEqual("t");
      await hosts.caughtUp();
      await hosts.part();
      hosts.lead();
      await pipeline.reconnect();
      await eventually(
        async () =>
          expect((await pipeline.installation.status()).tables.suspended).toMatchObject([
            { error: { code: "MR1309", message: expect.stringContaining("binlog-do-db") } },
          ]),
        { withinMs: 60_000 },
      );
    },
  );

  test("a replica that does not log what it replicates is refused, and named while the daemon runs", async () => {
    const setting = flavour === "mysql" ? "log-replica-updates" : "log-slave-updates";
    await using server = await ownMysql(flavour, { settings: { [setting]: "OFF" } });
    await using pipeline = await MysqlPipeline.start(flavour, ["create table t (id int primary key)"], {
      kinds: KINDS,
      url: server.url,
    });
    await pipeline.run("insert into t values (1)");
    await pipeline.expectEqual("t");
    expect((await pipeline.installation.status()).source.warnings).toEqual([]);
    if (flavour === "mysql")
      await pipeline.run("change replication source to source_host = '127.0.0.1', source_port = 1");
    else await pipeline.run("change master to master_host = '127.0.0.1', master_port = 1", "start slave");
    await eventually(async () =>
      expect((await pipeline.installation.status()).source.warnings).toEqual([
        expect.stringMatching(/MR2005 the log leaves out what the server takes from its source/),
      ]),
    );
    await pipeline.daemon.stop();
    expect(await findings(pipeline, setting.replaceAll("-", "_"))).toEqual([expect.stringMatching(/^error/)]);
    expect(await pipeline.refusal()).toMatchObject({ exitCode: 1, code: "MR2005" });
  });

  test("tables whose rows no log shows are left out; tables in memory are emptied with their server", async () => {
    // MariaDB has it as a plugin.
    const holes = flavour === "mysql" ? ["engine = blackhole"] : [];
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, v int)",
        ...holes.map((sql) => `create table hole (id int primary key) ${sql}`),
        "create table one (id int primary key) engine = myisam",
        "create table merged (id int primary key) engine = merge union = (one)",
        "create table short (id int primary key, v int) engine = memory",
        "insert into one values (1)",
        "insert into short values (1, 1), (2, 2)",
      ],
      { kinds: KINDS, url: server.url },
    );
    await eventually(async () => {
      const { refused } = (await pipeline.installation.status()).tables;
      const told = refused.map(({ table, reason }) => [table.split(".")[1], reason.toLowerCase()]);
      expect(told).toEqual([
        ...holes.map(() => ["hole", "the log does not show how rows of the engine BLACKHOLE change".toLowerCase()]),
        ["merged", "the log does not show how rows of the engine MRG_MYISAM change".toLowerCase()],
      ]);
    });
    await pipeline.run(
      ...holes.map(() => "insert into hole values (1)"),
      "insert into short values (3, 3)",
      "insert into t values (1, 1)",
    );
    await pipeline.expectEqual("t", "one", "short");
    // Neither shape nor number of the table show it.
    await pipeline.run("set sql_log_bin = 0", "alter table t drop column v, add column v int default 7");
    await pipeline.run("set sql_log_bin = 1");
    await eventually(() => pipeline.expectEqual("t"), { withinMs: 60_000 });
    for (const engine of holes) {
      await pipeline.run(`alter table t ${engine}`, "insert into t values (2, 2)");
      await eventually(async () =>
        expect((await pipeline.installation.status()).tables.suspended).toMatchObject([
          { error: { code: "MR1309", message: expect.stringContaining("BLACKHOLE") } },
        ]),
      );
      await pipeline.run("alter table t engine = innodb", "insert into t values (3, 3)");
    }
    await server.stop();
    await server.start();
    await pipeline.reconnect();
    await pipeline.run("insert into short values (4, 4)");
    await eventually(() => pipeline.expectEqual("t", "one", "short"), { withinMs: 60_000 });
  });

  test("a dump that is put back by a session that does not log is read when it is through, and named until then", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      ["restored", "emptied", "beside"].flatMap((table) => [
        `create table ${table} (id int primary key, v int)`,
        `insert into ${table} values (1, 1), (2, 2)`,
      ]),
      { kinds: KINDS },
    );
    const { name } = pipeline.source;
    const hints = async (): Promise<readonly string[]> => {
      const { conditions } = await pipeline.installation.status();
      return conditions.filter(({ what }) => what.includes("sql_log_bin")).map(({ what }) => what.split(" ")[1]!);
    };
    await pipeline.expectEqual("restored", "emptied", "beside");
    // As dumps do it: a dump of a server with GTIDs sets this itself.
    await pipeline.run("set sql_log_bin = 0", "drop table restored", "truncate emptied");
    await pipeline.run(
      "create table restored (id int primary key, v int)",
      "lock tables restored write, emptied write",
    );
    await eventually(async () => expect((await hints()).toSorted()).toEqual([`${name}.emptied`, `${name}.restored`]));
    for (const table of ["restored", "emptied"])
      await pipeline.run(`insert into ${table} values (3, 3), (4, 4), (5, 5)`);
    await pipeline.run("unlock tables");
    // The session goes on while no daemon runs, and behind the first read of the next one.
    const dump = new AbortController();
    const writing = (async () => {
      for (let id = 6; !dump.signal.aborted; id++) {
        await pipeline.run(`insert into restored values (${id}, 0)`, `insert into emptied values (${id}, 0)`);
        await sleep(200);
      }
    })();
    try {
      await pipeline.settled();
      await pipeline.kill();
      await pipeline.start();
      await eventually(async () => expect((await hints()).toSorted()).toEqual([`${name}.emptied`, `${name}.restored`]));
      await pipeline.settled();
    } finally {
      dump.abort();
      await writing;
    }
    await pipeline.run("set sql_log_bin = 1");
    await eventually(() => pipeline.expectEqual("restored", "emptied", "beside"), { withinMs: 60_000 });
    await eventually(async () => expect(await hints()).toEqual([]));
    await pipeline.run("insert into restored values (-6, 6)", "insert into beside values (6, 6)");
    await pipeline.expectEqual("restored", "emptied", "beside");
    // What the log tells is no such table, however often the catalogue is looked at.
    await pipeline.run("drop table beside", "create table beside (id int primary key, v int)");
    await pipeline.expectEqual("restored", "emptied", "beside");
    for (const sql of ["truncate emptied", "optimize table restored"]) {
      await pipeline.run(sql);
      for (let i = 0; i < 3; i++) {
        // Waiting looks at the catalogue.
        await pipeline.settled();
        expect(await hints()).toEqual([]);
      }
    }
    await pipeline.expectEqual("restored", "emptied", "beside");
    expect(await hints()).toEqual([]);
  });

  test(
    "what a session marks to be skipped by replicas, and changes of tables in two phases",
    { tags: "long" },
    async ({ skip }) => {
      skip(flavour === "mysql" || !isMysqlFrom(flavour, "10.11"), "the server does not have them");
      await using pipeline = await MysqlPipeline.start(
        flavour,
        [
          "create table t (id int primary key, v int)",
          "create table parts (id int primary key) partition by range (id) (partition low values less than (10), partition high values less than maxvalue)",
          "insert into t values (1, 1), (2, 2)",
          "insert into parts values (1), (11)",
        ],
        { kinds: KINDS },
      );
      await pipeline.run("set skip_replication = 1", "insert into t values (3, 3)", "alter table t add column x int");
      await pipeline.run("update t set x = 9 where id = 1", "set skip_replication = 0");
      await pipeline.expectEqual("t");
      await pipeline.run("set binlog_alter_two_phase = 1", "alter table t drop column v, add column v int default 7");
      await pipeline.run("alter table parts truncate partition low", "insert into parts values (2)");
      await pipeline.expectEqual("t", "parts");
      await pipeline.run("alter table parts convert partition high to table taken");
      await pipeline.expectEqual("parts", "taken");
    },
  );
});
