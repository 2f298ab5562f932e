/** The formats of Debezium against Debezium itself, on MySQL. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "vitest";
import { expectSame } from "../support/debezium/scene.ts";
import { freshMysqlDatabase, mysqlUrl } from "../support/run/services.ts";

/** A column of each type of MySQL, with values as SQL. */
const MYSQL_TYPES: readonly (readonly [type: string, ...values: readonly string[]])[] = [
  ["tinyint", "-128", "127"],
  ["tinyint(1)", "1", "0", "-5"],
  ["tinyint unsigned", "255"],
  ["smallint", "-32768"],
  ["smallint unsigned", "65535"],
  ["mediumint", "-8388608"],
  ["mediumint unsigned", "16777215"],
  ["int", "-2147483648"],
  ["int unsigned", "4294967295"],
  ["bigint", "9223372036854775807", "-9223372036854775808"],
  ["bigint unsigned", "18446744073709551615", "5", "9223372036854775808"],
  ["float", "0.1", "16777216", "-1e30"],
  ["double", "0.1", "1e300", "-0.0"],
  ["decimal(12,2)", "-12.50", "0", "9999999999.99"],
  ["decimal(10,0)", "12", "-128"],
  [
    "decimal(65,30)",
    "12345678901234567890123456789012345.123456789012345678901234567890",
    "-0.000000000000000000000000000001",
  ],
  ["decimal(12,2) unsigned", "12.50"],
  ["bit", "b'1'", "b'0'"],
  ["bit(5)", "b'10101'"],
  ["bit(12)", "b'100000000011'"],
  ["bit(40)", "b'1000000000000000000000000000000000000001'"],
  ["bit(64)", "b'1'", "18446744073709551615"],
  ["year", "2024", "1901"],
  ["date", "'2024-02-29'", "'1000-01-01'", "'9999-12-31'"],
  ["time", "'12:00:01'", "'-838:59:59'"],
  ["time(3)", "'12:00:01.5'"],
  ["time(6)", "'-838:59:58.5'", "'-00:00:00.000001'"],
  ["datetime", "'2024-02-29 12:30:00'", "'9999-12-31 23:59:59'"],
  ["datetime(3)", "'2024-02-29 12:30:00.25'", "'1000-01-01 00:00:00.001'"],
  ["datetime(4)", "'2024-02-29 12:30:00.25'"],
  ["datetime(6)", "'2024-02-29 12:30:00.000001'"],
  ["timestamp null", "'2024-02-29 12:30:00'"],
  ["timestamp(3) null", "'2024-02-29 12:30:00.25'"],
  ["timestamp(6) null", "'2024-02-29 12:30:00.25'"],
  ["char(5)", "'ab'", "''"],
  ["varchar(50)", "'a\"b\\\\é🚀'"],
  ["text", "'a'"],
  ["tinytext", "'a'"],
  ["mediumtext", "'a'"],
  ["longtext", "'a'"],
  ["varchar(5) character set latin1", "'é'"],
  ["binary(5)", "x'0001000000'", "x'0001020304'"],
  ["varbinary(5)", "x'0001'", "''"],
  ["blob", "x'0001'"],
  ["longblob", "x'00ff'"],
  ["enum('a','it''s')", "'it''s'"],
  ["set('a','b','c')", "'a,c'", "''"],
  ["json", `'{"a": 1, "b": [1.5, null, "x"]}'`],
  ["geometry", "ST_GeomFromText('POINT(1 2)')"],
  ["point", "ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(1 2)', 4326)"],
  ["polygon", "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')"],
  ["linestring", "ST_GeomFromText('LINESTRING(0 0,1 1)')"],
  ["vector(3)", "STRING_TO_VECTOR('[1,2.5,3]')"],
];

const columns = MYSQL_TYPES.map(([type], i) => `c${i} ${type}`);
const names = MYSQL_TYPES.map((_, i) => `c${i}`).join(", ");
const rowCount = Math.max(...MYSQL_TYPES.map((values) => values.length - 1));
const values = (row: number): string => MYSQL_TYPES.map(([, ...all]) => all[row % all.length]!).join(", ");

const TABLES: readonly string[] = [
  "create table the_end (id int primary key)",
  `create table types (id int primary key, ${columns.join(", ")})`,
  "create table pairs (a int, b varchar(10), v varchar(10), primary key (a, b))",
  "create table zz (id int primary key)",
  "insert into pairs values (9, 's', null)",
  "insert into zz values (1)",
];

const WORK: readonly string[] = [
  ...Array.from(
    { length: rowCount },
    (_, row) => `insert into types (id, ${names}) values (${row + 10}, ${values(row)})`,
  ),
  "insert into types (id) values (50)",
  "update types set c0 = 3 where id = 50",
  "delete from types where id = 50",
  "insert into pairs values (1, 'x', 'y')",
  "update pairs set v = 'z' where a = 1",
  "update pairs set a = 2 where a = 1",
  "delete from pairs where a = 2",
  "begin",
  "insert into pairs values (5, 'x', 'y'), (6, 'x', 'y')",
  "update pairs set v = 'w' where a = 5",
  "commit",
  "insert into the_end values (1)",
];

test("records and schemas are those of Debezium's connector", { tags: "long" }, async () => {
  await using source = await freshMysqlDatabase(mysqlUrl("mysql"));
  for (const statement of ["set time_zone = '+00:00'", ...TABLES]) await source.connection.query(statement);
  const folder = await mkdtemp(join(tmpdir(), "millrace-debezium-"));
  const { hostname, port, username } = new URL(mysqlUrl("mysql"));
  try {
    await expectSame({
      source: { kind: "mysql", url: urlOf(source.name), heartbeat: "500ms" },
      sink: { format: "debezium", transactions: true },
      form: "json",
      properties: {
        name: "oracle",
        "connector.class": "io.debezium.connector.mysql.MySqlConnector",
        "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
        "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
        "schema.history.internal.file.filename": join(folder, "history"),
        "include.schema.changes": "false",
        "topic.prefix": "shop",
        "database.hostname": hostname,
        "database.port": port,
        "database.user": username,
        "database.password": "",
        "database.server.id": "77003",
        "database.include.list": source.name,
        "database.ssl.mode": "disabled",
        "driver.allowPublicKeyRetrieval": "true",
        "snapshot.locking.mode": "none",
        "snapshot.mode": "initial",
        "provide.transaction.metadata": "true",
      },
      // The last table that it reads.
      isReady: async (engine) => engine.hasTold(".zz"),
      work: async () => {
        for (const statement of WORK) await source.connection.query(statement);
      },
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

function urlOf(database: string): string {
  const url = new URL(mysqlUrl("mysql"));
  url.pathname = `/${database}`;
  return url.href;
}
