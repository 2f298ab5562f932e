/**
 * A broker is killed between the last record of a transaction and its end: the partitions that it leads never hear of the end.
 * @module-tag heavy
 */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { isOldKafka, newClusterId } from "../../../scripts/services/servers/kafka.ts";
import type { RunningService } from "../../../scripts/services/service.ts";
import { topicsOf } from "../../../connectors/kafka/client/cluster.ts";
import { extentOf } from "../../../connectors/kafka/client/partition.ts";
import { failure, timeout } from "../../conformance/stage.ts";
import { item, KEPT, note, SinkScene } from "../../support/kafka/kafka-scene.ts";
import { ownKafka } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** What the broker says of such partitions. */
const LEFT_OPEN = "Couldn't find leader endpoint for partitions";
const SETTINGS = { "broker.session.timeout.ms": "15000", "broker.heartbeat.interval.ms": "500" };
const [SURE, LOST] = [1, 2];

/** Counts. */
async function leftOpen(broker: RunningService): Promise<number> {
  return (await readFile(broker.logPath!, "utf8")).split(LEFT_OPEN).length - 1;
}

/** The end of the topic's only partition; null: no broker leads it. */
async function endOf({ settings }: SinkScene, name: string): Promise<bigint | null> {
  await using cluster = await settings.cluster.connect(timeout());
  const topic = (await topicsOf(cluster, [name], timeout())).get(name)!;
  return topic.leaders[0] === -1 ? null : (await extentOf(cluster, { name, topic, partition: 0 }, timeout())).end;
}

interface Brokers extends AsyncDisposable {
  readonly sure: RunningService;
  /** It was started after the topic of all transactions was made, and has none of it. */
  readonly lost: RunningService;
  readonly scene: SinkScene;
}

async function twoBrokers(): Promise<Brokers> {
  await using starting = new AsyncDisposableStack();
  const clusterId = newClusterId();
  const sure = starting.use(await ownKafka({ clusterId, settings: () => SETTINGS }));
  const scene = starting.use(await SinkScene.create(`127.0.0.1:${sure.port}`));
  const lost = starting.use(
    await ownKafka({
      clusterId,
      settings: (port) => ({
        ...SETTINGS,
        "node.id": String(LOST),
        "process.roles": "broker",
        "controller.quorum.voters": `${SURE}@127.0.0.1:${sure.port + 1}`,
        listeners: `PLAINTEXT://127.0.0.1:${port}`,
      }),
    }),
  );
  const started = starting.move();
  return { sure, lost, scene, [Symbol.asyncDispose]: () => started.disposeAsync() };
}

// A broker of the oldest line says it in another way.
test.skipIf(isOldKafka())(
  "partitions whose broker was away when a transaction ended: readers see it before the next step, or start",
  async () => {
    await using brokers = await twoBrokers();
    const { sure, lost, scene } = brokers;
    const topic = scene.topic("public.note");
    const configs = Object.entries(KEPT).map(([name, value]) => ({ name, value }));
    await scene.topics.admin.createTopics({
      topics: [topic],
      configs,
      assignments: [{ partition: 0, brokers: [LOST] }],
    });
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
    await eventually(async () => expect(await leftOpen(sure)).toBeGreaterThan(0));
    await comesBack(1n);
    await scene.write(item, 30n, "2");
    expect(await scene.ids("public.note")).toEqual(["1"]);

    const before = await leftOpen(sure);
    scene.weakness.before.set("EndTxn", goesAway);
    await scene.write(note, 40n, "2");
    await eventually(async () => expect(await leftOpen(sure)).toBeGreaterThan(before));
    await comesBack(3n);
    await scene.restart();
    expect(scene.at).toBe(41n);
    expect(await scene.ids("public.note")).toEqual(["1", "2"]);
    expect(await scene.ids("public.item")).toEqual(["1", "2"]);
  },
);

test("a transaction that can't end in a topic whose replicas are away: the topic is named", async () => {
  await using brokers = await twoBrokers();
  const { lost, scene } = brokers;
  const topic = scene.topic("public.note");
  const configs = Object.entries({ ...KEPT, "min.insync.replicas": "2" }).map(([name, value]) => ({ name, value }));
  const assignments = [{ partition: 0, brokers: [SURE, LOST] }];
  await scene.topics.admin.createTopics({ topics: [topic], configs, assignments });
  await scene.sink.prepare([item, note], timeout());
  scene.weakness.before.set("EndTxn", () => lost.kill());
  await scene.write(note, 20n, "1");
  expect(await failure(scene.write(item, 30n, "2"))).toMatchObject({ kind: "retryable" });
  // For a while the broker does not count as gone.
  await eventually(
    async () => {
      const { code, message } = await failure(scene.open());
      expect([code, message]).toEqual([
        "MR2006",
        `the transaction before can't end yet (CONCURRENT_TRANSACTIONS): ${topic}`,
      ]);
    },
    { withinMs: 60_000 },
  );
  await lost.start();
  await eventually(() => scene.open(), { withinMs: 60_000 });
  expect(scene.at).toBe(21n);
  expect(await scene.ids("public.note")).toEqual(["1"]);
});
