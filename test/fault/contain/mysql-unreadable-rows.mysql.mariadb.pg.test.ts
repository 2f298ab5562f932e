/**
 * MySQL and MariaDB: rows that a session logs in a form that can't be read concern their table alone.
 * @module-tag heavy
 */
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";
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
});
