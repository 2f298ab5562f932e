/**
 * MySQL and MariaDB: statements of others that wait for locks hold nothing of ours up.
 * @module-tag heavy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../support/mysql/mysql-pipeline.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("an ALTER in another database waits for its transaction; a start, a new table and a shape's change do not", async () => {
    await using holder = await freshMysqlDatabase(mysqlUrl(flavour));
    await using changer = await freshMysqlDatabase(mysqlUrl(flavour));
    await holder.connection.query("create table held (id int primary key)");
    await holder.connection.query("begin");
    await holder.connection.query("select * from held");
    const altered = changer.connection.query(`alter table ${holder.name}.held add column n int, algorithm = copy`);
    try {
      await expect
        .poll(
          async () =>
            await holder.texts(
              `select state from information_schema.processlist where info like 'alter table ${holder.name}%'`,
            ),
        )
        .toEqual([["Waiting for table metadata lock"]]);
      await using pipeline = await MysqlPipeline.start(
        flavour,
        ["create table t (id int primary key, n int)", "insert into t values (1, 1)"],
        { kinds: ["redis"] },
      );
      await pipeline.run("create table further (id int primary key)", "insert into further values (1)");
      await pipeline.run("alter table t modify n bigint, add column v int default 7, algorithm = copy");
      await pipeline.run("insert into t values (2, 2, 2)");
      await pipeline.expectEqual("t", "further");
      await pipeline.kill();
      await pipeline.start();
      await pipeline.run("insert into t values (3, 3, 3)");
      await pipeline.expectEqual("t", "further");
      expect(await Promise.race([altered.then(() => "altered"), sleep(1, "waiting")])).toBe("waiting");
    } finally {
      await holder.connection.query("commit");
      await altered;
    }
  });
});
