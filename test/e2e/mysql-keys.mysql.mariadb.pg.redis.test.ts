/** MySQL and MariaDB: keys of text that the server takes for one although they are written in different ways. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../support/mysql-pipeline.ts";
import { mysqlFlavours } from "../support/services.ts";

const TABLES = [
  "create table words (k varchar(20) character set utf8mb4 collate utf8mb4_general_ci primary key, n int)",
  `create table pairs (a char(8) character set latin1 collate latin1_swedish_ci, b int, n int, primary key (b, a))`,
];

/** Each names a row in another way than the statement before, and changes how it is written, or does not. */
function changes(i: number): string[] {
  const [lower, upper, accented] = [`word${i}`, `WORD${i}`, `wörd${i}`];
  return [
    `insert into words values ('${lower}', 1)`,
    `insert into words values ('${upper}', 2) on duplicate key update n = n + 1`,
    `update words set k = '${upper}' where k = '${lower}'`,
    `replace into words values ('${accented}', 3)`,
    `delete from words where k = '${lower.toUpperCase()}' and n = ${i % 3 === 0 ? 3 : 0}`,
    `insert ignore into words values ('${upper}', 4)`,
    `update words set k = concat(k, ' '), n = 5 where k = '${lower}' and ${i} % 2`,
    `insert into pairs values ('${lower}', ${i}, 1)`,
    `update pairs set a = '${upper}', n = 2 where a = '${lower}'`,
    `begin`,
    `delete from pairs where a = '${lower}'`,
    `insert into pairs values ('Word${i}', ${i}, 3)`,
    `commit`,
  ];
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("one row at the source is one row in every sink, however its key is written", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, [...TABLES, ...changes(0), ...changes(1)], {
      kinds: ["duckdb", "postgres", "redis"],
    });
    for (let i = 2; i < 10; i++) await pipeline.run(...changes(i));
    await pipeline.expectEqual("words", "pairs");
    // Rows that are read beside the stream while it rewrites their keys.
    for (let round = 0; round < 4; round++) {
      await pipeline.readAgain("words", "pairs");
      for (let i = 0; i < 10; i++) {
        const [from, to] = round % 2 === 0 ? ["upper", "lower"] : ["lower", "upper"];
        await pipeline.run(
          `update words set k = ${to}(k), n = n + 1 where k = ${from}('word${i}')`,
          `update pairs set a = ${to}(a), n = n + 1 where b = ${i}`,
        );
      }
    }
    await pipeline.expectEqual("words", "pairs");
    const [[count] = []] = await pipeline.source.texts("select count(*) from words");
    expect(Number(count)).toBeGreaterThan(5);
  });
});
