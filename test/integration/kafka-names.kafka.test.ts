/**
 * Sinks whose names, joined, are the same text: they do not fence each other, and do not write into each other's topics. And
 * topics that can't take what a sink writes.
 */
import { afterAll, expect, test } from "vitest";
import { definition, factory } from "../../connectors/kafka/config.ts";
import type { EnvelopeContext } from "../../src/core/model/envelope.ts";
import type { KeyedTable } from "../../src/core/model/schema.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { failure, put, Reports, rowsStep, timeout } from "../conformance/stage.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { kafkaBroker } from "../support/run/services.ts";

const topics = new KafkaTopics(kafkaBroker());
afterAll(async () => await topics[Symbol.asyncDispose]());

const origin: EnvelopeContext = {
  name: "shop",
  producer: "millrace/test",
  sourceKind: "postgres",
  database: "shop",
  formatPosition: String,
};
const item = tableVersion({ table: "item", columns: [["id", "int8"]], key: ["id"] });

interface Named {
  readonly prefix: string;
  readonly daemon: string;
  readonly name: string;
  readonly format?: string;
}

function contextOf({ prefix, daemon, name, format = "millrace" }: Named) {
  const options = definition.parse({
    brokers: [topics.broker],
    prefix: `${topics.prefix}${prefix}`,
    format,
    topics: { partitions: 1 },
  });
  return { name, daemon, folder: "/", options, origin };
}

async function sinkOf(named: Named): Promise<Sink> {
  return await factory.create(contextOf(named), quietLog);
}

async function opened(named: Named): Promise<Sink> {
  const sink = await sinkOf(named);
  await sink.open(1, timeout());
  return sink;
}

async function write(sink: Sink, table: KeyedTable, at: bigint, id: string): Promise<void> {
  await sink.prepare([table], timeout());
  const step = rowsStep(at, [table, [put([id])]]);
  await sink.apply(step.kind === "rows" ? { ...step, order: new Uint16Array(1) } : step, new Reports(), timeout());
}

async function checked(named: Named, tables: readonly { schema: string; table: string }[] = []): Promise<string> {
  const findings = await factory.check(contextOf(named), timeout(), tables);
  return findings.flatMap(({ level, what }) => (level === "error" ? [what] : [])).join();
}

test.each([
  [
    { prefix: "a-", daemon: "eu", name: "kafka" },
    { prefix: "", daemon: "a", name: "eu-kafka" },
  ],
  [
    { prefix: "b-", daemon: "eu", name: "k", format: "log" },
    { prefix: "b-", daemon: "eu", name: "k-answers" },
  ],
])("two sinks whose ids joined by hyphens would be one write beside each other", async (one, other) => {
  const [first, second] = [await opened(one), await opened(other)];
  for (let at = 10n; at < 13n; at++) {
    for (const sink of [first, second]) {
      if (sink.form === "log")
        await sink.apply(
          { kind: "progress", progress: { position: { epoch: 1, commit: at, index: 0 }, tables: {} } },
          new Reports(),
          timeout(),
        );
      else await write(sink, item, at, String(at));
    }
  }
  for (const sink of [first, second]) await sink.close();
});

test.each(["kafka", "another"])(
  "prefix and name that together are those of another daemon are refused, by check too, for a sink %s",
  async (name) => {
    const first = await opened({ prefix: name, daemon: "eu", name: "kafka" });
    await write(first, item, 10n, "1");
    const second = { prefix: "", daemon: `${name}eu`, name };
    expect(await checked(second)).toMatch(/MR3537.*sink kafka of eu/);
    const sink = await sinkOf(second);
    const refusal = await failure(sink.open(1, timeout()));
    expect(refusal).toMatchObject({ code: "MR3537", kind: "fatal" });
    await write(first, item, 11n, "2");
    for (const one of [first, sink]) await one.close();
    // What belongs together goes on, also as a new process.
    const again = await opened({ prefix: name, daemon: "eu", name: "kafka" });
    await write(again, item, 12n, "3");
    await again.close();
    const names = (await topics.names()).filter((topic) => topic.includes(`${name}eu._checkpoint`));
    expect(names).toHaveLength(1);
  },
);

test("of two daemons, a table whose name has dots does not get the topic of another one's", async () => {
  const first = await opened({ prefix: "x.", daemon: "shop", name: "kafka" });
  await write(first, item, 10n, "1");
  const dotted = tableVersion({ schema: "shop", table: "public.item", columns: [["id", "int8"]], key: ["id"] });
  const second = { prefix: "", daemon: "x", name: "kafka" };
  const sink = await opened(second);
  const refusal = await failure(sink.prepare([dotted], timeout()));
  expect(refusal).toMatchObject({ code: "MR3537", kind: "fatal", table: dotted.id });
  expect(await checked(second, [{ schema: "shop", table: "public.item" }])).toContain("MR3537");
  expect(await checked(second, [{ schema: "public", table: "item" }])).toBe("");
  await write(sink, item, 10n, "1");
  for (const one of [first, sink]) await one.close();
});

test("a table in a schema with the name of Millrace's own topics has a topic of its own", async () => {
  const own = tableVersion({ schema: "_checkpoint", table: "kafka", columns: [["id", "int8"]], key: ["id"] });
  const sink = await opened({ prefix: "own-", daemon: "shop", name: "kafka" });
  await write(sink, own, 10n, "1");
  await sink.close();
  const again = await sinkOf({ prefix: "own-", daemon: "shop", name: "kafka" });
  expect((await again.open(2, timeout()))?.position.commit).toBe(11n);
  await again.close();
});

test("the log is refused in a compacted topic, and `check` names topics that take no TRUNCATE", async () => {
  const log = { prefix: "compacted-", daemon: "shop", name: "log", format: "log" };
  const configs = [{ name: "cleanup.policy", value: "compact" }];
  const names = ["_log", "public.item"].map((name) => `${topics.prefix}compacted-shop.${name}`);
  await topics.admin.createTopics({ topics: names, partitions: 1, replicas: 1, configs });
  expect(await checked(log)).toMatch(/MR3519.*_log is compacted/);
  const sink = await sinkOf(log);
  expect(await failure(sink.open(1, timeout()))).toMatchObject({ code: "MR3519", kind: "blocked" });
  await sink.close();
  for (const [format, found] of [
    ["debezium", 1],
    ["cloudevents", 1],
    ["debezium-flat", 0],
    ["millrace", 0],
  ] as const) {
    const context = contextOf({ prefix: "compacted-", daemon: "shop", name: "stream", format });
    const findings = await factory.check(context, timeout(), [{ schema: "public", table: "item" }]);
    const warnings = findings.filter(({ id, level }) => id === "kafka.compaction" && level === "warning");
    expect({ format, found: warnings.length }).toEqual({ format, found });
  }
});
