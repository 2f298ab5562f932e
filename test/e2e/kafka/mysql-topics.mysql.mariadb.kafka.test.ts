/**
 * The daemon from MySQL or MariaDB to Kafka: what a reader of the topics makes of them is the source.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { STREAM_KINDS } from "../../support/daemon/sink-set.ts";

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const rows = (from: number, to: number, row: (i: number) => string): string => numbers(from, to).map(row).join(", ");

const MADE = [
  `create table item (id int primary key, n int, body text, price decimal(12,4), doc json, at datetime(6), raw varbinary(20),
     u bigint unsigned, kind enum('a', 'b'), day date, ok bit(1)) character set utf8mb4`,
  "create table seat (a int not null, b varchar(20) not null, holder varchar(20), primary key (a, b))",
  "create table other (id int primary key, n int)",
  `insert into item values ${rows(1, 60, (i) => `(${i}, 0, repeat('ü${i}.', 50), ${i}.25, '{"n": [${i}, null]}', '2026-01-02 03:04:05.${i}', x'00ff${(i + 16).toString(16)}', 18446744073709551615, 'b', '1999-12-31', b'1')`)}`,
  "insert into item (id) values (100)",
  `insert into seat values ${rows(1, 20, (i) => `(${i}, 's${i}', 'h${i}')`)}`,
  `insert into other values ${rows(1, 10, (i) => `(${i}, 0)`)}`,
];

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a copy, changes of every kind and of shapes, and a transaction larger than a step", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, MADE, { kinds: STREAM_KINDS });
    const together = (...statements: readonly string[]): Promise<void> =>
      pipeline.run("begin", ...statements, "commit");
    await pipeline.expectEqual("item", "seat", "other");

    await pipeline.run(
      "update item set n = n + 1 where id < 30",
      "update item set id = id + 1000 where id between 20 and 40 order by id desc",
      "delete from item where id between 1 and 5",
      "replace into item (id, n) values (7, 7)",
    );
    await together(
      "update seat set a = -1 where a = 1",
      "update seat set a = 1, b = 's1' where a = 2",
      "update seat set a = 2, b = 's2' where a = -1",
      "savepoint s",
      "delete from seat",
      "rollback to s",
    );
    await pipeline.run("truncate other", "insert into other values (1, 5), (11, 1)");
    await pipeline.expectEqual("item", "seat", "other");

    await pipeline.run(
      "alter table item add column extra int not null default 3, drop column raw",
      "update item set extra = id where id % 2 = 0",
      "alter table seat change holder owner varchar(40)",
      "alter table other modify n varchar(20)",
      "insert into other values (12, 'twelve')",
      "create table late (id int primary key, body text)",
      "insert into late values (1, 'x'), (2, null)",
    );
    await together(
      `insert into other values ${rows(100, 1_500, (i) => `(${i}, '${i}')`)}`,
      "delete from late where id = 2",
    );
    await pipeline.expectEqual("item", "seat", "other", "late");

    const { topics } = pipeline.sinks;
    const ends = (await topics!.read(`${topics!.prefix}${pipeline.source.name}._transactions`)).map(({ value }) =>
      JSON.parse(value!),
    );
    expect(ends.at(-1)).toMatchObject({
      changes: 1_402,
      tables: [
        { table: `${pipeline.source.name}.other`, changes: 1_401 },
        { table: `${pipeline.source.name}.late`, changes: 1 },
      ],
    });
  });
});
