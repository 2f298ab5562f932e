/**
 * Limits of brokers that a sink can't see in its topics: they bound what it sends, or are named.
 * @module-tag heavy
 */
import { randomBytes } from "node:crypto";
import { Admin } from "@platformatic/kafka";
import { expect, test } from "vitest";
import { definition, factory } from "../../connectors/kafka/config.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import { failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { ownKafka } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";
import { origin } from "../support/kafka/kafka-scene.ts";

const REQUEST_BYTES = 200_000;
const ROWS = 600;

const tableNamed = (table: string) => tableVersion({ table, columns: { id: "int8", body: "text" } });
const wide = tableNamed("wide");

async function preparedFor(table: TableVersion, { broker, prefix }: KafkaTopics): Promise<Sink> {
  const options = definition.parse({ brokers: [broker], prefix, topics: { partitions: 1 } });
  const sink: Sink = await factory.create({ name: "stream", daemon: "shop", folder: "/", options, origin }, quietLog);
  await sink.open(1, timeout());
  await sink.prepare([table], timeout());
  return sink;
}

test("requests keep below socket.request.max.bytes, and a used-up quota is named", async () => {
  await using broker = await ownKafka({ settings: () => ({ "socket.request.max.bytes": String(REQUEST_BYTES) }) });
  await using topics = new KafkaTopics(new URL(broker.url).host);
  const sink = await preparedFor(wide, topics);
  const rows = Array.from({ length: ROWS }, (_, i) => put([`${i}`, "x".repeat(5_000)]));
  const batch = rowsBatch(10n, [wide, [...rows, put(["-1", "x".repeat(2 * REQUEST_BYTES)])]]);
  const reports = new Reports();
  const inOrder = batch.kind === "rows" ? { ...batch, order: new Uint16Array(ROWS + 1) } : batch;
  await sink.apply(inOrder, reports, timeout());
  expect(reports.poisons.map(({ error }) => error.message)).toEqual([
    expect.stringMatching(/takes 400,?\d+ bytes, and socket\.request\.max\.bytes of the brokers lets 150,?000 through/),
  ]);
  expect(await topics.read(`${topics.prefix}shop.public.wide`)).toHaveLength(ROWS);

  const admin = new Admin({ clientId: "administrator", bootstrapBrokers: [topics.broker] });
  const entity = { entityType: "client-id", entityName: null } as const;
  const limit = { key: "controller_mutation_rate", value: 0.2, remove: false } as const;
  await admin.alterClientQuotas({ entries: [{ entities: [entity], ops: [limit] }] });
  const many = Array.from({ length: 30 }, (_, i) => tableNamed(`t${i}`));
  const { code, kind, message, hint } = await failure(sink.prepare(many, timeout()));
  expect([code, kind]).toEqual(["MR2006", "retryable"]);
  expect(message).toContain("`controller_mutation_rate` is used up");
  expect(hint).toContain("--entity-type users");
  await sink.close();
  const lift = { key: "controller_mutation_rate", value: 0, remove: true } as const;
  await admin.alterClientQuotas({ entries: [{ entities: [entity], ops: [lift] }] });
  await admin.close();
});

test("a quota of bytes is told as what slows the sink, and a batch that takes too long with it as too large", async () => {
  await using broker = await ownKafka();
  await using topics = new KafkaTopics(new URL(broker.url).host);
  const sink = await preparedFor(wide, topics);
  const batch = (at: bigint, count: number): Batch => {
    const rows = Array.from({ length: count }, (_, i) => put([`${at}${i}`, randomBytes(2_000).toString("hex")]));
    const unordered = rowsBatch(at, [wide, rows]);
    return unordered.kind === "rows" ? { ...unordered, order: new Uint16Array(count) } : unordered;
  };
  await sink.apply(batch(10n, 10), new Reports(), timeout());
  expect(sink.hints).toEqual([]);
  const admin = new Admin({ clientId: "administrator", bootstrapBrokers: [topics.broker] });
  const entity = { entityType: "client-id", entityName: null } as const;
  const limit = { key: "producer_byte_rate", value: 20_000, remove: false } as const;
  await admin.alterClientQuotas({ entries: [{ entities: [entity], ops: [limit] }], validateOnly: false });
  await admin.close();
  let at = 11n;
  await eventually(async () => {
    await sink.apply(batch(at++, 20), new Reports(), timeout());
    expect(sink.hints).toMatchObject([{ what: expect.stringContaining("a quota of the brokers"), slows: true }]);
  });
  const late = sink.apply(batch(at++, 500), new Reports(), AbortSignal.timeout(120_000));
  const { code, message, hint, reason } = await failure(late);
  expect({ code, reason }).toEqual({ code: "MR2006", reason: "size" });
  expect(message).toMatch(
    /^a quota of the brokers holds it back, lately for \d+ (?:s|min): longer than a batch may take/,
  );
  expect(hint).toMatch(/`producer_byte_rate`.*kafka-configs\.sh/);
  await sink.open(1, AbortSignal.timeout(120_000));
  await sink.prepare([wide], timeout());
  for (let i = 0; i < 2; i++) await sink.apply(batch(at++, 40), new Reports(), AbortSignal.timeout(120_000));
  expect(sink.hints).toMatchObject([
    { what: expect.stringContaining("a quota of the brokers holds it back"), slows: true },
  ]);
  // A broker that dies meanwhile is told as that.
  await broker.kill();
  const gone = await failure(sink.apply(batch(at++, 1), new Reports(), AbortSignal.timeout(120_000)));
  expect(gone).toMatchObject({ code: "MR2001", message: expect.stringContaining("the connection to Kafka") });
  await sink.close();
  await broker.start();
});

test("a limit of transactions that is too short is refused at the start, and by check", async () => {
  await using broker = await ownKafka({ settings: () => ({ "transaction.max.timeout.ms": "30000" }) });
  const options = definition.parse({ brokers: [new URL(broker.url).host] });
  const context = { name: "stream", daemon: "shop", folder: "/", options };
  const told = expect.stringContaining("`transaction.max.timeout.ms` of the brokers is below a minute");
  const findings = await factory.check(context, timeout(), []);
  expect(findings.filter(({ level }) => level === "error")).toMatchObject([{ what: told }]);
  const sink = await factory.create(context, quietLog);
  expect(await failure(sink.open(1, timeout()))).toMatchObject({ code: "MR2005", message: told });
  await sink.close();
});
