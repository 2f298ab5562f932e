/**
 * What is large at the source passes through a daemon that stays small, into ClickHouse, a lake and files.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { residentWatch } from "../../support/daemon/resident-watch.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";

const MB = 1024 * 1024;
const ROW_COUNT = isLongForm() ? 1_000_000 : 100_000;
const LARGE_ROW_BYTES = 50 * MB;
/** What DuckDB needs while it makes Parquet files comes on top; `memoryLimit` would let it have twice as much. */
const PARQUET_BYTES = 256 * MB;

test.for([
  ["clickhouse", 256 * MB, 500 * MB],
  ["ducklake", 256 * MB + PARQUET_BYTES, 500 * MB + PARQUET_BYTES],
  ["files", 256 * MB + PARQUET_BYTES, 500 * MB + PARQUET_BYTES],
] as const)(
  `%s: a transaction of ${ROW_COUNT} rows, and a row of 50 MB among small ones`,
  { timeout: ROW_COUNT + 300_000 },
  async ([kind, mostBytes, mostBytesLargeRow]) => {
    await using pipeline = await RunningPipeline.start(
      `create table big (id int primary key, n int, body text);
       create table large (id int primary key, n int, body text); alter table large alter body set storage external`,
      { kinds: [kind] },
    );
    await using watch = residentWatch(pipeline.daemon);
    await pipeline.run(`begin;
      insert into big select g, 0, repeat(md5(g::text), 4) from generate_series(1, ${ROW_COUNT}) g;
      update big set n = 1 where id % 2 = 0; delete from big where id % 10 = 0; commit`);
    await pipeline.settled(ROW_COUNT + 60_000);
    const ofRows = watch.mostBytes;
    await pipeline.run(`begin; insert into large values (1, 1, 'small');
      insert into large values (2, 1, repeat('y', ${LARGE_ROW_BYTES})); insert into large values (3, 1, 'small'); commit`);
    await pipeline.settled(90_000);
    await pipeline.run("update large set n = 2");
    await pipeline.settled(90_000);
    await pipeline.expectEqual(["big", "large"]);
    const shown = [ofRows, watch.mostBytes].map((bytes) => Math.round(bytes / MB));
    process.stdout.write(`${kind}: at most ${shown[0]} MB for many rows, ${shown[1]} MB with a large one\n`);
    expect(ofRows).toBeLessThan(mostBytes);
    expect(watch.mostBytes).toBeLessThan(mostBytesLargeRow);
  },
);
