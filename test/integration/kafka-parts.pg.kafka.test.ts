/** A batch whose records are sent in several parts of one transaction. */
import { expect, test } from "vitest";
import { streamFaults } from "../support/kafka/kafka-stream.ts";
import type { ReadRecord } from "../support/kafka/kafka-topics.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";

const ROWS = 8_000;
const CHANGES = ROWS * 1.5;
/** 14 megabytes of records: six parts in the first batch, one in the second. */
const LARGE_TRANSACTION = `begin;
  insert into words select g, repeat(md5(g::text), 32) from generate_series(1, ${ROWS}) g;
  update words set body = 'short' where n % 2 = 0;
  commit`;
/** When so many parts have left, the broker has stored the first ones. */
const PART_MIN = 3;
const PART_MAX = 5;

/** So that a batch has all rows of a block, and several parts. */
const BATCH = { rows: 50_000, bytes: "16MB" };

async function start(): Promise<RunningPipeline> {
  return await RunningPipeline.start("create table words (n int primary key, body text)", {
    kinds: ["kafka"],
    configure: (config) => ({ ...config, sinks: { kafka: { ...config.sinks["kafka"], batch: BATCH } } }),
  });
}

async function recordsOf({ sinks, source }: RunningPipeline): Promise<readonly ReadRecord[]> {
  const topics = sinks.topics!;
  return await topics.read(`${topics.prefix}${source.name}.public.words`);
}

function expectWhole(records: readonly ReadRecord[]): void {
  const places = records.map(({ partition, offset, value }) => ({
    partition,
    offset: Number(offset),
    index: Number(/"index":(\d+)/.exec(value ?? "")?.[1]),
  }));
  const indexes = places.map(({ index }) => index).toSorted((a, b) => a - b);
  expect(indexes).toHaveLength(CHANGES);
  expect(new Set(indexes).size).toBe(CHANGES);
  for (const ofPartition of Map.groupBy(places, ({ partition }) => partition).values()) {
    const inOrder = ofPartition.toSorted((a, b) => a.offset - b.offset).map(({ index }) => index);
    expect(inOrder).toEqual(inOrder.toSorted((a, b) => a - b));
  }
  expect(streamFaults(records)).toEqual([]);
}

/** Offsets that no committed record has: of aborted records, and one for the end of each transaction. */
function passedOver(records: readonly ReadRecord[]): number {
  let count = 0;
  for (const ofPartition of Map.groupBy(records, ({ partition }) => partition).values()) {
    count += Math.max(...ofPartition.map(({ offset }) => Number(offset))) + 1 - ofPartition.length;
  }
  return count;
}

test("a large transaction comes whole, each change once and in its order", { tags: "heavy" }, async () => {
  await using pipeline = await start();
  await pipeline.run(LARGE_TRANSACTION);
  await pipeline.expectEqual(["words"]);
  expectWhole(await recordsOf(pipeline));
});

test("killed between two parts of a step, readers see each change once", { tags: "heavy" }, async () => {
  const random = new Random(testSeed());
  const entry = `kafka.part-sent=kill@${PART_MIN + random.below(PART_MAX - PART_MIN + 1)}`;
  await using pipeline = await start();
  await pipeline.daemon.stop();
  await pipeline.run(LARGE_TRANSACTION);
  pipeline.daemon = pipeline.installation.run({ MILLRACE_FAILPOINTS: entry });
  await pipeline.killed(entry);
  await pipeline.start();
  await pipeline.expectEqual(["words"]);
  const records = await recordsOf(pipeline);
  expectWhole(records);
  // The broker had parts of the transaction that was broken off.
  expect(passedOver(records)).toBeGreaterThan(ROWS / 8);
});
