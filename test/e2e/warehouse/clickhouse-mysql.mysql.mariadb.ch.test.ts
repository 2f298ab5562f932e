/**
 * From MySQL and MariaDB into ClickHouse: every type with its edge values, and rows that come, change and go.
 * @module-tag heavy
 */
import { describe, test } from "vitest";
import { everyTypeLands } from "../../support/mysql/mysql-matrix.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { COLUMN_KINDS } from "../../support/daemon/sink-set.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("every type lands exactly, or as the table of types says: copied, and from the log", async () => {
    await everyTypeLands(flavour, ["clickhouse"]);
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
