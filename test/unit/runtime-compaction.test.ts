import { expect, test } from "vitest";
import { DELETE, isIfHeld, PATCH, PUT, type TableWrites } from "../../src/core/model/batch.ts";
import { BEFORE_FULL, BEFORE_KEY, BEFORE_NONE, NO_TUPLE } from "../../src/core/model/block.ts";
import { keyText } from "../../src/core/model/row-id.ts";
import { type Compacted, Compactor } from "../../src/runtime/compaction/compaction.ts";
import { blockOf, type Change, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { cellsOf } from "../support/model/log-model.ts";

const notes = tableVersion({ table: "notes", columns: { id: "int4", name: "text", body: "text" } });

function compact(changes: readonly Omit<Change, "table">[], compactor = new Compactor()): Compacted {
  const block = blockOf(changes.map((change) => ({ ...change, table: notes })));
  return compactor.compact([{ block, from: 0, to: block.count }], () => true);
}

const move = (from: string, to: string, body: string | typeof UNCHANGED = UNCHANGED): Omit<Change, "table"> => ({
  op: "u",
  after: [to, `moved ${from}`, body],
  before: [from, null, null],
});

function entries(writes: TableWrites | undefined) {
  return Array.from({ length: writes?.count ?? 0 }, (_, i) => {
    const block = writes!.blocks[writes!.block[i]!]!;
    const row = writes!.row[i]!;
    const action = writes!.action[i]!;
    const tuple = action === DELETE ? block.before[row]! : block.after[row]!;
    const cells = cellsOf(notes, block.bytes, tuple);
    const moved = writes!.moved[i] === 1;
    return { action, cells: action === DELETE ? [cells[0]] : cells, moved };
  });
}

function untoldKeys(compacted: Compacted) {
  return compacted.untold.map(({ bytes, offset }) => cellsOf(notes, bytes, offset)[0]);
}

test("a chain of key changes whose bases are overwritten leaves its keys to the source", () => {
  const compacted = compact([
    move("1", "2"),
    move("5", "1"),
    move("7", "5", "whole"),
    { op: "u", after: ["2", "b", UNCHANGED] },
  ]);
  expect(new Set(untoldKeys(compacted))).toEqual(new Set(["1", "2"]));
  expect(entries(compacted.tables[0])).toEqual([
    { action: PUT, cells: ["5", "moved 7", "whole"], moved: false },
    { action: DELETE, cells: ["7"], moved: false },
  ]);
});

test("a row that leaves its key and comes back is a change of that key", () => {
  const compacted = compact([move("1", "2"), move("2", "1")]);
  expect(compacted.untold).toEqual([]);
  expect(entries(compacted.tables[0])).toEqual([
    { action: PATCH, cells: ["1", "moved 2", UNCHANGED], moved: false },
    { action: DELETE, cells: ["2"], moved: false },
  ]);
});

test("a key that was given up in a batch is not patched by it", () => {
  // Key 2 is removed under bytes that the log did not announce: what the row at key 2 is can't be told.
  const compacted = compact([
    { op: "d", before: ["2", null, null] },
    { op: "u", after: ["2", "a", UNCHANGED] },
    { op: "u", after: ["2", "b", UNCHANGED] },
  ]);
  expect(untoldKeys(compacted)).toContain("2");
  expect(entries(compacted.tables[0])).toEqual([]);
});

test("of a row that a filter may have left out a history gets what it holds the row before of, everyone else the key", () => {
  const held = (id: string, name: string) => ({ op: "u", after: [id, name, UNCHANGED], isIfHeld: true }) as const;
  const changes = [
    held("1", "a"),
    held("1", "b"),
    { op: "c", after: ["2", "new", "body"] },
    held("2", "c"),
    { op: "d", before: ["3", null, null], beforeKind: "doubted" },
    held("3", "d"),
    { op: "d", before: ["4", null, null] },
    held("4", "e"),
    move("5", "6"),
    held("6", "f"),
  ] as const;
  const inHistory = compact(changes, new Compactor("history"));
  expect(new Set(untoldKeys(inHistory))).toEqual(new Set(["3", "4", "6"]));
  expect(entries(inHistory.tables[0])).toEqual([
    { action: PATCH, cells: ["1", "a", UNCHANGED], moved: false },
    { action: PATCH, cells: ["1", "b", UNCHANGED], moved: false },
    { action: PUT, cells: ["2", "new", "body"], moved: false },
    { action: PUT, cells: ["2", "c", "body"], moved: false },
    { action: DELETE, cells: ["4"], moved: false },
    { action: PATCH, cells: ["6", "moved 5", UNCHANGED], moved: true },
    { action: DELETE, cells: ["5"], moved: false },
  ]);
  for (const form of ["mirror", "stream"] as const)
    expect(new Set(untoldKeys(compact(changes, new Compactor(form))))).toEqual(new Set(["1", "2", "3", "4", "6"]));
});

test("a change behind one without a known row is an entry: the filter let that one through", () => {
  const held = (name: string) => ({ op: "u", after: ["1", name, UNCHANGED], isIfHeld: true }) as const;
  const { tables, untold } = compact(
    [{ op: "d", before: ["1", null, null] }, { op: "u", after: ["1", "a", UNCHANGED] }, held("b")],
    new Compactor("history"),
  );
  const [writes] = tables;
  expect(untold).toEqual([]);
  expect(entries(writes).map(({ cells }) => cells[1])).toEqual([undefined, "a", "b"]);
  expect([1, 2].map((entry) => [writes!.fresh[entry], isIfHeld(writes!, entry)])).toEqual([
    [1, false],
    [1, false],
  ]);
});

test("a row that a filter may have left out is read again where no target holds its key", () => {
  const dated = tableVersion({ table: "dated", dialect: "mysql", columns: { day: "date", body: "text" } });
  const change = { table: dated, op: "u", after: ["0000-00-00", UNCHANGED] } as const;
  const compacted = (...changes: readonly Change[]) => {
    const block = blockOf(changes);
    const { tables, untold, unplaced } = new Compactor("history").compact([{ block, from: 0, to: 1 }], () => true);
    return [tables.length, untold.length, unplaced.length];
  };
  expect(compacted({ ...change, isIfHeld: true })).toEqual([0, 1, 0]);
  expect(compacted(change)).toEqual([0, 0, 1]);
});

test("fresh says that the log brought the key in this batch, and nothing more", () => {
  const { tables } = compact([
    { op: "c", after: ["1", "new", null] },
    { op: "u", after: ["1", "newer", UNCHANGED] },
    { op: "d", before: ["2", null, null] },
    { op: "c", after: ["2", "again", null] },
    { op: "c", after: ["3", "gone", null] },
    { op: "d", before: ["3", null, null] },
    { op: "c", after: ["3", "back", null] },
    { op: "u", after: ["4", "changed", "x"] },
    { op: "c", after: ["5", "gone", null] },
    { op: "d", before: ["5", null, null] },
  ]);
  const writes = tables[0]!;
  const fresh = entries(writes).map(({ cells }, i) => [cells[0], writes.fresh[i] === 1]);
  expect(Object.fromEntries(fresh)).toEqual({ 1: true, 2: false, 3: true, 4: false, 5: false });
});

test("a batch with a row for each of thousands of keys keeps every key, and a small one after it its own", () => {
  const compactor = new Compactor();
  const many = Array.from({ length: 5000 }, (_, i): Omit<Change, "table"> => ({
    op: "c",
    after: [String(i % 4000), `n${i}`, null],
  }));
  expect(compact(many, compactor).tables[0]?.count).toBe(4000);
  const few = compact([{ op: "u", after: ["17", "x", UNCHANGED] }], compactor);
  expect(entries(few.tables[0])).toEqual([{ action: PATCH, cells: ["17", "x", UNCHANGED], moved: false }]);
  expect(compact([], compactor).tables).toEqual([]);
});

test("tables that a sink does not take leave no trace", () => {
  const block = blockOf([{ table: notes, op: "c", after: ["1", "a", null] }]);
  const compacted = new Compactor().compact([{ block, from: 0, to: 1 }], () => false);
  expect(compacted).toMatchObject({
    tables: [],
    untold: [],
    unplaced: [],
    unkeyed: [],
    failed: new Map(),
    changeCount: 0,
  });
});

test.for([
  { readersHold: "same key", shown: ["1 PATCH", "1 DELETE", "3 PATCH"], read: ["2", "2"] },
  { readersHold: "none", shown: ["1 DELETE"], read: ["1", "2", "2", "3"] },
] as const)(
  "a stream gets no change that readers who hold $readersHold can't complete",
  ({ readersHold, shown, read }) => {
    const changes: readonly Omit<Change, "table">[] = [
      { op: "u", after: ["1", "a", UNCHANGED] },
      move("1", "2"),
      { op: "u", after: ["2", "b", UNCHANGED] },
      { op: "u", after: ["3", "b", UNCHANGED] },
    ];
    const { tables, untold } = compact(changes, new Compactor("stream", { readersHold: () => readersHold }));
    expect(untold.map(({ table, bytes, offset }) => keyText(table, bytes, offset)[0])).toEqual(read);
    const named = entries(tables[0]).map(
      ({ action, cells }) => `${String(cells[0])} ${action === PATCH ? "PATCH" : "DELETE"}`,
    );
    expect(named).toEqual(shown);
  },
);

test("a stream gets each change as the log has it, whatever else is in the batch", () => {
  const changes: readonly Omit<Change, "table">[] = [
    { op: "u", after: ["1", "a", UNCHANGED] },
    move("1", "2"),
    { op: "u", after: ["2", "b", UNCHANGED] },
    { op: "u", after: ["2", "c", UNCHANGED], before: ["2", "b", "long"], beforeKind: "full" },
  ];
  const { tables } = compact(changes, new Compactor("stream"));
  const [writes] = tables;
  const shown = entries(writes).map((entry, i) => {
    const block = writes!.blocks[writes!.block[i]!]!;
    const row = writes!.row[i]!;
    const before = block.before[row]!;
    return {
      ...entry,
      before: before === NO_TUPLE ? null : cellsOf(notes, block.bytes, before),
      kind: block.beforeKind[row],
    };
  });
  const key = { before: ["1", null, null], kind: BEFORE_KEY };
  expect(shown).toEqual([
    { action: PATCH, cells: ["1", "a", UNCHANGED], moved: false, before: null, kind: BEFORE_NONE },
    { action: PATCH, cells: ["2", "moved 1", UNCHANGED], moved: true, ...key },
    { action: DELETE, cells: ["1"], moved: false, ...key },
    { action: PATCH, cells: ["2", "b", UNCHANGED], moved: false, before: null, kind: BEFORE_NONE },
    { action: PUT, cells: ["2", "c", "long"], moved: false, before: ["2", "b", "long"], kind: BEFORE_FULL },
  ]);
});
