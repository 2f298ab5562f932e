import { definition, factory } from "../../connectors/kafka/config.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { fieldsOf, plainOf, readJson, spelledJson } from "../support/model/json-text.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { documentLanding } from "../support/caches/redis-rows.ts";
import { isOldKafka } from "../../scripts/services/servers/kafka.ts";
import { kafkaBroker } from "../support/run/services.ts";
import { rowsOfStream, type SinkTarget, sinkConformance, type StreamEntry } from "./sink.ts";
import { origin } from "../support/kafka/kafka-scene.ts";

for (const single of [undefined, "all"]) {
  sinkConformance({
    name: single === undefined ? "kafka" : "kafka, one topic",
    target: async () => kafkaTarget(single),
    landed: documentLanding,
    // Older brokers do not tell.
    ...(isOldKafka() ? {} : { room: /^\/.* of broker \d+$/ }),
    transactional: true,
    isStream: true,
    // Only where a record lies is another.
    heavy: single === undefined ? [] : ["values", "progress", "fence"],
  });
}

function kafkaTarget(topic: string | undefined): SinkTarget {
  const topics = new KafkaTopics(kafkaBroker());
  const options = definition.parse({
    brokers: [topics.broker],
    prefix: topics.prefix,
    transactions: true,
    topics: { partitions: 1, settings: { "max.message.bytes": 50_000_000 } },
    ...(topic === undefined ? {} : { topic }),
  });
  return {
    makeSink: () => factory.create({ name: "stream", daemon: "shop", folder: "/", options, origin }, quietLog),
    readRows: async (table) => rowsOfStream(await readStream(topics, [table]), table),
    readStream: (tables) => readStream(topics, tables),
    wipe: () => topics.remove(),
    [Symbol.asyncDispose]: () => topics[Symbol.asyncDispose](),
  };
}

/** In commit order, which version and index tell: topics have no order among them. */
async function readStream(topics: KafkaTopics, tables: readonly TableVersion[]): Promise<readonly StreamEntry[]> {
  const names = (await topics.names()).filter((name) => !/\._(checkpoint|schemas)/.test(name));
  const found = await Promise.all(
    names.map(async (name) => {
      const entries = (await topics.read(name)).flatMap(({ value }) => (value === null ? [] : entryOf(value, tables)));
      const ofTopic = entries.map((entry, at) => ({ entry, place: placeOf(entry), at }));
      const inOrder = ofTopic.toSorted((a, b) => (a.place < b.place ? -1 : a.place > b.place ? 1 : a.at - b.at));
      // A topic of one partition is in commit order by itself, rows that were read suspended.
      const isRead = ofTopic.some(({ entry }) => entry.kind === "change" && entry.op === "r");
      if (!isRead && !inOrder.every(({ at }, i) => at === i)) throw new Error(`topic ${name} is not in commit order`);
      return inOrder;
    }),
  );
  return found
    .flat()
    .toSorted((a, b) => (a.place < b.place ? -1 : a.place > b.place ? 1 : a.at - b.at))
    .map(({ entry }) => entry);
}

/** Behind all changes of its transaction. */
const END = 2n ** 40n;

function placeOf(entry: StreamEntry): bigint {
  const bits = 48n;
  if (entry.kind === "end") return (entry.version << bits) + END;
  if (entry.kind === "sweep") return (entry.below << bits) - 1n;
  return (entry.version << bits) + (entry.kind === "change" ? BigInt(entry.index) : 0n);
}

function entryOf(text: string, tables: readonly TableVersion[]): readonly StreamEntry[] {
  const fields = fieldsOf(readJson(text));
  const version = BigInt(plainOf(fields.get("version")));
  if (!fields.has("op")) return [{ kind: "end", version }];
  const id = plainOf(fieldsOf(fields.get("schema")).get("subject"));
  const op = plainOf(fields.get("op"));
  const scope = fields.has("scope")
    ? { scope: Object.fromEntries([...fieldsOf(fields.get("scope"))].map(([name, value]) => [name, plainOf(value)])) }
    : {};
  if (op === "t") return [{ kind: "truncate", table: id, version, ...scope }];
  if (op === "s") return [{ kind: "sweep", table: id, below: version, ...scope }];
  const table = tables.find((one) => one.id === id);
  if (table === undefined) return [];
  const row = fieldsOf(fields.get(op === "d" ? "key" : "after"));
  const shown = op === "d" ? (table.key ?? []) : table.columns.keys();
  const cells = [...shown].map((c) => {
    const cell = row.get(table.columns[c]!.name);
    return cell == null ? cell : spelledJson(cell);
  });
  const index = op === "r" ? 2 ** 32 : Number(plainOf(fieldsOf(fields.get("source")).get("index")));
  return [{ kind: "change", table: id, op, version, index, cells }];
}
