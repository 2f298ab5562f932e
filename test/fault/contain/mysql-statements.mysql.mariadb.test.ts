/**
 * MySQL and MariaDB: statements in the log are found by the names that they stand for, in whatever way they are written.
 */
import { Readable } from "node:stream";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { type MysqlFlavour, mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KINDS = ["duckdb"] as const;
const PARTS = "partition by range (id) (partition low values less than (10), partition high values less than maxvalue)";
const AS_STATEMENTS = "set session binlog_format = 'STATEMENT'";

/** A client whose statements come in this character set. */
async function inCharset(url: string, charset: string, ...statements: readonly string[]): Promise<void> {
  const connection = await createConnection({
    uri: url,
    charset,
    infileStreamFactory: () => Readable.from([Buffer.from("7\tseven\n")]),
  });
  try {
    for (const sql of statements) await connection.query(sql);
  } finally {
    await connection.end();
  }
}

const ownFolding = (flavour: MysqlFlavour) => ownMysql(flavour, { settings: { "lower-case-table-names": 1 } });

async function expectSuspended(pipeline: MysqlPipeline, ...tables: readonly string[]): Promise<void> {
  await eventually(async () => {
    const { suspended } = (await pipeline.installation.status()).tables;
    expect(suspended.map(({ table, error }) => `${table} ${error?.code}`).toSorted()).toEqual(
      tables.map((table) => `${pipeline.source.name}.${table} MR2120`).toSorted(),
    );
  });
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  const table = "(id int primary key, v varchar(20))";

  test("LOAD DATA of a session that logs statements suspends its table, and does nothing if that is left out", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [`create table t ${table}`, `create table other ${table}`],
      { kinds: KINDS, untilStreaming: false },
    );
    await pipeline.daemon.stop();
    pipeline.configure({ tables: [`${pipeline.source.name}.t`] });
    await pipeline.start();
    const load = (name: string): string => `load data local infile 'x' into table ${name}`;
    await inCharset(
      pipeline.url,
      "utf8mb4",
      AS_STATEMENTS,
      load("other"),
      `load data local infile 'x' ignore into table \`other\` lines terminated by '\\n' (id, v)`,
    );
    await pipeline.run("insert into t values (1, 'a')");
    await pipeline.expectEqual("t");
    await inCharset(pipeline.url, "utf8mb4", AS_STATEMENTS, load("t"));
    await expectSuspended(pipeline, "t");
    // As the error's page says.
    await pipeline.readAgain("t");
    await pipeline.expectEqual("t");
  });

  test("what a statement may change is suspended, whatever leads there; all other tables flow", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        ...["t", "other", "viewed", "logged", "called"].map((name) => `create table ${name} ${table}`),
        "create table left_out (id int, v varchar(20))",
        "create table keyless (id int, v varchar(20))",
        "create view view_of as select id, v from viewed",
        "create trigger tr after insert on left_out for each row insert into logged values (new.id, new.v)",
        "create procedure call_it() begin insert into called values (9, 'i'); end",
        "create function f() returns int deterministic begin call call_it(); return 1; end",
        "insert into viewed values (1, 'a')",
        `create table parent ${table}`,
        "create table child (id int primary key, p int, foreign key (p) references parent (id) on delete cascade)",
        "create table holder (id int primary key, p int, foreign key (p) references parent (id))",
        "insert into parent values (1, 'held'), (2, 'gone'), (3, 'gone')",
        "insert into child values (1, 2)",
        "insert into holder values (1, 1)",
        `create table stopped ${table} engine = MyISAM`,
        "create trigger stop before delete on stopped for each row if old.id = 2 then signal sqlstate '45000'; end if",
        "insert into stopped values (1, 'a'), (2, 'b'), (3, 'c')",
      ],
      { kinds: KINDS },
    );
    const { name } = pipeline.source;
    const statements = async (...sql: readonly string[]): Promise<void> =>
      await inCharset(pipeline.url, "utf8mb4", AS_STATEMENTS, ...sql);
    const flows = async (row: number): Promise<void> => {
      await pipeline.run(`insert into other values (${row}, 'flows')`);
      const tables = [{ schema: name, table: "other" }];
      await eventually(async () =>
        expect(await pipeline.sinks.differences(pipeline.url, pipeline.installation.folder, tables)).toEqual([]),
      );
    };
    await statements(
      "insert into keyless select * from viewed",
      "update keyless a join t b using (id) set a.v = b.v, a.id = (select max(id) from viewed)",
      "delete a from keyless a, t, viewed where a.id = t.id",
      "replace into keyless values (1, 'a')",
      "delete from keyless where id not in (select id from t)",
    );
    await flows(1);
    await expectSuspended(pipeline);
    const cases = [
      { sql: "update view_of set v = 'b'", of: "viewed" },
      { sql: "insert into left_out values (1, 'c')", of: "logged" },
      { sql: "select f()", of: "called" },
      { sql: "update t, called c set c.v = 'd'", of: "called" },
    ];
    for (const [i, { sql, of }] of cases.entries()) {
      await statements(sql);
      await expectSuspended(pipeline, of);
      await flows(i + 2);
      await pipeline.readAgain(of);
      await pipeline.expectEqual(of);
    }
    // All rows are gone, as everybody can tell.
    await statements("delete from called", "start transaction", "delete from t", "rollback");
    await pipeline.expectEqual("t", "called", "logged", "viewed", "other");
    // It removes what it can: here one row that nothing holds, and what refers to that.
    await statements("delete ignore from parent");
    // It failed at the second row of a table that can't roll back.
    await expect(statements("delete from stopped")).rejects.toThrow();
    await expectSuspended(pipeline, "child", "parent", "stopped");
    await pipeline.readAgain("child", "parent", "stopped");
    await pipeline.expectEqual("child", "parent", "stopped", "holder");
    // Of temporary tables with the names of captured ones.
    const hidden = (name: string): string => `create temporary table ${name} ${table}`;
    await statements(
      hidden("viewed"),
      "truncate viewed",
      "insert into viewed values (5, 'e')",
      "update viewed set v = 'x'",
      hidden("logged"),
      "insert into logged select * from viewed",
      "delete from logged",
    );
    await flows(6);
    await expectSuspended(pipeline);
    await pipeline.expectEqual("viewed", "logged");
    // While another temporary table is in use, a captured one behind its own is written to.
    await statements(
      hidden("viewed"),
      hidden("logged"),
      "insert into logged values (7, 'g')",
      "drop table logged",
      "insert into logged select * from viewed union select 8, 'h'",
    );
    await expectSuspended(pipeline, "logged");
    await pipeline.readAgain("logged");
    await statements(hidden("viewed"), "insert into viewed values (1, 'x')", "insert into viewed values (2, f())");
    await expectSuspended(pipeline, "called");
    await pipeline.readAgain("called");
    await pipeline.expectEqual("viewed", "logged", "called");
    await pipeline.kill();
    await pipeline.start();
    await flows(9);
    await expectSuspended(pipeline);
  });

  test("a definition that is too long to be read whole suspends what it may name, and never ends the daemon", async () => {
    const rules = (name: string) => ({ tables: [`${name}.t`, `${name}.u`] });
    await using pipeline = await MysqlPipeline.start(
      flavour,
      ["t", "u", "left_out"].map((name) => `create table ${name} ${table}`),
      { kinds: KINDS, untilStreaming: false },
    );
    await pipeline.daemon.stop();
    pipeline.configure(rules(pipeline.source.name));
    await pipeline.start();
    await pipeline.run("insert into t values (1, 'a')");
    await pipeline.expectEqual("t", "u");
    const long = `/* ${"x".repeat(9_000_000)} */`;
    await pipeline.run(`alter table left_out ${long} add column w int`, "insert into u values (2, 'b')");
    await expectSuspended(pipeline, "t", "u");
    await pipeline.readAgain("t", "u");
    await pipeline.run("insert into t values (3, 'c')", "insert into u values (4, 'd')");
    await pipeline.expectEqual("t", "u");
    // It names no table besides.
    await pipeline.run(
      `create table fresh (id int) ${long}`,
      `drop table fresh ${long}`,
      "insert into u values (5, 'e')",
    );
    await pipeline.expectEqual("t", "u");
    await expectSuspended(pipeline);
  });

  test.each([
    ["latin1", "größe", "straße"],
    // The second byte of the name's last character is a backslash in this character set, and no backslash.
    ["gbk", "表縗", "运縗"],
  ])("names as a client of %s writes them", async (charset, plain, parts) => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        `create table \`${plain}\` ${table}`,
        `create table \`${parts}\` ${table} ${PARTS}`,
        `insert into \`${plain}\` values (1, 'a'), (2, 'b')`,
        `insert into \`${parts}\` values (1, 'a'), (12, 'b')`,
      ],
      { kinds: KINDS },
    );
    await pipeline.expectEqual(plain, parts);
    await inCharset(pipeline.url, charset, `truncate \`${plain}\``, `alter table \`${parts}\` truncate partition low`);
    await pipeline.expectEqual(plain, parts);
    await inCharset(pipeline.url, charset, AS_STATEMENTS, `insert into \`${plain}\` values (3, 'c')`);
    await expectSuspended(pipeline, plain);
  });

  test("names in any case, on a server that takes all for one", { tags: "long" }, async () => {
    await using server = await ownFolding(flavour);
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        `create table Orders ${table}`,
        `create table Größen ${table} ${PARTS}`,
        "insert into ORDERS values (1, 'a'), (2, 'b')",
        "insert into Größen values (1, 'a'), (12, 'b')",
      ],
      { kinds: KINDS, url: server.url },
    );
    await pipeline.expectEqual("orders", "größen");
    await pipeline.run("truncate ORDERS", "alter table GRÖßEN truncate partition low");
    await pipeline.expectEqual("orders", "größen");
    await pipeline.run(`insert into \`${pipeline.source.name.toUpperCase()}\`.Orders values (3, 'c')`);
    await pipeline.run(`truncate \`${pipeline.source.name.toUpperCase()}\`.oRDERS`);
    await pipeline.expectEqual("orders", "größen");
    await inCharset(pipeline.url, "latin1", AS_STATEMENTS, "delete from GRÖßEN where id = 12");
    await expectSuspended(pipeline, "größen");
  });
});

