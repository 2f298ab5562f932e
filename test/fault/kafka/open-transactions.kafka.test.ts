/**
 * A broker is killed between the last record of a transaction and its end: the partitions that it leads never hear of the end.
 * @module-tag heavy
 */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { newClusterId } from "../../../scripts/services/servers/kafka.ts";
import type { RunningService } from "../../../scripts/services/service.ts";
import { extentOf } from "../../../connectors/kafka/client/partition.ts";
import { timeout } from "../../conformance/stage.ts";
import { item, KEPT, note, SinkScene } from "../../support/kafka/kafka-scene.ts";
import { ownKafka } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** What the broker says of such partitions. */
const LEFT_OPEN = "Couldn't find leader endpoint for partitions";
const SETTINGS = { "broker.session.timeout.ms": "6000", "broker.heartbeat.interval.ms": "500" };
const [SURE, LOST] = [1, 2];

/** Counts. */
async function leftOpen(broker: RunningService): Promise<number> {
  return (await readFile(broker.logPath!, "utf8")).split(LEFT_OPEN).length - 1;
}

/** The end of the topic's only partition; null: no broker leads it. */
async function endOf({ settings }: SinkScene, name: string): Promise<bigint | null> {
  await using cluster = await settings.cluster.connect(timeout());
  const topic = (await cluster.topics([name], timeout())).get(name)!;
  return topic.leaders[0] === -1 ? null : (await extentOf(cluster, { name, topic, partition: 0 }, timeout())).end;
}

test("partitions whose broker was away when a transaction ended: readers see it before the next step, or start", async () => {
  const clusterId = newClusterId();
  await using sure = await ownKafka({ clusterId, settings: () => SETTINGS });
  await using scene = await SinkScene.create(`127.0.0.1:${sure.port}`);
  // After the topic of all transactions was made: the other broker has none of it.
  await using lost = await ownKafka({
    clusterId,
    settings: (port) => ({
      ...SETTINGS,
      "node.id": String(LOST),
      "process.roles": "broker",
      "controller.quorum.voters": `${SURE}@127.0.0.1:${sure.port + 1}`,
      listeners: `PLAINTEXT://127.0.0.1:${port}`,
    }),
  });
  const topic = scene.topic("public.note");
  const configs = Object.entries(KEPT).map(([name, value]) => ({ name, value }));
  await scene.topics.admin.createTopics({ topics: [topic], configs, assignments: [{ partition: 0, brokers: [LOST] }] });
  await scene.sink.prepare([item, note], timeout());
  const goesAway = async (): Promise<void> => {
    await lost.kill();
    await eventually(async () => expect(await endOf(scene, topic)).toBeNull(), { withinMs: 60_000 });
  };
  const comesBack = async (end: bigint): Promise<void> => {
    await lost.start();
    await eventually(async () => expect(await endOf(scene, topic)).toBe(end), { withinMs: 60_000 });
  };

  scene.weakness.before.set("EndTxn", goesAway);
  await scene.write(note, 20n, "1");
  await eventually(async () => expect(await leftOpen(sure)).toBe(1));
  await comesBack(1n);
  await scene.write(item, 30n, "2");
  expect(await scene.ids("public.note")).toEqual(["1"]);

  scene.weakness.before.set("EndTxn", goesAway);
  await scene.write(note, 40n, "2");
  await eventually(async () => expect(await leftOpen(sure)).toBe(2));
  await comesBack(3n);
  await scene.restart();
  expect(scene.at).toBe(41n);
  expect(await scene.ids("public.note")).toEqual(["1", "2"]);
  expect(await scene.ids("public.item")).toEqual(["1", "2"]);
});
