/**
 * Each option of the sink is changed between two runs: `check` finds what the second start refuses, and nothing else.
 * @module-tag heavy
 */
import { afterAll, expect, test } from "vitest";
import { definition, factory } from "../../connectors/kafka/config.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { timeout } from "../conformance/stage.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { kafkaBroker } from "../support/run/services.ts";

const topics = new KafkaTopics(kafkaBroker());
afterAll(async () => await topics[Symbol.asyncDispose]());

const [item, later] = ["item", "later"].map((table) => tableVersion({ table, columns: { id: "int8" } }));
const ORIGIN = {
  name: "shop",
  producer: "millrace/test",
  sourceKind: "postgres",
  database: "shop",
  formatPosition: String,
};

/** Values that differ from those of the first run. None: the option says how this cluster, or a registry, is reached. */
const CHANGES: Readonly<Record<string, readonly unknown[]>> = {
  brokers: [],
  prefix: ["elsewhere-"],
  tls: [],
  sasl: [],
  topic: ["all", "shop.all"],
  format: ["debezium", "debezium-flat", "cloudevents", "log"],
  schemas: [false],
  decimals: ["string", "double"],
  encoding: [],
  registry: [],
  tombstones: [false],
  transactions: [true],
  conditions: [true],
  compression: ["gzip", "zstd"],
  topics: [
    { partitions: 3 },
    { replication: 3 },
    { create: false },
    { settings: { "cleanup.policy": "compact" } },
    { settings: { "no.such.setting": 1 } },
    { settings: { "min.insync.replicas": 0 } },
  ],
};
/** What an option needs beside it. */
const BESIDE: Readonly<Record<string, object>> = {
  schemas: { format: "cloudevents" },
  decimals: { format: "debezium" },
  conditions: { format: "log" },
};

test("each option has its changes here", () => {
  expect(Object.keys(CHANGES).toSorted()).toEqual(Object.keys(definition.shape).toSorted());
});

const changes = Object.entries(CHANGES).flatMap(([key, values]) => values.map((value) => ({ key, value })));

test.each(changes)("%o", async ({ key, value }) => {
  const prefix = `${topics.prefix}${changes.findIndex((one) => one.key === key && one.value === value)}-`;
  const contextOf = (options: object) => {
    const parsed = definition.parse({ brokers: [topics.broker], prefix, ...BESIDE[key], ...options });
    return { name: "stream", daemon: "shop", folder: "/", options: parsed, origin: ORIGIN };
  };
  const started = async (options: object, tables: readonly (typeof item)[], lease: number): Promise<string | null> => {
    try {
      const sink = await factory.create(contextOf(options), quietLog);
      try {
        await sink.open(lease, timeout());
        await sink.prepare(
          tables.map((table) => table!),
          timeout(),
        );
      } finally {
        await sink.close();
      }
      return null;
    } catch (error) {
      return findMillraceError(error)?.message ?? String(error);
    }
  };
  expect(await started({}, [item], 1)).toBeNull();
  const changed = { [key]: key === "prefix" ? `${prefix}${String(value)}` : value };
  const refused = await started(changed, [item, later], 2);
  const checking = factory.check(contextOf(changed), timeout(), [item!, later!]);
  const found = await checking.catch((error: unknown) => [{ level: "error", what: String(error) }]);
  const errors = found.filter(({ level }) => level === "error").map(({ what }) => what);
  expect({ refused, isFound: errors.length > 0 }, errors.join()).toEqual({ refused, isFound: refused !== null });
});
