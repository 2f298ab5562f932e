import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Assembly, partsOf } from "../../connectors/kafka/writer/messages.ts";
import { relayedShape } from "../../connectors/kafka/log/calls.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { type Block, NO_TUPLE, OP_TRUNCATE, OP_UNTOLD, OP_UPDATE } from "../../src/core/model/block.ts";
import { Frame, type FrameReading, FrameWriter, UnreadableFrame } from "../../src/core/model/frame.ts";
import { comparePositions, type Position, rowVersion } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { tupleEnd } from "../../src/core/model/tuple.ts";
import { cellsOf } from "../support/model/log-model.ts";
import { blockOf, type Cell, type Change, firstVersion, tableVersion, UNCHANGED } from "../support/model/blocks.ts";

const users = tableVersion({ table: "users", columns: { id: "int8", name: "text", body: "bytea" } });
const pairs = tableVersion({ table: "pa.irs%", columns: { a: "text", b: "text" }, key: ["b", "a"] });
const EPOCH = 3;

const cell: fc.Arbitrary<Cell> = fc.oneof(
  fc.constant(null),
  fc.constant(UNCHANGED),
  fc.string({ unit: "grapheme", maxLength: 80 }),
  fc.uint8Array({ maxLength: 60 }),
);
const change = fc
  .record({
    table: fc.constantFrom<TableVersion>(users, pairs),
    op: fc.constantFrom("c" as const, "u" as const, "d" as const),
    cells: fc.array(cell, { minLength: 6, maxLength: 6 }),
    kind: fc.constantFrom("none" as const, "key" as const, "full" as const),
    isNext: fc.boolean(),
  })
  .map(({ table, op, cells, kind, isNext }): Change & { readonly isNext: boolean } => {
    const { length } = table.columns;
    const before = op === "d" || kind !== "none" ? { before: cells.slice(0, length) } : {};
    const after = op === "d" ? {} : { after: cells.slice(3, 3 + length) };
    return { table, op, isNext, ...before, ...after, beforeKind: kind === "full" ? "full" : "key" };
  });

/** In transactions, one after the other. */
function logOf(changes: readonly (Change & { readonly isNext: boolean })[]): Block {
  let commit = 1000n;
  return blockOf(changes.map((one) => ({ ...one, commit: (commit += one.isNext ? 10n : 0n) })));
}

/** What a block says of its rows, wherever its bytes are. */
function told(block: Block, epoch: number): readonly unknown[] {
  const { transactions: of } = block;
  const bytesAt = (offset: number): string | null =>
    offset === NO_TUPLE
      ? null
      : Buffer.from(block.bytes.subarray(offset, tupleEnd(block.bytes, offset))).toString("hex");
  return Array.from({ length: block.count }, (_, row) => {
    const tx = block.tx[row]!;
    const commit = of.commit[tx]!;
    expect(of.version[tx]).toBe(rowVersion(epoch, commit));
    const transaction = [commit, of.commitTimeUs[tx], of.xid[tx], of.origins[tx]];
    const tuples = [bytesAt(block.after[row]!), bytesAt(block.before[row]!), block.beforeKind[row]];
    return [block.tables[block.table[row]!]!.fingerprint, block.op[row], block.index[row], transaction, tuples];
  });
}

const reading: FrameReading = {
  epoch: EPOCH,
  since: null,
  markOf: (content) => ({ prefix: "mark", content }),
  tableOf: async (shape) => firstVersion(shape),
};

function written(block: Block, write: (frame: FrameWriter) => void, from: Position = block.positionAt(0)): Buffer {
  const out = new ByteWriter(16);
  write(new FrameWriter(out, { from, until: block.until }, relayedShape));
  return Buffer.from(out.view());
}

test("a frame has every row of a block as it was, in the reader's epoch", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(change, { maxLength: 30 }), fc.nat({ max: 30 }), async (changes, cut) => {
      const block = logOf(changes);
      const at = Math.min(cut, block.count);
      block.transactions.origins[0] = { gtid: "3e11fa47:23", serverId: 7 };
      const bytes = written(block, (frame) => {
        frame.rows(block, 0, at);
        frame.mark({ content: Buffer.from("here"), position: 5n, transactional: false });
        frame.rows(block, at, block.count);
        frame.lost("public.gone");
        frame.shape(pairs);
      });
      const frame = new Frame(bytes);
      expect(comparePositions(frame.until, block.until)).toBe(0);
      const { block: read, lost, announced } = await frame.read(reading);
      expect(told(read, EPOCH)).toEqual(told(block, 1));
      expect(read.messages).toMatchObject([{ at, prefix: "mark", position: 5n, transactional: false }]);
      expect([lost, announced]).toEqual([["public.gone"], [relayedShape(pairs)]]);
      expect(read.until).toEqual({ ...block.until, epoch: EPOCH });
    }),
  );
});

