/**
 * MySQL and MariaDB: a table whose name changes its case alone, where sinks take both names for one.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a table whose name changes its case alone goes on in every sink, however it came to it", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table Users (id int primary key, v varchar(20))",
        "insert into Users values (1, 'a'), (2, 'b'), (3, 'c')",
      ],
      { kinds: CHOSEN_KINDS },
    );
    await pipeline.expectEqual("Users");
    await pipeline.run(
      "rename table Users to users",
      "insert into users values (4, 'd')",
      "delete from users where id = 1",
    );
    await pipeline.expectEqual("users");
    await pipeline.run("drop table users", "create table USERS (id int primary key, v varchar(20))");
    await pipeline.expectEqual("USERS");
    await pipeline.run("insert into USERS values (9, 'z')");
    await pipeline.expectEqual("USERS");
    // While nobody looks, and back to a name that was known before.
    await pipeline.daemon.stop();
    await pipeline.run("rename table USERS to Users", "update Users set v = 'y'");
    await pipeline.start();
    await pipeline.expectEqual("Users");
    expect((await pipeline.installation.status()).tables.suspended).toEqual([]);

    // Two at once are two: the second waits until the first is gone.
    await pipeline.run(
      "create table users (id int primary key, v varchar(20))",
      "insert into users values (5, 'other')",
    );
    await expect
      .poll(async () => (await pipeline.installation.status()).tables.suspended.map(({ error }) => error.code))
      .toEqual(["MR1305"]);
    const approved = await pipeline.installation.command("schema", "approve", `${pipeline.source.name}.users`, "--yes");
    expect(approved.exitCode).not.toBe(0);
    await pipeline.run("drop table Users", "insert into users values (6, 'more')");
    await expect.poll(async () => (await pipeline.installation.status()).tables.suspended).toEqual([]);
    await pipeline.expectEqual("users");
  });
});
