/** MySQL and MariaDB: NUL in texts. It is kept where a sink has it; Postgres shows its picture in its place. */
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { elasticsearchUrl, mysqlFlavours, redisUrl } from "../../support/run/services.ts";
import { SINK_KINDS } from "../../support/daemon/sink-set.ts";

const PICTURE = "\u2400";
const ESCAPE = "\u2410";
/** By id: what is in the row. */
const TEXTS: Readonly<Record<number, string>> = {
  1: "\0",
  2: "a\0b\0\0",
  3: "\0\ttab, \\ and \n line",
  4: "no such",
  5: `both \0 ${PICTURE}`,
};
/** Keys that are one text where a NUL, or its picture, joins their parts. */
const PAIRS = [
  ["x\0", "y"],
  ["x", "\0y"],
  [`x${PICTURE}`, "y"],
] as const;
const shown = (text: string): string => text.replaceAll("\0", PICTURE);
const literal = (text: string): string => `_utf8mb4 x'${Buffer.from(text).toString("hex")}'`;

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("in values and in keys, copied and streamed, one by one and many at once", async () => {
    const row = ([id, text]: [string, string]): string => `(${id}, ${literal(text)}, ${literal(text)}, ${id})`;
    await using pipeline = await MysqlPipeline.start(
      flavour,
      [
        "create table t (id int primary key, v text character set utf8mb4, l varchar(50) character set utf8mb4, n int)",
        "create table k (k varchar(50) character set utf8mb4 collate utf8mb4_bin primary key, n int)",
        "create table p (a varchar(9), b varchar(9), n int, primary key (a, b)) character set utf8mb4 collate utf8mb4_bin",
        `create table e (k enum('a\\0', 'a${PICTURE}') character set utf8mb4 primary key, n int)`,
        "insert into e values (1, 1), (2, 2)",
        `insert into p values ${PAIRS.map(([a, b], i) => `(${literal(a)}, ${literal(b)}, ${i})`).join(", ")}`,
        `insert into t values ${Object.entries(TEXTS).slice(0, 3).map(row).join(", ")}`,
        `insert into k values (${literal("a\0")}, 1), (${literal("b\0")}, 2), (${literal(`a${PICTURE}`)}, 11), (${literal(ESCAPE)}, 12)`,
      ],
      { kinds: SINK_KINDS },
    );
    await pipeline.run(
      ...Object.entries(TEXTS)
        .slice(3)
        .map((entry) => `insert into t values ${row(entry)}`),
    );
    await pipeline.run(
      "begin",
      ...Array.from({ length: 400 }, (_, i) => `insert into t values ${row([String(100 + i), `x\0${i}`])}`),
      "commit",
      "update t set n = n + 1 where id < 3",
      `insert into k values (${literal("c\0")}, 3)`,
      `update k set n = 7 where k = ${literal("a\0")}`,
      `delete from k where k = ${literal("b\0")}`,
    );
    await pipeline.settled();
    const { name } = pipeline.source;
    const target = pipeline.sinks.target!;
    const { rows } = await target.query<{ id: number; v: string; l: string }>(
      `select id, v, l from "${name}".t where id < 100 order by id`,
    );
    expect(rows).toEqual(Object.entries(TEXTS).map(([id, v]) => ({ id: Number(id), v: shown(v), l: shown(v) })));
    // No two keys are one.
    await pipeline.run(
      `insert into k values (${literal(`c${PICTURE}`)}, 13), (${literal(`d${ESCAPE}\0`)}, 14), (${literal(`d${ESCAPE}${PICTURE}`)}, 15)`,
      `update k set n = n + 100 where k = ${literal(`a${PICTURE}`)}`,
    );
    await pipeline.settled();
    const keys = await target.query<{ k: string; n: number }>(`select k, n from "${name}".k order by k collate "C"`);
    expect(keys.rows).toEqual([
      { k: `a${PICTURE}`, n: 7 },
      { k: `a${ESCAPE}${PICTURE}`, n: 111 },
      { k: `c${PICTURE}`, n: 3 },
      { k: `c${ESCAPE}${PICTURE}`, n: 13 },
      { k: `d${ESCAPE}${ESCAPE}${PICTURE}`, n: 14 },
      { k: `d${ESCAPE}${ESCAPE}${ESCAPE}${PICTURE}`, n: 15 },
      { k: `${ESCAPE}${ESCAPE}`, n: 12 },
    ]);
    // The same of keys of several parts, also read beside their changes.
    await pipeline.installation.command("snapshot", "start", "--tables", `${name}.p`, `${name}.e`);
    await pipeline.run(
      "begin",
      ...PAIRS.map(([a, b]) => `update p set n = n + 10 where a = ${literal(a)} and b = ${literal(b)}`),
      "update e set n = n + 10",
      "commit",
      `delete from p where a = ${literal(PAIRS[0][0])}`,
    );
    await pipeline.settled();
    const pairs = await target.query<{ n: number }>(`select n from "${name}".p order by n`);
    expect(pairs.rows).toEqual([{ n: 11 }, { n: 12 }]);
    const labels = await target.query<{ n: number }>(`select n from "${name}".e order by n`);
    expect(labels.rows).toEqual([{ n: 11 }, { n: 12 }]);
    const sql = `select id, hex(v) v from "${name}".t where id < 100 order by id`;
    const { stdout } = await pipeline.installation.command("query", sql, "--json");
    const found: { rows: { id: number; v: string }[] } = JSON.parse(stdout);
    const hex = (text: string): string => Buffer.from(text).toString("hex").toUpperCase();
    expect(found.rows).toEqual(Object.entries(TEXTS).map(([id, v]) => ({ id: Number(id), v: hex(v) })));

    const client = new Redis(redisUrl());
    const cached = await client.hgetall(`${pipeline.sinks.keyPrefix}${name}:t:2`);
    client.disconnect();
    expect(cached["v"]).toBe(TEXTS[2]);
    const index = `${pipeline.sinks.indexPrefix}${name}.t`;
    const document = await fetch(`${elasticsearchUrl()}/${index}/_doc/2`);
    const { _source }: { _source: { v: string } } = JSON.parse(await document.text());
    expect(_source.v).toBe(TEXTS[2]);

    expect((await pipeline.installation.status()).sinks.map(({ deadLetters }) => deadLetters)).toEqual([0, 0, 0, 0]);
    for (const table of ["t", "k", "p", "e"]) {
      const report = await pipeline.installation.command("reconcile", "--mode", "full", "--tables", `${name}.${table}`);
      expect(report).toMatchObject({ exitCode: 0 });
    }
  });
});
