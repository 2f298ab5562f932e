/**
 * MySQL and MariaDB: texts that the server can't convert are the same whether they come by the log or are read, and keep no
 * other row waiting.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Codes that columns of these character sets hold, and that no character is written with. */
const CODES = {
  cp932: "8540",
  sjis: "8540",
  big5: "c840",
  euckr: "c941",
  gb2312: "aaa1",
  ujis: "a9a1",
  eucjpms: "8fa9a1",
  latin1: "81",
  cp1250: "81",
};
const SETS = Object.keys(CODES);

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("codes without a character; half of a pair in a ucs2 column, which one row waits with", async () => {
    const columns = SETS.map(
      (set) => `${set} varchar(20) character set ${set}, e_${set} enum('a') character set ${set}`,
    );
    const row = (id: number): string =>
      `insert ignore into odd set id = ${id}, ${Object.entries(CODES)
        .map(([set, code]) => `${set} = _binary x'41${code}42', e_${set} = 1`)
        .join()}`;
    const half = (id: number): string => `insert ignore into halves values (${id}, _binary x'0041d8000042', 0)`;
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "set sql_mode = ''",
        `create table odd (id int primary key, n int default 0, ${columns.join(", ")}${flavour === "mariadb" ? ", a varchar(9) character set ascii default '' " : ""})`,
        "create table halves (id int primary key, v varchar(20) character set ucs2, n int)",
        row(1),
        half(1),
        "insert into halves values (2, 'whole', 0)",
        "set sql_mode = default",
      ],
      { kinds: ["postgres", "duckdb", "redis"] },
    );
    expect(await pipeline.source.texts("select hex(cp932), hex(eucjpms) from odd")).toEqual([
      ["41854042", "418FA9A142"],
    ]);
    await pipeline.run("set sql_mode = ''", row(2));
    if (flavour === "mariadb") await pipeline.run("update odd set a = _binary x'4180'");
    await pipeline.run("update odd set n = n + 1");
    await pipeline.expectEqual("odd");
    await pipeline.readAgain("odd");
    await pipeline.expectEqual("odd");
    const compared = async (...tables: readonly string[]): Promise<number | null> =>
      (
        await pipeline.installation.command(
          "reconcile",
          "--tables",
          ...tables.map((table) => `${pipeline.source.name}.${table}`),
        )
      ).exitCode;
    expect(await compared("odd")).toBe(0);

    await pipeline.run(half(3), "update halves set n = n + 1", "insert into halves values (4, 'behind it', 0)");
    await pipeline.settled();
    await eventually(async () => {
      const { sinks } = await pipeline.installation.status();
      const letters = Object.fromEntries(sinks.map(({ name, deadLetters }) => [name, deadLetters]));
      expect(letters).toEqual({ postgres: 2, duckdb: 2, redis: 0 });
    });
    const { rows } = await pipeline.sinks.target!.query<{ id: number; n: number }>(
      `select id, n from "${pipeline.source.name}".halves order by id`,
    );
    expect(rows).toEqual([
      { id: 2, n: 1 },
      { id: 4, n: 0 },
    ]);
    await pipeline.run("update halves set v = 'mended' where id in (1, 3)");
    await pipeline.expectEqual("halves", "odd");
    expect(await compared("halves", "odd")).toBe(0);
  });
});
