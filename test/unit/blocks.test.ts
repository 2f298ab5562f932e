import { expect, test } from "vitest";
import { DELETE, PATCH, PUT } from "../../src/core/model/batch.ts";
import { BEFORE_FULL, BEFORE_KEY, BEFORE_NONE, type Block, NO_TUPLE } from "../../src/core/model/block.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { CELL_BINARY, CELL_TEXT, CELL_UNCHANGED, CellMap, tupleEnd, TupleWriter } from "../../src/core/model/tuple.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { blockOf, type Cell, tableVersion, tupleOf, UNCHANGED, writesOf } from "../support/model/blocks.ts";

const users = tableVersion({ table: "users", columns: { id: "int8", name: "text" } });

function cellsAt(bytes: Uint8Array, offset: number): Cell[] {
  const cells = new CellMap();
  expect(cells.read(bytes, offset)).toBe(tupleEnd(bytes, offset));
  return Array.from({ length: cells.count }, (_, i) => {
    const value = bytes.subarray(cells.start[i], cells.start[i]! + cells.length[i]!);
    if (cells.kind[i] === CELL_TEXT) return Buffer.from(value).toString();
    if (cells.kind[i] === CELL_BINARY) return Uint8Array.from(value);
    return cells.kind[i] === CELL_UNCHANGED ? UNCHANGED : null;
  });
}

test("a tuple is read back as it was written", () => {
  const cells: Cell[] = ["", "é\u0000", null, UNCHANGED, new Uint8Array([0, 255]), "x".repeat(70_000)];
  expect(cellsAt(tupleOf(cells), 0)).toEqual(cells);
});

test("cells copied from one tuple to another keep kind and content", () => {
  const from = tupleOf(["a", null, UNCHANGED, new Uint8Array([1, 2, 3])]);
  const map = new CellMap();
  map.read(from, 0);
  const out = new ByteWriter(4);
  const writer = new TupleWriter(out);
  writer.begin(4);
  for (const i of [3, 2, 1, 0]) writer.copyCell(from, map, i);
  expect(cellsAt(out.view(), 0)).toEqual([new Uint8Array([1, 2, 3]), UNCHANGED, null, "a"]);
});

function beforeOf(block: Block, row: number): Cell[] {
  return cellsAt(block.bytes, block.before[row]!);
}

test("blocks count changes per transaction and keep what an old tuple holds", () => {
  const block = blockOf(
    [
      { table: users, op: "c", after: ["1", "ann"] },
      { table: users, op: "u", after: ["2", UNCHANGED], before: ["1", "ann"] },
      { table: users, op: "d", before: ["2", "bob"], beforeKind: "full", commit: 2000n },
      { table: users, op: "t" },
    ],
    { epoch: 3 },
  );
  expect(block.count).toBe(4);
  expect([...block.index.subarray(0, 4)]).toEqual([0, 1, 0, 1]);
  expect([...block.tx.subarray(0, 4)]).toEqual([0, 0, 1, 1]);
  expect([...block.beforeKind.subarray(0, 4)]).toEqual([BEFORE_NONE, BEFORE_KEY, BEFORE_FULL, BEFORE_NONE]);
  expect(beforeOf(block, 1)).toEqual(["1", null]);
  expect(beforeOf(block, 2)).toEqual(["2", "bob"]);
  expect(cellsAt(block.bytes, block.after[1]!)).toEqual(["2", UNCHANGED]);
  expect(block.after[2]).toBe(NO_TUPLE);
  expect(block.transactions.version[1]).toBe(rowVersion(3, 2000n));
  expect(block.until).toEqual({ epoch: 3, commit: 2001n, index: 0 });
  expect(block.positionAt(3)).toEqual({ epoch: 3, commit: 2000n, index: 1 });
});

test("writes take their action from the row", () => {
  const block = blockOf([
    { table: users, op: "c", after: ["1", "ann"] },
    { table: users, op: "u", after: ["2", UNCHANGED] },
    { table: users, op: "d", before: ["3", null] },
  ]);
  const writes = writesOf(users, block);
  expect([...writes.action]).toEqual([PUT, PATCH, DELETE]);
  expect([writes.count, writes.patchCount, writes.deleteCount]).toEqual([3, 1, 1]);
});
