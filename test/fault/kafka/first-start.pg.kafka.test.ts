/**
 * A daemon behind Kafka is started for the first time before the capturing one answers: it waits for it.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { freshDatabase, kafkaBroker } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const ITEMS =
  "create table item (id int primary key, n int); insert into item select g, 0 from generate_series(1, 200) g";

test("a follower that starts first waits for the capturing daemon, and so does one whose capturing daemon is silent", async () => {
  await using topics = new KafkaTopics(kafkaBroker());
  const { broker, prefix } = topics;
  const database = await freshDatabase();
  await database.query(ITEMS);
  const name = database.name;
  const follower = async (suffix: string): Promise<RunningPipeline> =>
    await RunningPipeline.start("", {
      kinds: ["postgres"],
      source: database,
      untilStreaming: false,
      configure: (config) => ({
        ...config,
        name: `${name}_${suffix}`,
        source: { kind: "kafka", brokers: [broker], prefix, from: name, heartbeat: "500ms" },
      }),
    });
  await using first = await follower("a");
  await using capture = new Installation({
    name,
    source: { kind: "postgres", url: database.url, heartbeat: "500ms" },
    sinks: { log: { kind: "kafka", brokers: [broker], prefix, format: "log" } },
  });
  await expectWaits(first);
  let capturing = capture.run();
  await capturing.streaming();
  await first.expectEqual(["item"]);
  expect((await first.installation.status()).source).toMatchObject({ error: null, needsPerson: false });

  // The topics are there, and nobody answers in them.
  await capturing.kill();
  await using second = await follower("b");
  await expectWaits(second);
  await database.query("update item set n = n + 1");
  capturing = capture.run();
  await capturing.streaming();
  await second.expectEqual(["item"]);
  await second.daemon.stop();

  await capturing.kill();
  await using once = await follower("c");
  await once.daemon.stop();
  const ended = await once.installation.command("run", "--once");
  expect(ended.exitCode).not.toBe(0);
  expect(ended.stdout + ended.stderr).toContain("MR3522");
});

/** `status` says for what, with the number, and the daemon does not end. */
async function expectWaits(pipeline: RunningPipeline): Promise<void> {
  await eventually(
    async () => {
      const { source, phase } = await pipeline.installation.status();
      expect({ phase, source }).toMatchObject({ phase: "starting", source: { error: { code: "MR3522" } } });
    },
    { withinMs: 60_000 },
  );
  expect(pipeline.daemon.exited).toBe(false);
}
