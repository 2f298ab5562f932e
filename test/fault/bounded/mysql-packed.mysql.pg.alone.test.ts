/**
 * Compressed transactions of MySQL, one event each however large they are, pass through a daemon that stays small.
 *
 * @module-tag long
 */
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { residentWatch } from "../../support/daemon/resident-watch.ts";
import { ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";

const MB = 1024 * 1024;
const RESIDENT_BYTES_MAX = 256 * MB;
const ROW_BYTES = 50_000;
const ROWS_PER_STATEMENT = 40;
const SETTLED_WITHIN_MS = 120_000;
/** More than the daemon may hold, by far in the long form. */
const RANDOM_MB = isLongForm() ? 390 : 280;

test("320 MB that zstd makes small, within 256 MB", async () => {
  await using server = await packing();
  await using pipeline = await start(server.url);
  await using watch = residentWatch(pipeline.daemon);
  await pipeline.run(
    "set session cte_max_recursion_depth = 1000000",
    `insert into big with recursive n (i) as (select 1 union all select i + 1 from n where i < 160000)
     select i, repeat(char(65 + i % 26), 2000) from n`,
  );
  await pipeline.settled(SETTLED_WITHIN_MS);
  await expectSame(pipeline, 160_000);
  report("320 MB, packed well", watch.mostBytes);
  expect(watch.mostBytes).toBeLessThan(RESIDENT_BYTES_MAX);
});

test(`${RANDOM_MB} MB that zstd can't make smaller, within 256 MB; killed in the middle it goes on there`, async () => {
  await using server = await packing();
  await using pipeline = await start(server.url);
  await using watch = residentWatch(pipeline.daemon);
  const rowCount = await insertRandom(pipeline, RANDOM_MB * MB);
  const target = pipeline.sinks.target!;
  await eventually(
    async () => {
      const { rows } = await target.query<{ count: number }>(`select count(*)::int from ${pipeline.source.name}.big`);
      return (rows[0]?.count ?? 0) > rowCount / 4;
    },
    { withinMs: SETTLED_WITHIN_MS },
  );
  report(`${RANDOM_MB} MB, packed badly`, watch.mostBytes);
  expect(watch.mostBytes).toBeLessThan(RESIDENT_BYTES_MAX);
  await pipeline.kill();
  await pipeline.start();
  await using second = residentWatch(pipeline.daemon);
  await pipeline.settled(SETTLED_WITHIN_MS);
  await expectSame(pipeline, rowCount);
  report("the rest of it", second.mostBytes);
  expect(second.mostBytes).toBeLessThan(RESIDENT_BYTES_MAX);
});

test("a statement of 200 MB that the log has beside its rows, within 256 MB", async () => {
  await using server = await ownMysql("mysql", {
    settings: {
      "binlog-rows-query-log-events": "ON",
      "max-allowed-packet": 1024 * MB,
      "innodb-buffer-pool-size": "256M",
    },
  });
  await using pipeline = await start(server.url);
  await using watch = residentWatch(pipeline.daemon);
  const rows = Array.from({ length: 2000 }, (_, i) => `(${i},x'${randomBytes(ROW_BYTES).toString("hex")}')`);
  await pipeline.run(`insert into big values ${rows.join()}`);
  await pipeline.settled(SETTLED_WITHIN_MS);
  await expectSame(pipeline, rows.length);
  report("a statement of 200 MB", watch.mostBytes);
  expect(watch.mostBytes).toBeLessThan(RESIDENT_BYTES_MAX);
});

const packing = () =>
  ownMysql("mysql", {
    settings: {
      "binlog-transaction-compression": "ON",
      "innodb-buffer-pool-size": "256M",
      "max-binlog-size": 1024 * MB,
    },
  });

const start = (url: string): Promise<MysqlPipeline> =>
  MysqlPipeline.start("mysql", ["create table big (id int primary key, body longblob)"], { kinds: ["postgres"], url });

/** Returns how many rows were written. */
async function insertRandom(pipeline: MysqlPipeline, byteCount: number): Promise<number> {
  const { connection } = pipeline.source;
  await connection.query("begin");
  const rowCount = Math.ceil(byteCount / ROW_BYTES / ROWS_PER_STATEMENT) * ROWS_PER_STATEMENT;
  for (let id = 0; id < rowCount; id += ROWS_PER_STATEMENT) {
    const rows = Array.from({ length: ROWS_PER_STATEMENT }, (_, i) => [id + i, randomBytes(ROW_BYTES)]);
    await connection.query("insert into big values ?", [rows]);
  }
  await connection.query("commit");
  return rowCount;
}

/** By sums of digests: hundreds of megabytes are not fetched twice. */
async function expectSame({ source, sinks }: MysqlPipeline, rowCount: number): Promise<void> {
  const there = await source.texts("select count(*), sum(conv(left(sha2(body, 256), 8), 16, 10)) from big");
  const { rows } = await sinks.target!.query<{ n: string; digests: string }>(
    `select count(*)::text n, sum(('x' || left(encode(sha256(body), 'hex'), 8))::bit(32)::bigint)::text digests from ${source.name}.big`,
  );
  expect(rows.map(({ n, digests }) => [n, digests])).toEqual(there);
  expect(rows[0]?.n).toBe(String(rowCount));
}

function report(what: string, bytes: number): void {
  process.stdout.write(`${what}: at most ${Math.round(bytes / MB)} MB resident\n`);
}
