/**
 * The daemon from MySQL or MariaDB to files: the rows that they leave equal the source.
 * @module-tag heavy
 */
import { describe, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { LOG_KINDS } from "../../support/daemon/sink-set.ts";

const MADE = [
  `create table item (id int primary key, n int, body text, price decimal(12,4), doc json, at datetime(6), raw varbinary(20),
     u bigint unsigned, kind enum('a', 'b'), day date, ok bit(1), f float, t time(3)) character set utf8mb4`,
  "create table seat (a int not null, b varchar(20) not null, holder varchar(20), primary key (a, b))",
  `insert into item values (1, 0, repeat('ü', 500), 1.25, '{"n": [1, null]}', '2026-01-02 03:04:05.123456', x'00ff', 18446744073709551615,
     'b', '1999-12-31', b'1', 1.5, '-838:59:59')`,
  `insert into item (id, body, u, day, at) values (2, concat('nul', char(0), 'in', char(10), '"'), 0, '1000-01-01', '9999-12-31 23:59:59.999999')`,
  "insert into seat values (1, 'x', 'h'), (2, 'y', null), (3, 'z', '')",
];

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a copy, changes of every kind and of shapes", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, MADE, { kinds: LOG_KINDS });
    await pipeline.expectEqual("item", "seat");
    await pipeline.run(
      "update item set n = n + 1",
      "update item set id = id + 1000 where id = 1",
      "replace into item (id, n) values (7, 7)",
      "begin",
      "update seat set a = -1 where a = 1",
      "update seat set a = 1, b = 's1' where a = 2",
      "update seat set a = 2, b = 's2' where a = -1",
      "delete from seat where a = 3",
      "commit",
    );
    await pipeline.expectEqual("item", "seat");
    await pipeline.run(
      "truncate`seat`",
      "insert into seat values (5, 'e', 'f')",
      "alter table item add column extra int not null default 3, drop column raw",
      "update item set extra = id where id > 2",
      "alter table seat change holder owner varchar(40)",
    );
    await pipeline.expectEqual("item", "seat");
  });
});
