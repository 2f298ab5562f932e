/**
 * MySQL and MariaDB: statements of others that wait for locks hold nothing of ours up.
 * @module-tag heavy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { openMysqlDatabase } from "../../support/mysql/mysql-database.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl, ownMysql } from "../../support/run/services.ts";

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

  test("backups that hold the whole server hold up nothing: a start, a read, a comparison", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      ["create table t (id int primary key, n int)", "insert into t values (1, 1)"],
      { kinds: ["redis"], url: server.url },
    );
    const { connection } = await openMysqlDatabase(server.url, pipeline.source.name);
    const stages = ["START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT"].map((stage) => `backup stage ${stage}`);
    const backups: readonly (readonly [begin: readonly string[], end: string])[] = [
      [["flush tables with read lock"], "unlock tables"],
      flavour === "mysql" ? [["lock instance for backup"], "unlock instance"] : [stages, "backup stage END"],
    ];
    for (const [begin, end] of backups) {
      for (const sql of begin) await connection.query(sql);
      await pipeline.kill();
      await pipeline.start();
      await pipeline.readAgain("t");
      await pipeline.expectEqual("t");
      expect((await pipeline.installation.command("reconcile")).exitCode).toBe(0);
      await connection.query(end);
      await pipeline.run("update t set n = n + 1");
      await pipeline.expectEqual("t");
    }
    connection.destroy();
  });
});
