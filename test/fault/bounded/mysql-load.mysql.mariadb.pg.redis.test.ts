/** MySQL and MariaDB under writers that contend for rows: copies, reads beside the stream and kills in the midst. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { CONTENDED_TABLES, KEYS, Writers } from "../../support/load/mysql-writers.ts";
import { residentWatch } from "../../support/daemon/resident-watch.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { freshMysqlDatabase, mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const MB = 1024 * 1024;
const ROW_COUNT = isLongForm() ? 2_000_000 : 300_000;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("whatever happens in the midst, the sinks are equal when it is quiet", { tags: "long" }, async () => {
    // test/fault/kill/mysql has the same writers.
    const rows = Array.from({ length: KEYS }, (_, i) => `(${i}, ${i}, 'first')`).join(",");
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [...CONTENDED_TABLES, `insert into account (id, balance, note) values ${rows}`],
      { kinds: ["duckdb", "postgres", "redis"], untilStreaming: false },
    );
    for (let round = 0; round < 3; round++) {
      const writers = new Writers(pipeline.url, 17 * (round + 1));
      {
        await using _ = writers;
        // In the first round the copy is made meanwhile.
        await pipeline.daemon.streaming();
        await pipeline.readAgain("account", "seat");
        await pipeline.kill();
        await pipeline.start();
        await pipeline.readAgain("account");
        const from = writers.count;
        await eventually(() => writers.count >= from + 150);
      }
      expect(writers.count).toBeGreaterThan(150);
      await pipeline.expectEqual("account", "seat");
    }
  });

  test(
    `a transaction of ${ROW_COUNT} rows, a third of them updated in it, within 256 MB`,
    { timeout: ROW_COUNT + 120_000, tags: "long" },
    async () => {
      // Of its own: what is written here would be read by whoever starts beside it.
      await using server = await ownMysql(flavour);
      await using pipeline = await MysqlPipeline.start(
        flavour,
        ["create table big (id int primary key, body varchar(200))"],
        { kinds: ["postgres"], url: server.url },
      );
      await using watch = residentWatch(pipeline.daemon);
      await pipeline.run(
        flavour === "mysql"
          ? "set session cte_max_recursion_depth = 10000000"
          : "set session max_recursive_iterations = 10000000",
        "begin",
        `insert into big with recursive n (i) as (select 1 union all select i + 1 from n where i < ${ROW_COUNT}) select i, repeat(char(65 + i % 26), 150) from n`,
        "update big set body = concat(body, '!') where id % 3 = 0",
        "delete from big where id % 10 = 0",
        "commit",
      );
      await pipeline.settled(ROW_COUNT / 2);
      expect(watch.mostBytes).toBeLessThan(256 * MB);
      await pipeline.expectEqual("big");
    },
  );

  test(
    "a start beside a file of nearly a gigabyte, which is read through once, within 256 MB",
    { tags: "long" },
    async () => {
      await using server = await ownMysql(flavour, {
        settings: { "max-binlog-size": 1024 * MB, "innodb-buffer-pool-size": "256M" },
      });
      await using other = await freshMysqlDatabase(server.url);
      await other.connection.query("create table t (id int auto_increment primary key, body varchar(2000))");
      const digit = `(select 0 d${" union all select 1".repeat(9)})`;
      for (let i = 0; i < 46; i++)
        await other.connection.query(
          `insert into t (body) select repeat('x', 2000) from ${digit} a, ${digit} b, ${digit} c, ${digit} d`,
        );
      await using pipeline = await MysqlPipeline.start(flavour, ["create table t (id int primary key)"], {
        kinds: ["duckdb"],
        url: server.url,
        untilStreaming: false,
      });
      await using watch = residentWatch(pipeline.daemon);
      await pipeline.daemon.streaming();
      await pipeline.expectEqual("t");
      expect(watch.mostBytes).toBeLessThan(256 * MB);
    },
  );

  test("a first copy that is killed again and again goes on where it was", { tags: "long" }, async () => {
    const digits =
      "(select 0 d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9)";
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table wide (id int primary key, n int, body varchar(2000))",
        `insert into wide select a.d * 1000 + b.d * 100 + c.d * 10 + e.d, 0, repeat(char(97 + c.d), 1500) from ${digits} a, ${digits} b, ${digits} c, ${digits} e`,
        "create table small (id int primary key, n int)",
        "insert into small values (1, 1), (2, 2)",
      ],
      {
        kinds: ["duckdb", "redis"],
        untilStreaming: false,
        environment: { MILLRACE_FAILPOINTS: "copy.block-queued=kill@4" },
      },
    );
    expect((await pipeline.daemon.ended).signal).toBe("SIGKILL");
    await pipeline.run(
      "update wide set n = 1 where id % 3 = 0",
      "delete from wide where id % 7 = 0",
      "insert into small values (3, 3)",
    );
    for (const entry of ["snapshot.chunk-read=kill@2", "snapshot.chunk-durable=kill@2"]) {
      const { signal } = await pipeline.installation.run({ MILLRACE_FAILPOINTS: entry }).ended;
      expect({ entry, signal }).toEqual({ entry, signal: "SIGKILL" });
      await pipeline.run("update wide set n = n + 1, id = id + 20000 where id % 11 = 1 and id < 20000 limit 50");
    }
    await pipeline.start();
    await pipeline.expectEqual("wide", "small");
  });
});
