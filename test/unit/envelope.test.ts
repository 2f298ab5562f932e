import { expect, test } from "vitest";
import type { Block } from "../../src/core/model/block.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { writeEnvelope, writeMessageEnvelope } from "../../src/core/model/envelope.ts";
import { blockOf, type Change, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { orders, shop } from "../support/model/orders.ts";

function envelope(block: Block, row = 0, used = shop): unknown {
  const out = new ByteWriter(1);
  writeEnvelope(out, block, row, used);
  const text = out.view().toString();
  expect(text).not.toContain("\n");
  return JSON.parse(text);
}

const at = { table: orders, commit: 0x1a2b3d0n, xid: 742, commitTimeUs: 1_795_157_995_123_456n } as const;

test("an update reads as the contract's example", () => {
  const change: Change = {
    ...at,
    op: "u",
    before: ["42", "new", null, null],
    beforeKind: "key",
    after: ["42", "paid", "12.50", UNCHANGED],
    index: 4,
  };
  const used = { ...shop, recordPosition: () => 0x1a2b3c8n };
  expect(envelope(blockOf([change]), 0, used)).toEqual({
    id: "shop/1/0-1A2B3D0/4",
    op: "u",
    key: { id: 42 },
    before: { id: 42 },
    after: { id: 42, status: "paid", amount: "12.50" },
    unchanged: ["body"],
    version: "36028797046404048",
    schema: { subject: "public.orders", version: 3, fingerprint: orders.fingerprint },
    source: {
      name: "shop",
      kind: "postgres",
      database: "shop",
      schema: "public",
      table: "orders",
      snapshot: false,
      lsn: "0/1A2B3C8",
      commitLsn: "0/1A2B3D0",
      txid: "742",
      index: 4,
      commitTime: "2026-11-20T06:59:55.123456Z",
    },
    producer: "millrace/0.1.0",
  });
});

test("a full old row is shown whole, nulls included; a key-only one never shows nulls that mean nothing", () => {
  const before = ["42", "new", null, "long"] as const;
  const full = envelope(blockOf([{ ...at, op: "d", before, beforeKind: "full" }]));
  expect(full).toMatchObject({
    before: { id: 42, status: "new", amount: null, body: "long" },
    after: null,
    unchanged: [],
  });
  const keyOnly = envelope(blockOf([{ ...at, op: "d", before }]));
  expect(keyOnly).toMatchObject({ op: "d", key: { id: 42 }, before: { id: 42 }, after: null });
  expect(keyOnly).not.toHaveProperty("before.status");
});

test("a key change shows the new key as key and the old one in before", () => {
  const change: Change = { ...at, op: "u", before: ["1", null, null, null], after: ["2", "x", null, "b"] };
  expect(envelope(blockOf([change]))).toMatchObject({
    key: { id: 2 },
    before: { id: 1 },
    after: { id: 2, amount: null },
  });
});

test("rows read beside the stream are marked as snapshot, and a transaction without id has none", () => {
  const read = envelope(blockOf([{ ...at, xid: 0, op: "r", after: ["1", "a", "0.00", "b"] }]));
  expect(read).toMatchObject({ op: "r", before: null, source: { snapshot: true } });
  expect(read).not.toHaveProperty("source.txid");
  expect(read).not.toHaveProperty("source.lsn");
});

test("a truncate has neither key nor rows", () => {
  expect(envelope(blockOf([{ ...at, op: "t" }]))).toMatchObject({
    op: "t",
    key: null,
    before: null,
    after: null,
    unchanged: [],
  });
});

test("hostile names stay data", () => {
  const table = tableVersion({
    schema: 'we"ird.schema',
    table: "__proto__",
    columns: [
      ['a"b\\', "int8"],
      ["__proto__", "text"],
    ],
    key: ['a"b\\'],
  });
  const out = new ByteWriter(1);
  writeEnvelope(out, blockOf([{ table, op: "c", after: ["1", "x"] }]), 0, shop);
  expect(out.view().toString()).toContain(String.raw`"after":{"a\"b\\":1,"__proto__":"x"}`);
  expect(JSON.parse(out.view().toString())).toMatchObject({ source: { schema: 'we"ird.schema', table: "__proto__" } });
});

test("messages of one transaction have ids of their own, told apart from any row's", () => {
  const common = {
    at: 0,
    prefix: "audit",
    content: Buffer.from("hi\u0000"),
    transactional: true,
    position: 0x1a2b3d0n,
  };
  const block = blockOf([], {
    messages: [
      { ...common, recordPosition: 0x1a2b300n },
      { ...common, recordPosition: 0x1a2b340n },
    ],
  });
  const [first, second] = block.messages.map((message): unknown => {
    const out = new ByteWriter(1);
    writeMessageEnvelope(out, block, message, shop);
    return JSON.parse(out.view().toString());
  });
  expect(first).toEqual({
    id: "shop/1/0-1A2B3D0/m-0-1A2B300",
    op: "m",
    message: { prefix: "audit", transactional: true, content: "aGkA" },
    source: { name: "shop", kind: "postgres", database: "shop", lsn: "0/1A2B300", commitLsn: "0/1A2B3D0" },
    producer: "millrace/0.1.0",
  });
  expect(second).toMatchObject({ id: "shop/1/0-1A2B3D0/m-0-1A2B340" });
});
