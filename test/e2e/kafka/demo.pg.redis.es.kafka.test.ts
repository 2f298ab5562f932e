/**
 * `npm run demo -- --through kafka`: one daemon captures, two apply, one of these is killed.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { startDemo } from "../../support/daemon/demo-process.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { kafkaBroker } from "../../support/run/services.ts";

test("every table in every sink is equal behind Kafka, and no topic is left behind", async () => {
  const broker = kafkaBroker();
  const environment = { MILLRACE_TEST_KAFKA_URL: `kafka://${broker}` };
  const demo = startDemo(["--through", "kafka", "--seconds", "8", "--rows", "3000"], environment);
  const exitCode = await demo.exitCode;
  expect({ exitCode, said: exitCode === 0 ? "" : demo.said() }).toEqual({ exitCode: 0, said: "" });
  expect(demo.said()).toMatch(/pid \d+ captures, pid \d+ applies, pid \d+ applies/);
  expect(demo.said()).toMatch(/kill -9 \d+/);
  expect(demo.said()).toMatch(/32 of 32 equal, after one SIGKILL/);
  const own = /database shop_([0-9a-f]{8})/.exec(demo.said())?.[1];
  expect(own).toBeDefined();
  await using topics = new KafkaTopics(broker);
  expect((await topics.admin.listTopics()).filter((name) => name.startsWith(`demo-${own}`))).toEqual([]);
});
