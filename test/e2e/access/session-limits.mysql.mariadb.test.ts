/**
 * Limits that administrators set for everybody's sessions end none of ours, and cut no answer; no setting of theirs changes names.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { expectAllEqual } from "../../support/daemon/reconciled.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { openMysqlDatabase } from "../../support/mysql/mysql-database.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const DIGITS =
  "(select 0 d union select 1 union select 2 union select 3 union select 4 union select 5 union select 6 union select 7 union select 8 union select 9)";
const ROW_COUNT = 10_000;

const LIMITS = {
  mysql: ["max_execution_time = 1"],
  mariadb: [
    "max_statement_time = 0.001",
    "idle_transaction_timeout = 1",
    "idle_readonly_transaction_timeout = 1",
    "idle_write_transaction_timeout = 1",
    "max_session_mem_used = 300000",
  ],
} as const;
const LIMITS_OF_BOTH = [
  "sql_select_limit = 10",
  "sql_big_selects = 0",
  "max_join_size = 10",
  "autocommit = 0",
  "completion_type = 'RELEASE'",
  "wait_timeout = 1",
  "interactive_timeout = 1",
  "net_write_timeout = 1",
  "net_read_timeout = 1",
  "lock_wait_timeout = 1",
  "innodb_lock_wait_timeout = 1",
  "sort_buffer_size = 1024",
  "max_sort_length = 64",
  "group_concat_max_len = 4",
  "max_heap_table_size = 16384",
  "tmp_table_size = 1024",
  "max_prepared_stmt_count = 0",
];

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a first copy, a large transaction and a comparison outlast the server's limits", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, n int, body text)",
        `insert into t select a.d + 10 * b.d + 100 * c.d + 1000 * e.d, 0, repeat('x', 400) from ${DIGITS} a, ${DIGITS} b, ${DIGITS} c, ${DIGITS} e`,
        ...[...LIMITS_OF_BOTH, ...LIMITS[flavour]].map((limit) => `set global ${limit}`),
      ],
      { kinds: ["duckdb"], url: server.url },
    );
    await pipeline.run("update t set n = n + 1");
    await pipeline.settled();
    await expectAllEqual(pipeline, ROW_COUNT);
    // What removes the test's database is a session of the tests.
    await using admin = await openMysqlDatabase(server.url, pipeline.source.name);
    for (const limit of ["autocommit = 1", "completion_type = 'NO_CHAIN'"])
      await admin.connection.query(`set global ${limit}`);
  });

  test("limits of the user are told with their number, and waited out", async () => {
    const user = `limited_${Math.random().toString(36).slice(2, 10)}`;
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key)",
        `create user ${user}@'%'`,
        `grant replication slave, replication client on *.* to ${user}@'%'`,
        `grant select on *.* to ${user}@'%'`,
      ],
      {
        kinds: ["duckdb"],
        through: async (name, url) => {
          const own = new URL(url);
          own.username = user;
          return { kind: "mysql", url: own.href, heartbeat: "500ms", tables: [`${name}.*`] };
        },
      },
    );
    try {
      const limits = ["max_queries_per_hour 1", "max_connections_per_hour 1", "max_user_connections 1"];
      const names = ["max_(?:questions|queries_per_hour)", "max_connections_per_hour", "max_user_connections"];
      for (const [i, limit] of limits.entries()) {
        await pipeline.run(`alter user ${user}@'%' with ${limit}`, "flush user_resources");
        const sessions = await pipeline.source.texts(
          `select id from information_schema.processlist where user = '${user}'`,
        );
        for (const [id] of sessions) await pipeline.run(`kill ${id}`).catch(() => undefined);
        await eventually(
          async () => {
            const { stdout } = await pipeline.installation.command("status");
            expect(stdout).toMatch(new RegExp(`MR2006 .*'${names[i]}' resource \\(current value: 1\\)`));
            expect(stdout).toMatch(/ALTER USER … WITH MAX_QUERIES_PER_HOUR 0/);
          },
          { withinMs: 60_000 },
        );
        expect(pipeline.daemon.exited).toBe(false);
        const lifted = limit.replace(/1$/, "0");
        await pipeline.run(
          `alter user ${user}@'%' with ${lifted}`,
          "flush user_resources",
          `insert into t values (${i})`,
        );
        await pipeline.settled();
      }
    } finally {
      await pipeline.run(`drop user ${user}@'%'`);
    }
  });

  test("names arrive as they are where init_connect gives sessions another character set", async () => {
    await using server = await ownMysql(flavour);
    const user = `named_${Math.random().toString(36).slice(2, 10)}`;
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table `表ü` (`schlüssel` varchar(20) character set utf8mb4 collate utf8mb4_bin primary key, `größe` varchar(20) character set utf8mb4)",
        "insert into `表ü` values ('ä', 'ö'), ('日本', '😀')",
        `create user ${user}@'%'`,
        `grant replication slave, replication client on *.* to ${user}@'%'`,
        `grant select on *.* to ${user}@'%'`,
        "set global init_connect = 'SET NAMES latin1'",
      ],
      {
        kinds: ["duckdb"],
        url: server.url,
        through: async (name, url) => {
          const own = new URL(url);
          own.username = user;
          return { kind: "mysql", url: own.href, heartbeat: "500ms", tables: [`${name}.*`] };
        },
      },
    );
    await pipeline.run("insert into `表ü` values ('é', 'ß')");
    await pipeline.expectEqual("表ü");
    await pipeline.readAgain("表ü");
    await pipeline.expectEqual("表ü");
    await expectAllEqual(pipeline, 3);
  });
});
