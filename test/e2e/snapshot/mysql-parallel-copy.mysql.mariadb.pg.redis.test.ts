/**
 * MySQL and MariaDB: several sessions read a large table, each as of its own moment, while rows change their keys and so
 * move from what one session reads into what another does.
 * @module-tag heavy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { believeLarge, KEPT_STATISTICS } from "../../support/mysql/mysql-large.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

/** 20 MB: more than waits anywhere between the server and a sink. */
const ROWS = 20_000;
const BATCH = 10;
/** A row moves to the other end: the key of what was the first is then that of the last. */
const LAST = ROWS * BATCH - 1;
const KEYS_AT_ONCE = 4;
const PAUSE_MS = 1;

const PREPARE = [
  "create table digits (n int primary key)",
  "insert into digits values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
  `create table busy (id int primary key, n int not null, note varchar(1000)) ${KEPT_STATISTICS}`,
  `create table paired (a bigint unsigned, b int, n int not null, note varchar(1000), primary key (a, b)) ${KEPT_STATISTICS}`,
  `insert into busy select (a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n) * ${BATCH} as i, 0, repeat('note', 240)
    from digits a, digits b, digits c, digits d, digits e where e.n < 2 order by i`,
  "insert into paired select 18446744073709551615 - id, id % 7, n, note from busy where id < 30000",
  ...believeLarge("busy"),
  ...believeLarge("paired"),
];

async function write(url: string, random: Random, signal: AbortSignal): Promise<void> {
  const connection = await createConnection({ uri: url });
  for (let n = 1; !signal.aborted; n++) {
    try {
      for (const sql of changes(random, n)) await connection.query(sql);
    } catch (error) {
      // A key that another row has taken, and two writers that wait for each other.
      if (!(error instanceof Error) || !/duplicate|deadlock/i.test(error.message)) throw error;
    }
    await sleep(PAUSE_MS);
  }
  await connection.end();
}

function changes(random: Random, n: number): readonly string[] {
  const key = (): number => random.below(ROWS) * BATCH;
  const keys = Array.from({ length: KEYS_AT_ONCE }, key).flatMap((id) => [id, LAST - id]);
  return [
    `update busy set id = ${LAST} - id, n = ${n} where id in (${keys.join(", ")})`,
    `delete from busy where id = ${key()}`,
    `insert ignore into busy values (${key()}, ${n}, 'new')`,
    `update paired set a = 18446744073709551615 - a, n = ${n} where a = ${random.below(30_000)} or a = 18446744073709551615 - ${key()}`,
    `update paired set n = ${n} where a > 18446744073709551600 - ${key()} limit 5`,
  ];
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test.each([
    ["the daemon copies", undefined],
    ["the daemon is killed as it copies", { MILLRACE_FAILPOINTS: "copy.block-queued=kill@6" }],
  ])("every sink equals the source when %s", async (_, environment) => {
    const random = new Random(testSeed());
    await using pipeline = await MysqlPipeline.start(flavour, PREPARE, {
      kinds: ["duckdb", "postgres", "redis"],
      source: { copySessions: 3 },
      untilStreaming: false,
      ...(environment === undefined ? {} : { environment }),
    });
    const stopping = new AbortController();
    const writing = [0, 1].map((i) => write(pipeline.url, new Random(random.seed + i), stopping.signal));
    try {
      if (environment !== undefined) {
        expect(await pipeline.daemon.ended).toMatchObject({ signal: "SIGKILL" });
        expect(pipeline.daemon.said).toContain('"sessions":3');
        await pipeline.start(false);
      }
      await pipeline.daemon.streaming();
      // A sink that the others would wait for reads both by itself, so each may be read more than once.
      const parallel = [...pipeline.daemon.said.matchAll(/\.(\w+)","sessions":3/g)].map(([, table]) => table);
      if (environment === undefined) expect(new Set(parallel)).toEqual(new Set(["busy", "paired"]));
    } finally {
      stopping.abort();
      await Promise.all(writing);
    }
    await pipeline.expectEqual("busy", "paired", "digits");
    expect(pipeline.daemon.said).not.toContain("the copy of the table failed");
  });
});
