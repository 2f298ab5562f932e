/** Rows and truncates that are one batch: what is left of the rows, and which truncates are passed on. */
import { expect, test } from "vitest";
import type { SinkForm } from "../../src/core/contracts/sink.ts";
import { queuedRowsOf, type RowsWork, type TruncateWork } from "../../src/runtime/stream/sink-queue.ts";
import { blockOf, tableVersion } from "../support/model/blocks.ts";

const tableOf = (table: string) => tableVersion({ table, columns: { id: "int8" } });
const emptied = tableOf("emptied");
const other = tableOf("other");
const START = { epoch: 1, commit: 0n, index: 0 };

const rows = (commit: bigint): RowsWork => {
  const block = blockOf([emptied, other].map((table) => ({ table, op: "c" as const, after: ["1"], commit })));
  return { kind: "rows", block, from: 0, to: block.count };
};
const truncate = (commit: bigint): TruncateWork => {
  const record = { index: 0, commitTimeUs: 0n, xid: 1, origin: undefined };
  return { kind: "truncate", table: emptied, version: commit, record, until: { epoch: 1, commit, index: 1 } };
};
const batch = (form: SinkForm) => {
  const { slices, truncates } = queuedRowsOf([rows(1n), truncate(2n), rows(3n), truncate(4n), rows(5n)], START, form)!;
  return {
    emptied: slices.map((slice) => [...(slice.emptied ?? [])]),
    truncates: truncates.map(({ version }) => version),
  };
};

test("a mirror loses what lies before the last truncate of its table; a history keeps all, and each truncate", () => {
  expect(batch("mirror")).toEqual({ emptied: [[emptied.id], [emptied.id], []], truncates: [4n] });
  expect(batch("history")).toEqual({ emptied: [[], [], []], truncates: [2n, 4n] });
});
