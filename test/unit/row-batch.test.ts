/** Rows and truncates that are one batch: what is left of the rows, and which truncates are passed on. */
import { expect, test } from "vitest";
import { DELETE, isIfHeld, PATCH } from "../../src/core/model/batch.ts";
import type { SinkForm } from "../../src/core/contracts/sink.ts";
import { Compactor } from "../../src/runtime/compaction/compaction.ts";
import { queuedRowsOf, type RowsWork, type TruncateWork } from "../../src/runtime/stream/sink-queue.ts";
import { blockOf, type Change, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { cellsOf } from "../support/model/log-model.ts";

const tableOf = (table: string) => tableVersion({ table, columns: { id: "int8", name: "text", note: "text" } });
const emptied = tableOf("emptied");
const other = tableOf("other");
const START = { epoch: 1, commit: 0n, index: 0 };

type Plain = Omit<Change, "table" | "commit">;

/** The same changes of both tables. */
const rows = (commit: bigint, ...changes: readonly Plain[]): RowsWork => {
  const block = blockOf([emptied, other].flatMap((table) => changes.map((one) => ({ ...one, table, commit }))));
  return { kind: "rows", block, from: 0, to: block.count };
};
const created = (...after: readonly string[]): Plain => ({ op: "c", after });
const changed = (id: string, name: string): Plain => ({ op: "u", after: [id, name, UNCHANGED] });
const truncate = (commit: bigint): TruncateWork => {
  const record = { index: 0, commitTimeUs: 0n, xid: 1, origin: undefined };
  return { kind: "truncate", table: emptied, version: commit, record, until: { epoch: 1, commit, index: 1 } };
};

function batchOf(form: SinkForm, ...works: readonly (RowsWork | TruncateWork)[]) {
  const { slices, truncates, since } = queuedRowsOf(works, START, form)!;
  const { tables } = new Compactor(form).compact(slices, () => true, since);
  const entries = tables.map((writes) => {
    const shown = Array.from({ length: writes.count }, (_, i) => {
      const block = writes.blocks[writes.block[i]!]!;
      const action = writes.action[i]!;
      const cells = cellsOf(
        writes.table,
        block.bytes,
        (action === DELETE ? block.before : block.after)[writes.row[i]!]!,
      );
      const mark = isIfHeld(writes, i) ? "held " : action === PATCH ? "patch " : "";
      return mark + cells.map((cell) => (cell === UNCHANGED ? "=" : String(cell))).join(" ");
    });
    return [writes.table.table, shown] as const;
  });
  return { ...Object.fromEntries(entries), truncates: truncates.map(({ version }) => version) };
}

test("a mirror loses what lies before the last truncate of its table; a history keeps all, and each truncate", () => {
  const works = [
    rows(1n, created("1", "a", "x")),
    truncate(2n),
    rows(3n, created("2", "b", "y")),
    truncate(4n),
    rows(5n, created("3", "c", "z")),
  ];
  const all = ["1 a x", "2 b y", "3 c z"];
  expect(batchOf("mirror", ...works)).toEqual({ emptied: ["3 c z"], other: all, truncates: [4n] });
  expect(batchOf("history", ...works)).toEqual({ emptied: all, other: all, truncates: [2n, 4n] });
});

test("behind a truncate a history completes a change from what follows the truncate, and from nothing else", () => {
  const works = [
    truncate(1n),
    truncate(2n),
    rows(3n, created("1", "a", "x"), created("2", "a", "x")),
    rows(4n, changed("1", "b")),
    truncate(5n),
    rows(6n, changed("1", "c"), changed("1", "d"), { ...changed("2", "c"), isIfHeld: true }),
    rows(7n, created("1", "e", "y"), changed("1", "f")),
  ];
  expect(batchOf("history", ...works)).toEqual({
    emptied: ["1 a x", "2 a x", "1 b x", "patch 1 c =", "patch 1 d =", "held 2 c =", "1 e y", "1 f y"],
    other: ["1 a x", "2 a x", "1 b x", "1 c x", "1 d x", "2 c x", "1 e y", "1 f y"],
    truncates: [1n, 2n, 5n],
  });
});
