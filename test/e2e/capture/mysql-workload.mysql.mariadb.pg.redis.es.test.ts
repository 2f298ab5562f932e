/**
 * MySQL and MariaDB into every kind of sink, in each of its forms: what happens to keys, in transactions, and under rules.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TableName } from "../../support/compare/compare.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { hashedMysql, partialMysql } from "../../support/model/rules-view.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { KEPT_KINDS, LAKE_KINDS, CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

const KEY = "a-key-of-the-tests-0123456789";

const RULES = {
  person: {
    columns: {
      mail: { mask: "hash" },
      phone: { mask: "partial" },
      note: { mask: "redact" },
      born: { mask: null },
      secret: { drop: true },
      status: { rename: "state" },
    },
    where: "status <> 'test' and (amount is null or amount < 1000.00)",
  },
  visit: { key: ["no"] },
  kept: { schemaChange: "ignore" },
};

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const rows = (from: number, to: number, row: (i: number) => string): string => numbers(from, to).map(row).join(", ");

const people = (from: number, to: number): string =>
  `insert into person values ${rows(from, to, (i) => {
    const status = i % 3 === 0 ? "test" : "open";
    return `(${i}, 'mail${i % 40}@exämple', '+49 30 ${i}', ${i % 4 === 0 ? "null" : `'note ${i}'`}, '1990-01-01', 's', '${status}', ${i % 5 === 0 ? "null" : i * 10})`;
  })}`;

const MADE = [
  "create table item (id int primary key, n int, body text)",
  "create table seat (id int primary key, holder varchar(20), body text)",
  "create table spot (a int not null, b int not null, who varchar(20), primary key (a, b))",
  "create table other (id int primary key, n int)",
  "create table serial (id int auto_increment primary key, label varchar(20) unique, n int)",
  `create table person (id bigint primary key, mail varchar(60), phone varchar(40), note text, born date, secret varchar(9),
     status varchar(10), amount decimal(10,2)) character set utf8mb4`,
  `create view person_ruled as select id, ${hashedMysql(KEY, "mail")} as mail, ${partialMysql("phone")} as phone,
     if(note is null, null, '[redacted]') as note, cast(null as date) as born, status as state, amount
   from person where status <> 'test' and (amount is null or amount < 1000.00)`,
  "create table visit (tenant int, id int, no int not null, n int, primary key (tenant, id), unique key (no))",
  "create table kept (id int primary key, a varchar(20), b int)",
  `insert into item values ${rows(1, 50, (i) => `(${i}, 0, repeat('${i}.', 200))`)}`,
  `insert into seat values ${rows(1, 20, (i) => `(${i}, 'h${i}', 'body ${i}')`)}`,
  `insert into spot values ${rows(1, 10, (i) => `(${i}, ${i}, 'w${i}')`)}`,
  `insert into other values ${rows(1, 10, (i) => `(${i}, 0)`)}`,
  `insert into serial (label, n) values ${rows(1, 10, (i) => `('l${i}', ${i})`)}`,
  people(1, 150),
  `insert into visit values ${rows(1, 40, (i) => `(${i % 3}, ${i}, ${i + 1000}, 0)`)}`,
  `insert into kept values ${rows(1, 10, (i) => `(${i}, 'a${i}', ${i})`)}`,
];

describe.each(mysqlFlavours)("%s", (flavour) => {
  let pipeline: MysqlPipeline;
  const run = (...statements: readonly string[]): Promise<void> => pipeline.run(...statements);
  const together = (...statements: readonly string[]): Promise<void> => pipeline.run("begin", ...statements, "commit");
  const named = (table: string, more: Partial<TableName> = {}): TableName => ({
    schema: pipeline.source.name,
    table,
    ...more,
  });

  beforeAll(async () => {
    const kinds = [...CHOSEN_KINDS, ...KEPT_KINDS, ...(isLongForm() ? LAKE_KINDS : [])];
    pipeline = await MysqlPipeline.start(flavour, MADE, { kinds, rules: RULES, maskKey: KEY });
  });
  afterAll(async () => {
    await pipeline?.[Symbol.asyncDispose]();
  });

  test("one key deleted and inserted again, and changed twenty times in a transaction", async () => {
    await together("delete from item where id = 1", "insert into item values (1, 1, 'again')");
    await together("insert into item values (101, 1, 'x')", "delete from item where id = 101");
    await run("delete from item where id = 2", "insert into item values (2, 1, null)");
    await together(...numbers(1, 20).map((n) => `update item set n = ${n} where id = 3`));
    const cycles = numbers(1, 20).flatMap((n) => [
      "delete from item where id = 4",
      `insert into item values (4, ${n}, 'c')`,
    ]);
    await together(...cycles);
    await together(...cycles, "delete from item where id = 4");
    await together(
      ...numbers(1, 20).map((n) => `update item set id = ${n % 2 === 0 ? 5 : 105}, n = ${n} where id in (5, 105)`),
    );
    await run("update item set id = id + 1000 order by id desc", "replace into item values (1010, 7, 'replaced')");
    await run("insert into item values (1011, 1, 'x'), (2000, 1, 'new') on duplicate key update n = item.n + 5");
    await pipeline.expectEqual("item");
  });

  test("rows that swap their keys, and step into each other's", async () => {
    const swap = (a: number, b: number): string[] => [
      `update seat set id = -1 where id = ${a}`,
      `update seat set id = ${a} where id = ${b}`,
      `update seat set id = ${b}, holder = concat(holder, '!') where id = -1`,
    ];
    await together(...swap(1, 2));
    await together(...swap(3, 4), ...swap(4, 5), ...swap(3, 5));
    await run(
      "update seat set id = id + 1 where id >= 9 order by id desc",
      "update seat set id = id - 1 where id >= 10 order by id",
    );
    await together(
      "delete from seat where id = 6",
      "update seat set id = 6 where id = 7",
      "insert into seat values (7, 'new', 'b')",
    );
    await run("update spot set a = a - 100, b = b - 100", "update spot set a = -89 - a, b = -89 - b");
    // One statement deletes two rows and inserts one.
    await run(
      "replace into serial (id, label, n) values (1, 'l2', 77)",
      "insert into serial (label, n) values ('l3', 1) on duplicate key update id = 500, n = 2",
    );
    await run(
      "update item i join seat s on s.id + 1000 = i.id set i.n = -1, s.body = 'joined'",
      "delete i, s from item i join seat s on s.id + 1000 = i.id where s.id > 15",
    );
    await pipeline.expectEqual("item", "seat", "spot", "serial");
  });

  test("truncates between rows", async () => {
    await run(
      "insert into other values (11, 1)",
      "truncate other",
      "insert into other values (11, 2)",
      "truncate table `serial`",
      "insert into serial (label) values ('first')",
    );
    await together("insert into other values (12, 1)", "update other set n = 9");
    await run(
      "truncate other",
      "truncate other",
      "insert into other values (12, 3), (1, 1)",
      "delete from other where id = 1",
      "truncate seat",
    );
    await pipeline.expectEqual("other", "serial", "seat");
  });

  test("savepoints that are rolled back leave nothing", async () => {
    await together(
      "update item set n = 50 where id = 1020",
      "savepoint a",
      "update item set n = 51 where id = 1020",
      "insert into item values (300, 1, 'never')",
      "savepoint b",
      "delete from item where id = 1021",
      "release savepoint b",
      "update item set id = 301 where id = 1022",
      "rollback to a",
      "update item set n = n + 1 where id = 1020",
    );
    await together("savepoint a", "insert into item values (302, 1, 'kept')", "release savepoint a");
    await run("begin", "insert into item values (303, 1, 'never')", "rollback");
    await pipeline.expectEqual("item");
  });

  test("rules: masks, dropped and renamed columns, filters, another key, shapes that are ignored", async () => {
    const ruled = named("person", { key: ["id"], shownBy: "person_ruled" });
    await pipeline.expectEqual(ruled, named("visit", { key: ["no"] }), "kept");
    await run(
      people(151, 200),
      "update person set status = 'open', amount = 1 where id % 6 = 0",
      "update person set status = 'test' where id % 8 = 0",
    );
    await run(
      "update person set amount = 5000 where id % 7 = 0",
      "update person set id = id + 1000 where id between 20 and 60 order by id desc",
    );
    await together(
      "update person set id = 5000, status = 'test' where id = 82",
      "update person set id = 82 where id = 83",
      "update person set id = 83, status = 'open' where id = 5000",
    );
    await run("delete from person where id % 13 = 0", "update person set note = 'other' where id % 5 = 1");
    await run(
      "update visit set tenant = tenant + 10 where id % 4 = 0",
      "update visit set no = no + 5000 where id % 5 = 0",
      "delete from visit where id % 7 = 0",
    );
    await pipeline.readAgain("person", "visit");
    await pipeline.expectEqual(ruled, named("visit", { key: ["no"] }));
    await run(
      "alter table kept add column c int default 5",
      "insert into kept values (11, 'x', 11, 11)",
      "update kept set b = b + 1 where id < 4",
    );
    await run("create view kept_as_before as select id, a, b from kept");
    await pipeline.expectEqual(named("kept", { key: ["id"], shownBy: "kept_as_before" }));
    const { stdout } = await pipeline.installation.command("schema", "list", "--json");
    const { tables }: { tables: { table: string; version: number; ignored: boolean }[] } = JSON.parse(stdout);
    expect(tables).toContainEqual(
      expect.objectContaining({ table: `${pipeline.source.name}.kept`, version: 1, ignored: true }),
    );
  });
});
