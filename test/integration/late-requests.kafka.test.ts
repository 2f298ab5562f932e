/**
 * A request that the sink gave up, or whose process was killed, arrives after what was written since: it changes nothing. The
 * brokers do not verify that a partition is in a transaction, as those before 3.6.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { TopicSink } from "../../connectors/kafka/sink/topic-sink.ts";
import type { RunningService } from "../../scripts/services/service.ts";
import { failure, timeout } from "../conformance/stage.ts";
import { FORGETFUL } from "../support/faults/forgetful-cluster.ts";
import { item, SinkScene } from "../support/kafka/kafka-scene.ts";
import { type TcpProxy, tcpProxy } from "../support/network/proxy.ts";
import { ownKafka } from "../support/run/services.ts";

let proxy: TcpProxy;
let broker: RunningService;

beforeAll(async () => {
  proxy = await tcpProxy({ host: "127.0.0.1", port: 1 });
  const listed = { "advertised.listeners": `PLAINTEXT://127.0.0.1:${proxy.port}` };
  broker = await ownKafka({ settings: () => ({ ...FORGETFUL, ...listed }) });
  proxy.redirect({ host: "127.0.0.1", port: broker.port });
});

afterAll(async () => {
  await broker?.[Symbol.asyncDispose]();
  await proxy?.[Symbol.asyncDispose]();
});

type Request = "AddPartitionsToTxn" | "Produce" | "EndTxn" | "InitProducerId";

/** What the sink sends from this request on does not arrive until it is released. */
async function held(scene: SinkScene, request: Request): Promise<ReturnType<TcpProxy["hold"]>> {
  return await new Promise((resolve) => {
    // All of them name the transactional id. Partitions are added before the first records leave.
    const hold = async (): Promise<void> => resolve(proxy.hold(scene.id));
    if (request === "Produce") scene.weakness.after.set("AddPartitionsToTxn", hold);
    else scene.weakness.before.set(request, hold);
  });
}

/** Another process in the place of the sink, which nobody ends. */
async function takeOver(scene: SinkScene): Promise<void> {
  scene.sink = new TopicSink(scene.settings);
  await scene.open();
  await scene.sink.prepare([item], timeout());
}

test.each(["AddPartitionsToTxn", "Produce", "EndTxn"] as const)("%s", async (request) => {
  await using scene = await SinkScene.create(`127.0.0.1:${proxy.port}`);
  const first = scene.sink;
  const holding = held(scene, request);
  const lost = failure(scene.write(item, 20n, "2", "3", "4"));
  const late = await holding;
  await late.reached;
  await takeOver(scene);
  expect(scene.at).toBe(11n);
  await scene.write(item, 20n, "2", "3", "4");
  void late.release();
  expect(await lost).toMatchObject({ code: "MR3109", kind: "fatal" });
  await scene.write(item, 30n, "5");
  await first.close();
  await scene.restart();
  expect(scene.at).toBe(31n);
  expect(await scene.ids("public.item")).toEqual(["1", "2", "3", "4", "5"]);
});

test("a late beginning ends the writer that came after it, which begins again and loses nothing", async () => {
  await using scene = await SinkScene.create(`127.0.0.1:${proxy.port}`);
  await scene.sink.close();
  const first = (scene.sink = new TopicSink(scene.settings));
  const holding = held(scene, "InitProducerId");
  const lost = failure(scene.open());
  const late = await holding;
  await late.reached;
  await takeOver(scene);
  await scene.write(item, 20n, "2");
  void late.release();
  expect(await lost).toMatchObject({ code: "MR3109", kind: "fatal" });
  expect(await failure(scene.write(item, 30n, "3"))).toMatchObject({ kind: "retryable" });
  await first.close();
  await scene.restart();
  expect(scene.at).toBe(21n);
  await scene.sink.prepare([item], timeout());
  await scene.write(item, 30n, "3");
  expect(await scene.ids("public.item")).toEqual(["1", "2", "3"]);
});
