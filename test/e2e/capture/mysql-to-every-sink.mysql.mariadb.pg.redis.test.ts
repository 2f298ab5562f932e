/** MySQL and MariaDB, from the log to every kind of sink. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

const TABLES = [
  `create table orders (id bigint unsigned auto_increment primary key, name varchar(40) character set latin1, note text,
     amount decimal(20,4), made datetime(6), seen timestamp(3) null, flag bit(1), bits bit(12), kind enum('a','b,c','d''e'),
     tags set('x','y','z'), body json, raw varbinary(20), fixed binary(4), ratio double, at_time time(2), born year,
     small tinyint, middle mediumint unsigned) character set utf8mb4`,
  "create table pairs (a int, b varchar(10), c int, primary key (b, a))",
  "create table uniques (u int not null, v varchar(20), unique key (u))",
  "create table keyless (v int)",
];

const ROWS = `insert into orders (name, note, amount, made, seen, flag, bits, kind, tags, body, raw, fixed, ratio, at_time, born, small, middle) values
  ('Müller', 'ü€😀', -12.5, '2024-02-29 23:59:59.120000', '2024-01-02 03:04:05.120', 1, 4000, 'b,c', 'x,z', '{"a": [1, 2.5, null], "b": "ü"}', x'00ff', x'0102', 0.1, '-838:59:58.50', 1999, -5, 16000000),
  (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
  ('', '', 0, '1000-01-01', '1970-01-01 00:00:01', 0, 0, 'd''e', '', '[]', '', '', -1.5, '00:00:00', 0, 127, 0)`;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("what was there, what comes, what goes: every sink is equal", async () => {
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        ...TABLES,
        ROWS,
        "insert into pairs values (1, 'x', 1), (2, 'x', 2), (1, 'y', 3)",
        "insert into uniques values (7, 'v')",
      ],
      { kinds: ["duckdb", "postgres", "redis"] },
    );
    await pipeline.expectEqual("orders", "pairs", "uniques");
    await pipeline.run(
      ROWS,
      "update orders set amount = amount + 1, note = 'changed' where id < 4",
      "delete from orders where id = 2",
      "update pairs set a = a + 10 where b = 'x'",
      "start transaction",
      "insert into pairs values (5, 'z', 5)",
      "update uniques set u = 8",
      "commit",
    );
    await pipeline.expectEqual("orders", "pairs", "uniques");
    await pipeline.readAgain("orders", "pairs", "uniques");
    await pipeline.expectEqual("orders", "pairs", "uniques");
    if (flavour === "mysql") {
      await pipeline.run("set session binlog_transaction_compression = on", ROWS, "update orders set note = 'packed'");
      await pipeline.run("set session binlog_transaction_compression = off", "delete from orders where id = 1");
      await pipeline.expectEqual("orders");
    }
    await pipeline.run("truncate table pairs", "insert into pairs values (9, 'after', 9)");
    await pipeline.expectEqual("orders", "pairs", "uniques");
    expect((await pipeline.installation.status()).tables.refused).toHaveLength(1);
  });
});
