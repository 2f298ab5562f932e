import { describe, expect, test } from "vitest";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl, ownMysql } from "../support/run/services.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("writes a log of rows with whole images and metadata", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const [row] = await database.texts(
      "select @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, version()",
    );
    expect(row?.slice(0, 4)).toEqual(["1", "ROW", "FULL", "FULL"]);
    expect(row?.[4]?.includes("MariaDB")).toBe(flavour === "mariadb");
  });

  test("an own server keeps its rows through SIGKILL and is another server than the shared one", async () => {
    await using server = await ownMysql(flavour);
    expect(server.url).not.toBe(mysqlUrl(flavour));
    if (flavour === "mysql") await expectAnotherHost(server.url);
    await using database = await freshMysqlDatabase(server.url);
    await database.connection.query("create table t (id int primary key)");
    await database.connection.query("insert into t values (1)");
    await server.kill();
    await server.start();
    await using again = await freshMysqlDatabase(server.url);
    expect(await again.texts(`select id from ${database.name}.t`)).toEqual([["1"]]);
  });
});

/** The data that both began with is the same; what tells servers apart must not be. */
async function expectAnotherHost(url: string): Promise<void> {
  await using shared = await freshMysqlDatabase(mysqlUrl("mysql"));
  await using other = await freshMysqlDatabase(url);
  expect(await other.texts("select @@server_uuid")).not.toEqual(await shared.texts("select @@server_uuid"));
}
