import { expect, test } from "vitest";
import { type Block, NO_TUPLE, OP_UNTOLD } from "../../src/core/model/block.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { ApplyWindow } from "../../src/runtime/snapshot/windows.ts";
import { blockOf, type Cell, type Change, type TableSpec, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { cellsOf, versionOf } from "../support/model/log-model.ts";

const spec: TableSpec = {
  table: "notes",
  columns: { id: "int4", name: "text", body: "text" },
  key: ["id"],
};
const notes = tableVersion(spec);
const LOW = versionOf(1000n);

type Touch = Omit<Change, "table">;

interface Read {
  readonly rows: readonly (readonly Cell[])[];
  readonly touched?: readonly Touch[];
  readonly keys?: readonly KeyText[];
  readonly table?: typeof notes;
}

function windowOf({ rows, touched = [], keys, table = notes }: Read): { window: ApplyWindow; released: () => number } {
  let released = 0;
  const window = new ApplyWindow("w", table.id);
  window.low(LOW);
  const block = blockOf(
    rows.map((after): Change => ({ table, op: "r", after, commit: 0n })),
    { onRelease: () => released++ },
  );
  window.fill(table, { block: rows.length === 0 ? null : block, last: null, sees: () => true }, keys ?? null, 0);
  const stream = blockOf(touched.map((change) => ({ commit: 2000n, ...change, table })));
  window.touch(stream, 0, stream.count);
  return { window, released: () => released };
}

/** What is applied: rows with their versions, and deleted keys. */
function applied(read: Read) {
  const { window, released } = windowOf(read);
  const closed = window.close(() => true);
  if (typeof closed === "string") return closed;
  const { block } = closed;
  const table = read.table ?? notes;
  const result = block === null ? [] : Array.from({ length: block.count }, (_, row) => entry(block, row, table));
  block?.release();
  expect(released()).toBe(read.rows.length === 0 ? 0 : 1);
  return result;
}

function entry(block: Block, row: number, table: typeof notes) {
  const version = block.transactions.version[block.tx[row]!]!;
  const after = block.after[row]!;
  if (after === NO_TUPLE) return { gone: cellsOf(table, block.bytes, block.before[row]!)[0], version };
  return { row: cellsOf(table, block.bytes, after), version };
}

const at = (commit: bigint) => versionOf(commit);

test("two keys of several parts are two, whatever is in the parts", () => {
  const table = tableVersion({ table: "pairs", columns: { a: "text", b: "text", n: "text" }, key: ["a", "b"] });
  const pairs = [
    [
      ["x\0", "y"],
      ["x", "\0y"],
    ],
    [
      ['x","', "y"],
      ["x", '","y'],
    ],
    [
      ["", "xy"],
      ["x", "y"],
    ],
  ] as const;
  for (const [kept, changed] of pairs) {
    const rows = [[...kept, "read"]];
    const touched: Touch[] = [{ op: "u", after: [...changed, "streamed"] }];
    expect(applied({ table, rows, touched })).toEqual([{ row: [...kept, "read"], version: LOW }]);
  }
});

test("rows that the stream left alone are applied under the low mark's version", () => {
  expect(applied({ rows: [["1", "a", "b"]] })).toEqual([{ row: ["1", "a", "b"], version: LOW }]);
  expect(
    applied({
      rows: [
        ["1", "a", "b"],
        ["2", "c", "d"],
      ],
      touched: [{ op: "u", after: ["2", "x", "y"] }],
    }),
  ).toEqual([{ row: ["1", "a", "b"], version: LOW }]);
});

test("changes that leave columns out and the row that was read make the whole row, under the last change's version", () => {
  const touched: Touch[] = [
    { op: "u", after: ["1", "x", UNCHANGED], commit: 2000n },
    { op: "u", after: ["1", "y", UNCHANGED], commit: 2010n },
  ];
  expect(applied({ rows: [["1", "a", "b"]], touched })).toEqual([{ row: ["1", "y", "b"], version: at(2010n) }]);
});

test("between them, changes that carry every column leave nothing to apply", () => {
  const touched: Touch[] = [
    { op: "u", after: ["1", "x", UNCHANGED] },
    { op: "u", after: ["1", UNCHANGED, "y"] },
  ];
  expect(applied({ rows: [["1", "a", "b"]], touched })).toEqual([]);
});

test("a row that takes the key of a deleted one gets nothing from what was read under that key", () => {
  const touched: Touch[] = [
    { op: "d", before: ["2", null, null] },
    { op: "u", after: ["2", "a", UNCHANGED], before: ["1", null, null] },
  ];
  const rows = [
    ["1", "a", "body of one"],
    ["2", "b", "body of two"],
  ];
  expect(applied({ rows, touched })).toEqual([]);
});

test("rows that swap a deferred key get nothing from each other", () => {
  const table = tableVersion({ ...spec, deferrableKey: true });
  const touched: Touch[] = [
    { op: "u", after: ["2", "a", UNCHANGED], before: ["1", "a", "body of one"] },
    { op: "u", after: ["1", "b", UNCHANGED], before: ["2", "b", "body of two"] },
  ];
  const rows = [
    ["1", "a", "body of one"],
    ["2", "b", "body of two"],
  ];
  expect(applied({ rows, touched, table })).toEqual([]);
});

test("listed keys that the source no longer has are deleted, unless the stream brought them", () => {
  const read = { rows: [["1", "a", "b"]], keys: [["1"], ["2"], ["3"]] };
  expect(applied({ ...read, touched: [{ op: "c", after: ["3", "n", null] }] })).toEqual([
    { row: ["1", "a", "b"], version: LOW },
    { gone: "2", version: LOW },
  ]);
  expect(applied({ rows: [], keys: [["4"]] })).toEqual([{ gone: "4", version: LOW }]);
});

test("other tables' changes are no concern", () => {
  const other = tableVersion({ ...spec, table: "others" });
  const { window } = windowOf({ rows: [["1", "a", "b"]] });
  const stream = blockOf([
    { table: other, op: "u", after: ["1", "x", "y"] },
    { table: other, op: "t" },
  ]);
  window.touch(stream, 0, stream.count);
  expect(window.close(() => true)).toMatchObject({ block: { count: 1 } });
});

test("a truncate, a change of shape and a transaction that the read did not see spoil it, and let go of its rows", () => {
  expect(applied({ rows: [["1", "a", "b"]], touched: [{ op: "t" }] })).toBe("truncated");
  const shape = windowOf({ rows: [["1", "a", "b"]] });
  shape.window.spoil("schema changed");
  expect([shape.window.close(() => true), shape.released()]).toEqual(["schema changed", 1]);
  const unseen = windowOf({ rows: [["1", "a", "b"]] });
  expect([unseen.window.close((sees) => sees(1) && false), unseen.released()]).toEqual(["not yet visible", 1]);
});

test("a window that is given up lets go of its rows once", () => {
  const { window, released } = windowOf({ rows: [["1", "a", "b"]] });
  window.discard();
  window.discard();
  expect(released()).toBe(1);
});

test.each([
  ["sees its last change: as of that", true, [{ row: ["1", "new", "b"], version: at(2000n) }]],
  ["does not: read again", false, []],
])("a row that only the source can tell, of which the chunk's snapshot %s", (_what, isSeen, expected) => {
  for (const keys of [undefined, [["1"]]]) {
    const window = new ApplyWindow("w", notes.id);
    window.low(LOW);
    const block = blockOf([{ table: notes, op: "r", after: ["1", "new", "b"], commit: 0n }]);
    window.fill(notes, { block, last: null, sees: (xid) => xid !== 77 || isSeen }, keys ?? null, 0);
    const stream = blockOf([{ table: notes, op: "u", after: ["1", UNCHANGED, UNCHANGED], commit: 2000n }]);
    stream.op[0] = OP_UNTOLD;
    stream.transactions.xid[stream.tx[0]!] = 77;
    window.touch(stream, 0, 1);
    const closed = window.close(() => true);
    if (typeof closed === "string") throw new Error(closed);
    const made = closed.block;
    expect(made === null ? [] : Array.from({ length: made.count }, (_, row) => entry(made, row, notes))).toEqual(
      expected,
    );
  }
});

test("more than a window keeps ends it, and says so to who reads", () => {
  const window = new ApplyWindow("w", notes.id, { keyCountMax: 3, byteCountMax: 1 << 20 });
  window.low(LOW);
  const changes = (ids: readonly number[]): Change[] =>
    ids.map((id) => ({ table: notes, op: "c", after: [String(id), "n", "b"], commit: 2000n }));
  const few = blockOf(changes([1, 2, 3, 1, 2]));
  window.touch(few, 0, few.count);
  expect(window.overfull.aborted).toBe(false);
  const more = blockOf(changes([4, 5]));
  window.touch(more, 0, more.count);
  expect(window.overfull.aborted).toBe(true);
  window.fill(notes, { block: null, last: null, sees: () => true }, null, 0);
  expect(window.close(() => true)).toBe("overfull");
});
