/** Debezium's records as a whole, where no Debezium is beside them. */
import { expect, test } from "vitest";
import { DebeziumFormat, type DebeziumOptions } from "../../connectors/kafka/formats/debezium/debezium.ts";
import { Inexpressible, NoUtf8, type RecordContext } from "../../connectors/kafka/formats/format.ts";
import { type TopicNaming, topicOf } from "../../connectors/kafka/names.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { inCommitOrder, type RowsBatch } from "../../connectors/kit/ordered-changes.ts";
import type { EnvelopeContext } from "../../src/core/model/envelope.ts";
import type { KeyedTable } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { Compactor } from "../../src/runtime/compaction/compaction.ts";
import { blockOf, type Change, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { checkpointOf } from "../support/daemon/complete.ts";

const context: EnvelopeContext = {
  name: "shop",
  producer: "millrace/1.2.3",
  sourceKind: "postgres",
  database: "db",
  formatPosition: (commit) => String(commit),
};
const naming: TopicNaming = { prefix: "p-", daemon: "shop", single: undefined, isDebezium: true };
const place: RecordContext = { nowMs: 1_700_000_000_000, isMoved: false, transaction: null };
const users = tableVersion({ table: "users", columns: { id: "int8", name: "text", score: "numeric" } });

interface Told {
  readonly key: unknown;
  readonly value: unknown;
}

function formatOf(options: Partial<DebeziumOptions> = {}): DebeziumFormat {
  return new DebeziumFormat(context, { form: "debezium", naming, schemas: false, decimals: "precise", ...options });
}

function tell(format: DebeziumFormat, changes: readonly Change[]): readonly Told[] {
  const told: Told[] = [];
  const compactor = new Compactor("stream");
  const block = blockOf(changes);
  const compact = compactor.compact([{ block, from: 0, to: block.count }], () => true);
  const batch: RowsBatch = {
    kind: "rows",
    tables: compact.tables,
    order: compact.order,
    checkpoint: checkpointOf(block.until),
  };
  inCommitOrder(batch, (writes, entry, isMoved) => {
    const key = new ByteWriter();
    const value = new ByteWriter();
    format.key(key, writes, entry);
    format.value(value, writes, entry, { ...place, isMoved });
    told.push({ key: JSON.parse(key.view().toString()), value: JSON.parse(value.view().toString()) });
  });
  return told;
}

function fieldsOf(value: unknown): ReadonlyMap<string, unknown> {
  return new Map(Object.entries(value ?? {}));
}

const CREATE: Change = { table: users, op: "c", after: ["1", "a", "1.50"], commit: 20n };
const MOVE: Change = { table: users, op: "u", after: ["2", "b", null], before: ["1", null, null], commit: 20n };

test("a changed key is a delete, and then a create without a before", () => {
  expect(tell(formatOf(), [MOVE])).toMatchObject([
    { key: { id: 1 }, value: { op: "d", before: { id: 1, name: null, score: null }, after: null } },
    { key: { id: 2 }, value: { op: "c", before: null, after: { id: 2, name: "b", score: null } } },
  ]);
});

test("a left-out value has the placeholder; so has a decimal, which Debezium shows as null", () => {
  const change: Change = { table: users, op: "u", after: ["1", UNCHANGED, UNCHANGED], commit: 20n };
  const { value } = tell(formatOf(), [change])[0]!;
  const base64 = Buffer.from("__debezium_unavailable_value").toString("base64");
  const after = { id: 1, name: "__debezium_unavailable_value", score: { scale: 0, value: base64 } };
  expect(value).toMatchObject({ op: "u", before: null, after });
});

test("a text or a key that is no UTF-8 has no form, whichever record is written", () => {
  const half = Uint8Array.of(0x61, 0xed, 0xa0, 0x80);
  const names = tableVersion({ table: "names", dialect: "mysql", columns: { name: "text" } });
  const changes: readonly Change[] = [
    { table: { ...users, dialect: "mysql" }, op: "c", after: ["1", half, null], commit: 20n },
    { table: names, op: "d", before: [half], commit: 20n },
  ];
  for (const form of ["debezium", "debezium-flat", "cloudevents"] as const)
    for (const change of changes) expect(() => tell(formatOf({ form, schemas: true }), [change])).toThrow(NoUtf8);
});

test("NaN in a precise decimal is null, and in a NOT NULL column the row has no form", () => {
  const change: Change = { table: users, op: "c", after: ["1", "a", "NaN"], commit: 20n };
  expect(tell(formatOf(), [change])).toMatchObject([{ value: { after: { score: null } } }]);
  const strict: KeyedTable = {
    ...users,
    columns: users.columns.map((column) => ({ ...column, nullable: false })),
  };
  expect(() => tell(formatOf(), [{ ...change, table: strict }])).toThrow(Inexpressible);
  expect(tell(formatOf({ decimals: "string" }), [{ ...change, table: strict }])).toMatchObject([
    { value: { after: { score: "NAN" } } },
  ]);
});

test("a topic of all tables: the keys name the table, in their schemas too", () => {
  const [told] = tell(formatOf({ naming: { ...naming, single: "all" }, schemas: true }), [CREATE]);
  expect(told?.key).toMatchObject({
    schema: { fields: [{ field: "id" }, { field: "__dbz__physicalTableIdentifier", type: "string" }] },
    payload: { id: 1, __dbz__physicalTableIdentifier: "p-shop.public.users" },
  });
});

test("a truncate is one record without a key; a sweep has no form, and neither has the flat form a truncate", () => {
  const record = { index: 3, commitTimeUs: 1_700_000_000_123_456n, xid: 77, origin: undefined };
  const version = rowVersion(1, 40n);
  const checkpoint = checkpointOf({ epoch: 1, commit: 41n, index: 0 });
  const batch = { kind: "truncate", table: users, version, record, checkpoint } as const;
  const told = formatOf().barrier({ kind: "truncate", batch }, place);
  expect(told).toMatchObject({ key: null, isEverywhere: false });
  expect(JSON.parse(told!.value.toString())).toEqual({
    before: null,
    after: null,
    source: {
      version: "1.2.3",
      connector: "postgresql",
      name: "p-shop",
      ts_ms: 1_700_000_000_123,
      snapshot: "false",
      db: "db",
      sequence: '[null,"40"]',
      ts_us: 1_700_000_000_123_456,
      ts_ns: 1.700000000123456e18,
      schema: "public",
      table: "users",
      txId: 77,
      lsn: 40,
      xmin: null,
      origin: null,
      origin_lsn: null,
    },
    transaction: null,
    op: "t",
    ts_ms: 1_700_000_000_000,
    ts_us: 1_700_000_000_000_000,
    ts_ns: 1.7e18,
  });
  expect(formatOf().barrier({ kind: "sweep", table: users, below: version }, place)).toBeNull();
  expect(formatOf({ form: "debezium-flat" }).barrier({ kind: "truncate", batch }, place)).toBeNull();
});

test("events have ids of their own, in lower-case attributes that are texts", () => {
  const format = formatOf({ form: "cloudevents" });
  const changes: Change[] = [
    CREATE,
    { table: users, op: "u", after: ["1", "b", null], commit: 20n, index: 1 },
    { ...MOVE, commit: 20n, index: 2 },
  ];
  const told = tell(format, changes).map(({ value }) => fieldsOf(value));
  expect(new Set(told.map((fields) => fields.get("id"))).size).toBe(4);
  expect(tell(format, changes).map(({ value }) => fieldsOf(value))).toEqual(told);
  const read = (id: string): Change => ({ table: users, op: "r", after: [id, "a", null], commit: 0n, index: 0 });
  const reads = [read("1"), read("2")].flatMap((change) => tell(format, [change]));
  expect(new Set(reads.map(({ value }) => fieldsOf(value).get("id"))).size).toBe(2);
  for (const fields of told) {
    expect(fields.get("data")).toHaveProperty("before");
    for (const [name, value] of fields) {
      if (name === "data") continue;
      expect(name).toMatch(/^[a-z0-9]+$/);
      expect(value).toBeTypeOf("string");
    }
  }
  expect(format.headers()).toHaveLength(1);
});

test("names of topics are Debezium's, so that two tables may share one", () => {
  expect(topicOf({ schema: "a b", table: "ü" }, naming)).toBe("p-shop.a_b._");
  expect(topicOf({ schema: "a_b", table: "_" }, naming)).toBe("p-shop.a_b._");
  expect(topicOf({ schema: "a b", table: "ü" }, { ...naming, isDebezium: false })).toMatch(/_[0-9a-f]{8}$/);
});
