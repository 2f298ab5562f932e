/**
 * MySQL and MariaDB: rows that a session logs in a form that can't be read concern their table alone.
 * @module-tag heavy
 */
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

async function inSession(url: string, ...statements: readonly string[]): Promise<void> {
  const connection = await createConnection({ uri: url });
  try {
    for (const sql of statements) await connection.query(sql);
  } finally {
    await connection.end();
  }
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("rows without names or with few columns suspend their table until it is read again", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, v varchar(20), w int)",
        "create table other (id int primary key)",
        "insert into t values (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
      ],
      { kinds: ["duckdb", "postgres"], url: server.url },
    );
    const table = `${pipeline.source.name}.t`;
    const other = { schema: pipeline.source.name, table: "other" };
    await pipeline.expectEqual("t", "other");

    const expectSuspended = async (code: string, row: number): Promise<void> => {
      await eventually(async () => {
        const { tables } = await pipeline.installation.status();
        expect(tables.suspended).toMatchObject([{ table, error: { code } }]);
      });
      await pipeline.run(`insert into other values (${row})`);
      await eventually(async () => {
        const { url, sinks, installation } = pipeline;
        expect(await sinks.differences(url, installation.folder, [other])).toEqual([]);
      });
      // As the error's page says.
      const read = await pipeline.installation.command("snapshot", "start", "--tables", table);
      expect(read, read.stderr).toMatchObject({ exitCode: 0 });
      await pipeline.expectEqual("t", "other");
    };

    const few = ["set session binlog_row_image = 'MINIMAL'", "update t set w = 20 where id = 2"];
    await inSession(pipeline.url, ...few, "delete from t where id = 1", "insert into t (id) values (4)");
    await expectSuspended("MR2103", 1);
    // Under the same table map.
    await inSession(pipeline.url, ...few.slice(0, 1), "update t set w = 21 where id = 2");
    await expectSuspended("MR2103", 2);

    await inSession(pipeline.url, "set global binlog_row_metadata = 'MINIMAL'", "update t set w = 30 where id = 3");
    await inSession(pipeline.url, "set global binlog_row_metadata = 'FULL'", "update t set v = 'd' where id = 3");
    await expectSuspended("MR2103", 3);
    await pipeline.kill();
    await pipeline.start();
    await pipeline.run("update t set w = 40");
    await pipeline.expectEqual("t", "other");
  });

  test("generated columns that the log leaves out of changes suspend their table, and check says so", async ({
    skip,
  }) => {
    skip(flavour === "mysql" || !isMysqlFrom(flavour, "11.8"), "the server logs them");
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, v int, w int)",
        "create table vs (id int primary key, v int, g int as (v * 2) virtual, w int)",
        "create table st (id int primary key, v int, w int, g int as (v * 2) stored)",
        "create table kept (id int primary key, v int, w int, t text unique) with system versioning",
      ],
      { kinds: ["duckdb"] },
    );
    const names = ["t", "vs", "st", "kept"];
    await pipeline.run(...names.map((name) => `insert into ${name} (id, v) values (1, 1), (2, 2)`));
    await pipeline.expectEqual(...names);
    const { stdout } = await pipeline.installation.command("check", "--json");
    const { findings }: { findings: readonly { id: string; what: string }[] } = JSON.parse(stdout);
    const named = findings
      .filter(({ id }) => id === "generated")
      .map(({ what }) => /\.(\w+) \(MR2103\), which has g$/.exec(what)?.[1]);
    expect(new Set(named)).toEqual(new Set(["st", "vs"]));
    await pipeline.run(
      "update vs set w = 1 where id = 1",
      "delete from st where id = 2",
      ...["t", "kept"].map((name) => `update ${name} set v = 5 where id = 1`),
    );
    await eventually(async () => {
      const { suspended } = (await pipeline.installation.status()).tables;
      const found = suspended.map(({ table, error }) => `${table.split(".")[1]}: ${error.code} ${error.message}`);
      expect(new Set(found)).toEqual(
        new Set(["st", "vs"].map((name) => expect.stringMatching(new RegExp(`^${name}: MR2103 .* lacks "g"$`)))),
      );
    });
    // As the error's page says.
    await pipeline.run(...["vs", "st"].map((name) => `alter table ${name} drop column g, add column g int`));
    await pipeline.readAgain("vs", "st");
    await pipeline.run(...names.map((name) => `update ${name} set w = 7, v = v + 1`));
    await pipeline.expectEqual(...names);
  });
});
