/** The formats of Debezium against Debezium itself, on MySQL. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "vitest";
import { MYSQL_TYPES } from "../support/debezium/mysql-types.ts";
import { expectSame } from "../support/debezium/scene.ts";
import { freshMysqlDatabase, mysqlUrl } from "../support/run/services.ts";

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
