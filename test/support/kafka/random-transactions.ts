/** Transactions as brokers that are killed leave them, in a topic: committed and aborted, with records and with marks alone. */
import { expect } from "vitest";
import { type Cluster, topicsOf } from "../../../connectors/kafka/client/cluster.ts";
import { RecordBatch } from "../../../connectors/kafka/client/record-batch.ts";
import { TransactionalWriter } from "../../../connectors/kafka/client/transactions.ts";
import { createTopic } from "../../../connectors/kafka/writer/topics.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { timeout } from "../../conformance/stage.ts";
import type { Random } from "../run/random.ts";
import { eventually } from "../run/waiting.ts";

const WRITERS = 2;
/** Their marks are in the first partition, whether they have records there or not. */
const PARTITIONS = 2;

interface Step {
  readonly of: number;
  readonly partition: number;
  readonly end: "commit" | "abort" | "restart";
}

/** A reader that takes a producer's last mark for the end of what was aborted first loses what was committed in between. */
const LAST: readonly Step[] = [
  { of: 0, partition: 0, end: "abort" },
  { of: 0, partition: 0, end: "commit" },
  { of: 0, partition: 1, end: "restart" },
];

/** Makes the topic. Returns the values that were committed to its first partition, in their order. */
export async function writeTransactions(
  cluster: Cluster,
  name: string,
  count: number,
  random: Random,
): Promise<readonly string[]> {
  await createTopic(cluster, { name, partitions: PARTITIONS, replication: -1, settings: {} }, timeout());
  const topic = await eventually(async () => {
    const found = (await topicsOf(cluster, [name], timeout())).get(name);
    expect(found).not.toBeNull();
    return found!;
  });
  const always = { name, topic, partition: 0 };
  const openWriter = (id: string): Promise<TransactionalWriter> =>
    TransactionalWriter.open(cluster, { clock: systemClock, id, compression: "none", always }, timeout());
  const ids = Array.from({ length: WRITERS }, (_, i) => `${name}-${i}`);
  const writers = await Promise.all(ids.map(openWriter));
  const committed: string[] = [];
  const step = (): Step => ({
    of: random.below(WRITERS),
    partition: random.below(PARTITIONS),
    end: random.pick(["commit", "abort", "restart"]),
  });
  const steps = [...Array.from({ length: count }, step), ...LAST];
  for (const [i, { of, partition, end }] of steps.entries()) {
    const writer = writers[of]!;
    const batch = new RecordBatch(new ByteWriter(1024));
    batch.add(Buffer.from("key"), Buffer.from(String(i)), [], Date.now());
    await writer.send([{ name, topic, batches: [{ partition, batch }] }], () => undefined, timeout());
    if (end === "commit") await writer.commit(timeout());
    else if (end === "abort") await writer.abort(timeout());
    else writers[of] = await openWriter(ids[of]!);
    if (end === "commit" && partition === 0) committed.push(String(i));
  }
  return committed;
}