test("rows and tables that a reader does not want are left out, and nothing else", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 30 }), fc.nat({ max: 30 }), async (changes, cut) => {
      const block = logOf(changes);
      const at = Math.min(cut, block.count);
      const since = { ...block.positionAt(at), epoch: EPOCH };
      const bytes = written(block, (frame) => frame.rows(block, 0, block.count));
      const tableOf: FrameReading["tableOf"] = async (shape) => (shape.id === users.id ? firstVersion(shape) : null);
      const { block: read } = await new Frame(bytes).read({ ...reading, since, tableOf });
      const rows = told(block, 1).filter((_, row) => {
        const isUsers = block.tables[block.table[row]!] === users;
        return isUsers && row >= at;
      });
      expect(told(read, EPOCH)).toEqual(rows);
    }),
  );
});

test("of a row that a filter may have left out a reader gets the key alone", async () => {
  const block = blockOf([
    { table: users, op: "u", after: ["1", "value", UNCHANGED], isIfHeld: true },
    { table: users, op: "u", after: ["2", "b", "c"] },
  ]);
  const bytes = written(block, (frame) => frame.rows(block, 0, 2));
  expect(bytes.includes("value")).toBe(false);
  const { block: read } = await new Frame(bytes).read(reading);
  expect(Array.from({ length: 2 }, (_, row) => [read.op[row], cellsOf(users, read.bytes, read.after[row]!)])).toEqual([
    [OP_UNTOLD, ["1", UNCHANGED, UNCHANGED]],
    [OP_UPDATE, ["2", "b", "c"]],
  ]);
});

test("a truncate is a row without tuples", async () => {
  const block = blockOf([{ table: users, op: "c", after: ["1", "a", null], commit: 1000n }]);
  const record = { index: 4, commitTimeUs: 5n, xid: 6, origin: undefined };
  const bytes = written(block, (frame) => frame.truncate(users, rowVersion(1, 1000n), record));
  const { block: read } = await new Frame(bytes).read(reading);
  expect(told(read, EPOCH)).toEqual([[users.fingerprint, OP_TRUNCATE, 4, [1000n, 5n, 6, undefined], [null, null, 0]]]);
});

test("a table under other rules is another table to a reader; without rules it is as it is", () => {
  const ruled = (rules: string): TableVersion => ({
    ...users,
    ruled: { rules, source: users, lineage: [], filtered: false, fault: null },
  });
  const { version: _, since: __, ...shape } = users;
  expect(relayedShape(users)).toEqual(shape);
  const [one, same, other] = [ruled("a"), ruled("a"), ruled("b")].map((table) => relayedShape(table).relation);
  expect([one === same, one === other, one === users.relation]).toEqual([true, false, false]);
});

test("bytes that are no frame, or are cut off, are refused", async () => {
  const block = blockOf([{ table: users, op: "c", after: ["1", "a".repeat(50), null] }]);
  const bytes = written(block, (frame) => frame.rows(block, 0, 1));
  expect(() => new Frame(Buffer.alloc(0))).toThrow(UnreadableFrame);
  expect(() => new Frame(Buffer.from("{}"))).toThrow(UnreadableFrame);
  for (let end = bytes.length - 1; end > bytes.length - 60; end--) {
    await expect(new Frame(bytes.subarray(0, end)).read(reading)).rejects.toThrow();
  }
});

test("a message in parts comes together again; what began before the reader did is left out", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 50 }), fc.integer({ min: 4097, max: 4110 }), (bytes, max) => {
      const message = Buffer.from(bytes);
      const parts = [...partsOf(message, max)];
      const assembly = new Assembly();
      const late = new Assembly();
      const wholes = parts.map((value, i) => assembly.add({ offset: BigInt(i + 7), value }));
      const missed = parts.slice(1).map((value, i) => late.add({ offset: BigInt(i + 8), value }));
      expect(wholes.at(-1)).toEqual({ message, first: 7n, last: BigInt(6 + parts.length) });
      expect([...wholes.slice(0, -1), ...missed].every((whole) => whole === null)).toBe(true);
    }),
  );
});
