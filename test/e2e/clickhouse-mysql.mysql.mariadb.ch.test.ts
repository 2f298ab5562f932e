/** From MySQL and MariaDB into ClickHouse: every type with its edge values, and rows that come, change and go. */
import { describe, test } from "vitest";
import { EDGE_TYPES } from "../support/mysql-edge-values.ts";
import { MysqlPipeline } from "../support/mysql-pipeline.ts";
import { isMysqlFrom, mysqlFlavours } from "../support/services.ts";
import { COLUMN_KINDS } from "../support/sink-set.ts";

/** Numbers of which six digits are printed, and dates that do not exist. */
const NOT_PRINTED = /^(float|date|datetime|timestamp|geometry|point|vector)/;
const CALENDAR = [
  ["date", ["'1899-12-31'", "'1900-01-01'", "'2299-12-31'", "'2300-01-01'", "'9999-12-31'"]],
  [
    "datetime(6)",
    ["'1000-01-01'", "'1900-01-01'", "'2262-04-11 23:47:16.854775'", "'2299-12-31 23:59:59.999999'", "'2300-01-01'"],
  ],
  ["timestamp(6) null", ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'"]],
] as const;

describe.each(mysqlFlavours)("%s", (flavour) => {
  const printed = EDGE_TYPES.filter(
    ({ native, only = flavour, since }) =>
      only === flavour &&
      (since === undefined || isMysqlFrom(flavour, since)) &&
      // What the servers print of these is not what they are.
      !NOT_PRINTED.test(native),
  );
  const types = [...printed.map(({ native, values }) => [native, values] as const), ...CALENDAR];
  const lenient = "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00', names utf8mb4";
  const columns = types.map(([native], i) => `c${i} ${native}`).join(", ");
  /** A row for each value, in its own column. */
  const fill = (table: string): string[] =>
    types.flatMap(([, values], i) => values.map((value) => `insert into ${table} (c${i}) values (${value})`));

  test("every type lands exactly, or as the table of types says: copied, and from the log", async () => {
    const make = (table: string): string =>
      `create table ${table} (id int auto_increment primary key, ${columns}) character set utf8mb4`;
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [lenient, make("copied"), make("streamed"), ...fill("copied")],
      { kinds: ["clickhouse"] },
    );
    await pipeline.run(...fill("streamed"));
    await pipeline.expectEqual("copied", "streamed");
    await pipeline.readAgain("streamed");
    await pipeline.expectEqual("streamed");
  });

  test("what was there, what comes, what goes: every form is equal", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table pairs (a int, b varchar(10), c int, body mediumtext, primary key (b, a))",
        "insert into pairs values (1, 'x', 1, 'one'), (2, 'x', 2, null), (1, 'y', 3, repeat('z', 100000))",
      ],
      { kinds: COLUMN_KINDS },
    );
    await pipeline.run("update pairs set a = a + 10 where b = 'x'", "delete from pairs where b = 'y'");
    await pipeline.run(
      "start transaction",
      "insert into pairs values (5, 'z', 5, null)",
      "update pairs set c = 8",
      "commit",
    );
    await pipeline.expectEqual("pairs");
    await pipeline.run(
      "alter table pairs add column d decimal(20,4) default 1.5",
      "update pairs set d = d + 1 where a = 5",
    );
    await pipeline.expectEqual("pairs");
    await pipeline.run("truncate table pairs", "insert into pairs (a, b) values (9, 'after')");
    await pipeline.expectEqual("pairs");
  });
});
