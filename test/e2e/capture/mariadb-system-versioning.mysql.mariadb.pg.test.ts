/**
 * MariaDB's tables WITH SYSTEM VERSIONING: the sinks have their present rows, whatever is written, read and altered.
 * @module-tag heavy
 */
import { join } from "node:path";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { connectedDuckdb } from "../../support/warehouses/files-reader.ts";

const NAMED = (type: string, visible = ""): string =>
  `rs ${type} generated always as row start ${visible}, re ${type} generated always as row end ${visible}, period for system_time (rs, re)`;
const TABLES = {
  plain: "(id int primary key, v int, t varchar(20))",
  // The log has hashes of unique texts beside the times.
  hashed: "(id int primary key, v int, t text, unique (t))",
  named: `(v int, t varchar(20), ${NAMED("timestamp(6)")}, id int primary key)`,
  hidden: `(id int primary key, v int, t varchar(20), ${NAMED("timestamp(6)", "invisible")})`,
  uniquely: "(id int not null, v int, t varchar(20), unique (id))",
  parted: "(id int primary key, v int, t varchar(20))",
  partly: "(id int primary key, v int without system versioning, t varchar(20))",
};
const NAMES = Object.keys(TABLES);

describe.runIf(mysqlFlavours.includes("mariadb"))("MariaDB", () => {
  test("present rows of tables with history, in every way to write them", async () => {
    await using server = await ownMysql("mariadb");
    const parts = " partition by system_time (partition p0 history, partition p1 current)";
    await using pipeline = await MysqlPipeline.start(
      "mariadb",
      Object.entries(TABLES).flatMap(([name, columns]) => [
        `create table ${name} ${columns} with system versioning${name === "parted" ? parts : ""}`,
        `insert into ${name} (id, v, t) values (1, 1, 'a'), (2, 2, 'b'), (3, 3, null)`,
        `update ${name} set t = 'before' where id = 3`,
        `delete from ${name} where id = 2`,
      ]),
      { kinds: ["duckdb", "postgres"], url: server.url },
    );
    await pipeline.expectEqual(...NAMES);
    for (const name of NAMES)
      await pipeline.run(
        `insert into ${name} (id, v, t) values (4, 4, 'c'), (5, 5, 'd'), (6, 6, null)`,
        `update ${name} set v = v + 1`,
        `update ${name} set t = 'e' where id = 4`,
        `update ${name} set id = 40 where id = 4`,
        `replace into ${name} (id, v, t) values (5, 50, 'f'), (7, 7, null)`,
        `insert into ${name} (id, v, t) values (1, 0, null) on duplicate key update v = 100`,
        `delete from ${name} where id = 6`,
        "start transaction",
        `insert into ${name} (id, v, t) values (8, 8, null), (9, 9, null)`,
        `update ${name} set v = 80 where id > 7`,
        `delete from ${name} where id = 9`,
        "commit",
        `update ${name} set v = 0 where id = 1`,
        `delete history from ${name}`,
        `insert into ${name} (id, v, t) values (6, 6, 'g')`,
      );
    await pipeline.expectEqual(...NAMES);
    const { refused, suspended } = (await pipeline.installation.status()).tables;
    expect({ refused, suspended }).toEqual({ refused: [], suspended: [] });
    await pipeline.readAgain(...NAMES);
    await pipeline.run(...NAMES.map((name) => `update ${name} set v = v + 1`));
    await pipeline.expectEqual(...NAMES);
    // Reads are of the present, whatever the server's setting.
    await pipeline.run("set global system_versioning_asof = '2020-01-01 00:00:00'");
    await pipeline.readAgain(...NAMES);
    await pipeline.run(`insert into plain values (70, 70, 'h')`);
    await pipeline.settled();
    await pipeline.run("set global system_versioning_asof = default");
    await pipeline.expectEqual(...NAMES);

    // It comes, and goes.
    await pipeline.run("set system_versioning_alter_history = keep");
    await pipeline.run(
      "create table turned (id int primary key, v int)",
      "insert into turned values (1, 1), (2, 2)",
      "alter table turned add system versioning",
      "update turned set v = 3",
      "delete from turned where id = 2",
    );
    await pipeline.expectEqual("turned");
    await pipeline.run(
      "alter table turned drop system versioning",
      "update turned set v = 4",
      "insert into turned values (2, 5)",
    );
    await pipeline.run("alter table plain drop system versioning", "update plain set v = 5");
    await pipeline.run("alter table hashed add column more int default 3", "update hashed set v = 6");
    await pipeline.expectEqual("turned", ...NAMES);
    await pipeline.kill();
    await pipeline.run(...NAMES.map((name) => `update ${name} set v = v + 1 where id < 8`));
    await pipeline.start();
    await pipeline.expectEqual("turned", ...NAMES);
  });

  test("a history and files have each change of the present rows, and none of the table's own history", async () => {
    await using pipeline = await MysqlPipeline.start(
      "mariadb",
      [
        "create table t (id int primary key, v int) with system versioning",
        "insert into t values (1, 1), (2, 2), (3, 3)",
        "update t set v = 20 where id = 2",
        "delete from t where id = 3",
      ],
      { kinds: ["postgres", "postgres-history", "files"] },
    );
    await pipeline.settled();
    await pipeline.run(
      "insert into t values (4, 4)",
      "update t set v = 10 where id = 1",
      "update t set v = 100 where id = 1",
      "delete from t where id = 2",
      "insert into t values (2, 200)",
      "update t set id = 5 where id = 4",
      "start transaction",
      "update t set v = 50 where id = 5",
      "delete from t where id = 5",
      "commit",
      "delete history from t",
      "update t set v = 201 where id = 2",
    );
    await pipeline.expectEqual("t");
    const history = await pipeline.sinks.target!.query<{ op: string; id: number; v: number | null }>(
      `select _millrace_op as op, id, case when _millrace_op <> 'd' then v end as v from history.t
       order by _millrace_version, _millrace_offset, _millrace_op`,
    );
    const changes = history.rows.map(({ op, id, v }) => [op, id, v]);
    expect(changes.slice(0, 2).toSorted((a, b) => Number(a[1]) - Number(b[1]))).toEqual([
      ["r", 1, 1],
      ["r", 2, 20],
    ]);
    const ofTheLog = [
      ["c", 4, 4],
      ["u", 1, 10],
      ["u", 1, 100],
      ["d", 2, null],
      ["c", 2, 200],
      ["d", 4, null],
      ["u", 5, 4],
      ["u", 5, 50],
      ["d", 5, null],
      ["u", 2, 201],
    ];
    expect(changes.slice(2)).toEqual(ofTheLog);
    using duckdb = await connectedDuckdb();
    const files = join(pipeline.installation.folder, "changes", `${pipeline.source.name}.t`, "*", "*.parquet");
    const found = await duckdb.connection.runAndReadAll(
      `select _millrace_op, id, case when _millrace_op <> 'd' then v end
       from read_parquet('${files}', union_by_name = true, hive_partitioning = false)
       where _millrace_op not in ('r', 's') order by _millrace_sequence`,
    );
    expect(found.getRowsJson()).toEqual(ofTheLog);
  });

  test("transaction-precise history is left out, and what is written to it stops nothing", async () => {
    await using pipeline = await MysqlPipeline.start(
      "mariadb",
      [
        "create table t (id int primary key, v int)",
        "create table noted (id int auto_increment primary key, v int)",
        `create table precise (id int primary key, v int, ${NAMED("bigint unsigned")}) with system versioning`,
        "create trigger tr after insert on precise for each row insert into noted (v) values (new.id)",
        "create trigger tu after insert on t for each row insert into precise (id, v) values (new.id + 100, 1)",
        "insert into t values (1, 1)",
      ],
      { kinds: ["duckdb"] },
    );
    await pipeline.run(
      "insert into precise (id, v) values (1, 1), (2, 2)",
      "update precise set v = 3 where id = 1",
      "delete from precise where id in (select id from t)",
      "update precise p join t on t.id = p.id set p.v = t.v",
      "replace into precise (id, v) values (2, 9)",
      "delete history from precise",
      "insert into t values (2, 2)",
      "start transaction",
      "insert into t values (3, 3), (4, 4)",
      "delete from precise",
      "commit",
    );
    await pipeline.expectEqual("t", "noted");
    const { refused, suspended } = (await pipeline.installation.status()).tables;
    expect(suspended).toEqual([]);
    expect(refused).toMatchObject([{ reason: expect.stringContaining("transaction-precise") }]);
    // A session that logs statements writes nothing but the statement: its trigger's rows are lost, too.
    const session = await createConnection({ uri: pipeline.url });
    await session.query("set session binlog_format = 'STATEMENT'");
    await session.query("insert into precise (id, v) values (500, 1)");
    await session.end();
    await eventually(async () =>
      expect((await pipeline.installation.status()).tables.suspended).toMatchObject([
        { table: `${pipeline.source.name}.noted`, error: { code: "MR2120" } },
      ]),
    );
    await pipeline.readAgain("noted");
    await pipeline.expectEqual("t", "noted");
  });

  test("rows of history that a session puts in are none", async ({ skip }) => {
    skip(!isMysqlFrom("mariadb", "10.11"), "the server has no such session");
    await using pipeline = await MysqlPipeline.start(
      "mariadb",
      [`create table t (id int primary key, v int, t varchar(20)) with system versioning`],
      { kinds: ["duckdb"] },
    );
    await pipeline.run(
      "set system_versioning_insert_history = on",
      "insert into t (id, v, row_start, row_end) values (1, 1, '2020-01-01', '2021-01-01')",
      "insert into t (id, v) values (2, 2)",
    );
    await pipeline.expectEqual("t");
  });
});
