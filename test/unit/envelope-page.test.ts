/** docs/envelope.md shows what is written, and names every field of it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Block } from "../../src/core/model/block.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { type EnvelopeContext, writeEnvelope, writeMessageEnvelope } from "../../src/core/model/envelope.ts";
import { blockOf, type Change, UNCHANGED } from "../support/model/blocks.ts";
import { orders, shop, shopOrders } from "../support/model/orders.ts";

const page = readFileSync(join(import.meta.dirname, "../../docs/envelope.md"), "utf8");
const ofPostgres: EnvelopeContext = { ...shop, recordPosition: () => 0x1a2b3c8n };
const ofMysql: EnvelopeContext = {
  ...shop,
  sourceKind: "mysql",
  formatPosition: (place) => {
    const { file, pos } = placeOf(place);
    return `${file}:${pos}`;
  },
  positionFields: placeOf,
};

const committed = { xid: 742, commitTimeUs: 1_795_157_995_123_456n, index: 4 } as const;
const row = ["42", "paid", "12.50", "long"] as const;
const inPostgres = { ...committed, table: orders, commit: 0x1a2b3d0n } as const;
const inMysql = { ...committed, table: shopOrders, commit: (42n << 32n) + 12_345n, xid: 0 } as const;

function placeOf(place: bigint) {
  return { file: `binlog.${String(place >> 32n).padStart(6, "0")}`, pos: Number(place & 0xffff_ffffn) };
}

function envelope(change: Change, context: EnvelopeContext, gtid?: string): unknown {
  const block = blockOf([change]);
  if (gtid !== undefined) block.transactions.origins[0] = { gtid, serverId: 7 };
  return written((out) => writeEnvelope(out, block, 0, context));
}

function message(): unknown {
  const content = Buffer.from("hi");
  const at = { at: 0, position: 0x1a2b3d0n, recordPosition: 0x1a2b300n };
  const block: Block = blockOf([], { messages: [{ ...at, prefix: "audit", content, transactional: true }] });
  return written((out) => writeMessageEnvelope(out, block, block.messages[0]!, ofPostgres));
}

function written(write: (out: ByteWriter) => void): unknown {
  const out = new ByteWriter(1);
  write(out);
  return JSON.parse(out.view().toString());
}

const examples: readonly unknown[] = [
  envelope({ ...inPostgres, op: "u", after: ["42", "paid", "12.50", UNCHANGED] }, ofPostgres),
  envelope({ ...inPostgres, op: "d", before: ["42", null, null, null] }, ofPostgres),
  message(),
  envelope(
    { ...inMysql, op: "u", before: ["42", "new", "12.50", "long"], beforeKind: "full", after: row },
    ofMysql,
    "3e11fa47-71ca-11e1-9e33-c80aa9429562:23",
  ),
  envelope({ ...inMysql, op: "c", after: row }, ofMysql, "0-7-23"),
];

test("its examples are what is written", () => {
  const shown = [...page.matchAll(/```json\n([^]*?)```/g)].map(([, text = ""]): unknown => JSON.parse(text));
  expect(shown.length).toBeGreaterThan(2);
  expect(examples).toEqual(expect.arrayContaining(shown));
});

test("its lists name every field, and none that is never written", () => {
  const named = [...page.matchAll(/^- `([^`]+)` \(/gm)].map(([, field = ""]) => field);
  const fields = new Set(examples.flatMap((example) => fieldsOf("", example)));
  expect(new Set(named)).toEqual(fields);
});

/** Columns of tables are no fields of the envelope. */
function fieldsOf(path: string, value: unknown): readonly string[] {
  const isRow = ["key", "before", "after"].includes(path);
  if (typeof value !== "object" || value === null || Array.isArray(value) || isRow) return [path];
  const inner = Object.entries(value).flatMap(([name, one]) => fieldsOf(path === "" ? name : `${path}.${name}`, one));
  return path === "" ? inner : [path, ...inner];
}
