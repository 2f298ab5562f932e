/** A step whose records are sent in several parts of one transaction. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../support/running-pipeline.ts";

const ROWS = 8_000;

test("a large transaction comes whole, each change once and in its order", async () => {
  await using pipeline = await RunningPipeline.start("create table words (n int primary key, body text)", {
    kinds: ["kafka"],
  });
  await pipeline.run(
    `begin;
     insert into words select g, repeat(md5(g::text), 32) from generate_series(1, ${ROWS}) g;
     update words set body = 'short' where n % 2 = 0;
     commit`,
  );
  await pipeline.expectEqual(["words"]);
  const topics = pipeline.sinks.topics!;
  const records = await topics.read(`${topics.prefix}${pipeline.source.name}.public.words`);
  const places = records.map(({ partition, offset, value }) => ({
    partition,
    offset: Number(offset),
    index: Number(/"index":(\d+)/.exec(value ?? "")?.[1]),
  }));
  const indexes = places.map(({ index }) => index).toSorted((a, b) => a - b);
  expect(indexes).toHaveLength(ROWS * 1.5);
  expect(new Set(indexes).size).toBe(ROWS * 1.5);
  for (const ofPartition of Map.groupBy(places, ({ partition }) => partition).values()) {
    const inOrder = ofPartition.toSorted((a, b) => a.offset - b.offset).map(({ index }) => index);
    expect(inOrder).toEqual(inOrder.toSorted((a, b) => a - b));
  }
});
