/** MySQL and MariaDB under writers that contend for rows: copies, reads beside the stream and kills in the midst. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { residentWatch } from "../../support/daemon/resident-watch.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { freshMysqlDatabase, mysqlFlavours, ownMysql } from "../../support/run/services.ts";

const MB = 1024 * 1024;
const ROW_COUNT = isLongForm() ? 2_000_000 : 300_000;

describe.each(mysqlFlavours)("%s", (flavour) => {
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
});