test(
  "MariaDB: of a statement of 80 MB that is packed in the log its beginning is enough",
  { tags: "long" },
  async () => {
    await using server = await ownMysql("mariadb", {
      settings: { "log-bin-compress": "ON", "max-allowed-packet": 256 * 1024 * 1024 },
    });
    await using pipeline = await MysqlPipeline.start(
      "mariadb",
      ["create table t (id int primary key, v longtext)", "create table other (id int primary key, v longtext)"],
      { kinds: KINDS, url: server.url, untilStreaming: false },
    );
    await pipeline.daemon.stop();
    pipeline.configure({ tables: [`${pipeline.source.name}.t`] });
    await pipeline.start();
    for (const fill of ["x", "0123456789abcdef"]) {
      await pipeline.run(
        AS_STATEMENTS,
        `insert into other values (${fill.length}, '${fill.repeat(80_000_000 / fill.length)}')`,
      );
      await pipeline.run("set session binlog_format = 'ROW'", `insert into t values (${fill.length}, 'behind it')`);
    }
    await pipeline.expectEqual("t");
    await inCharset(pipeline.url, "utf8mb4", AS_STATEMENTS, `insert into t values (3, '${"x".repeat(80_000_000)}')`);
    await expectSuspended(pipeline, "t");
  },
);
