/**
 * Kafka's own client for Java beside the daemon: it reads the same records, and would choose the same partitions.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { readByJava } from "../support/kafka/java-reader.ts";

test("the Java client reads what the daemon has written, each key in the partition that it would choose", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table words (word text, n int, body text, primary key (word, n));
     insert into words select md5(g::text) || 'ü🚀', g, repeat('b', g) from generate_series(1, 300) g`,
    { kinds: ["kafka"] },
  );
  await pipeline.run("update words set body = 'changed' where n % 3 = 0; delete from words where n % 5 = 0");
  await pipeline.run("update words set word = 'moved' || n where n % 7 = 0");
  await pipeline.expectEqual(["words"]);
  const topics = pipeline.sinks.topics!;
  const topic = `${topics.prefix}${pipeline.source.name}.public.words`;
  const byJava = await readByJava(topics.broker, topic);
  const base64 = (text: string | null): string => (text === null ? "-" : Buffer.from(text).toString("base64"));
  const expected = (await topics.read(topic)).map(({ partition, offset, key, value }) =>
    [String(partition), String(partition), String(offset), base64(key), base64(value)].join(" "),
  );
  expect(byJava.map((fields) => fields.join(" ")).toSorted()).toEqual(expected.toSorted());
  expect(byJava.length).toBeGreaterThan(300);
});
