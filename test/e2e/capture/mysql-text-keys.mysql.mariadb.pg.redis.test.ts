/** MySQL and MariaDB: keys of text that the server takes for one although they are written in different ways. */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

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

  test("rows are found again by keys of every kind", async () => {
    const key = "f float, d double, e enum('b','a'), s set('x','y'), t time(3), y year, b bit(9), h binary(4)";
    const row = (f: number, i: number): string =>
      `(${f}, ${f} / 7, ${1 + (i % 2)}, ${i % 4}, '-${i}:00:00.125', ${1970 + i}, ${i * 50}, x'0${i % 10}00', 1)`;
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        `create table odd (${key}, n int, primary key (f, d, e, s, t, y, b, h))`,
        `insert into odd values ${[0.1, -0.3, 1.5, 1e-7, 3e30].map(row).join(", ")}`,
      ],
      { kinds: ["postgres"] },
    );
    await pipeline.settled();
    await pipeline.sinks.target!.query(`delete from "${pipeline.source.name}".odd where y <> 1972`);
    const { exitCode, stdout } = await pipeline.installation.command("reconcile", "--mode", "full", "--repair");
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 3, stdout: expect.stringMatching(/4\s*│\s*\n/) });
    const { rows } = await pipeline.sinks.target!.query<{ f: string }>(
      `select f::text from "${pipeline.source.name}".odd`,
    );
    expect(rows.map(({ f }) => f).toSorted()).toEqual(["-0.3", "0.1", "1.5", "1e-07", "3e+30"]);
  });

  test("keys in the year 0000: tables are read whole, and rows are found again", async () => {
    const days = Array.from({ length: 200 }, (_, i) => new Date(Date.UTC(2001, 0, 1 + i)).toISOString().slice(4, 10));
    const row = (day: string, i: number): string => `('0000${day}', '0000${day} 01:02:03.5', ${i})`;
    const columns = "(d date, t datetime(1), n int, primary key (d, t))";
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        `create table days ${columns}`,
        `insert into days values ${days.map(row).join(", ")}, ('0001-01-09', '0001-01-09 00:00:00', -1), ('2024-02-29', '9999-12-31 00:00:00', -2)`,
      ],
      { kinds: ["postgres"] },
    );
    const expectNumbers = async (): Promise<void> => {
      await pipeline.settled();
      const [[all] = []] = await pipeline.source.texts("select group_concat(n order by n) from days");
      const into = `"${pipeline.source.name}".days`;
      const { rows } = await pipeline.sinks.target!.query<{ n: string }>(
        `select string_agg(n::text, ',' order by n) n from ${into}`,
      );
      expect(rows[0]?.n).toBe(all);
    };
    await pipeline.run("set session group_concat_max_len = 100000");
    await expectNumbers();
    await pipeline.readAgain("days");
    await expectNumbers();
    await pipeline.run("update days set n = n + 1000 where n > 150", "delete from days where n = 1190");
    await pipeline.settled();
    await pipeline.sinks.target!.query(`delete from "${pipeline.source.name}".days where n % 3 = 0`);
    await pipeline.sinks.target!.query(`update "${pipeline.source.name}".days set n = n + 7 where n % 3 = 1`);
    const repaired = await pipeline.installation.command("reconcile", "--mode", "full", "--repair");
    expect(repaired).toMatchObject({ exitCode: 3 });
    await expectNumbers();
    expect(await pipeline.installation.command("reconcile", "--mode", "full")).toMatchObject({ exitCode: 0 });
  });
});
