/**
 * MySQL and MariaDB: statements in the log are found by the names that they stand for, in whatever way they are written.
 * @module-tag heavy
 */
import { Readable } from "node:stream";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../support/mysql/mysql-pipeline.ts";
import { type MysqlFlavour, mysqlFlavours, ownMysql } from "../support/run/services.ts";

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

async function expectRefused(pipeline: MysqlPipeline): Promise<void> {
  const { exitCode, stderr } = await pipeline.daemon.ended;
  expect(exitCode).toBe(1);
  expect(stderr).toContain("MR2120");
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  const table = "(id int primary key, v varchar(20))";

  test("LOAD DATA of a session that logs statements stops the stream, but not that of a table that is left out", async () => {
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
    await expectRefused(pipeline);
    // As the error's page says.
    const recovered = await pipeline.installation.command("recover", "--anyway", "--yes");
    expect(recovered, recovered.stderr).toMatchObject({ exitCode: 0 });
    await pipeline.start();
    await pipeline.expectEqual("t");
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
    await expectRefused(pipeline);
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
    await inCharset(pipeline.url, "latin1", AS_STATEMENTS, "delete from GRÖßEN");
    await expectRefused(pipeline);
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
    await expectRefused(pipeline);
  },
);
