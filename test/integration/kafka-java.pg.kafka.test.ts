/**
 * Kafka's own client for Java beside the daemon: it reads the same records, and would choose the same partitions.
 * @module-tag heavy
 */
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { command } from "../../scripts/services/processes/command.ts";
import { compileJava, provideCompiler } from "../../scripts/services/packages/compile-java.ts";
import { findJava, provideJava } from "../../scripts/services/packages/java.ts";
import { kafkaJars } from "../../scripts/services/servers/kafka.ts";
import { printProgress } from "../../scripts/services/packages/progress.ts";
import { versions } from "../../scripts/services/versions.ts";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const SOURCE = fileURLToPath(new URL("../support/java/ReadCommitted.java", import.meta.url));

/** Partition, the one that Java's producer would choose, offset, key and value. */
async function readByJava(broker: string, topic: string): Promise<readonly (readonly string[])[]> {
  using folder = temporaryFolder();
  const found = await findJava(versions.kafka.javaMajor);
  if (found.kind === "missing") throw new Error(found.reason);
  const java = await provideJava(found, printProgress);
  const lib = await kafkaJars();
  const classes = folder.path;
  await compileJava(java, await provideCompiler(printProgress), [SOURCE], { lib, classes });
  const classPath = `${classes}:${lib}/*`;
  const text = await command(java.command, [...java.args, "-cp", classPath, "ReadCommitted", broker, topic]);
  return text
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));
}

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
