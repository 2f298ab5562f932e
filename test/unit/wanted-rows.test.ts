/** Which rows of a slice are compared. */
import { expect, test } from "vitest";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import { wantedRows } from "../../src/reconcile/rows/judge.ts";
import { blockOf, tableVersion } from "../support/model/blocks.ts";

const table = tableVersion({ table: "t", columns: { id: "integer" } });
const block = blockOf(["0", "1", "2", "3", "4"].map((id) => ({ table, op: "r", after: [id], commit: 0n })));
// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
const inspection = { id: (_, key) => key.join() } as Partial<Inspection> as Inspection;

test("those that are wanted, but for rows that are no part of it", () => {
  const slice = { block, from: 1, to: 5, isByLog: false, versionMax: 0n };
  const idsOf = (without?: ReadonlySet<number>) =>
    wantedRows(inspection, table, { ...slice, ...(without && { without }) }, (id) => id !== "3").map(({ id }) => id);
  expect(idsOf()).toEqual(["1", "2", "4"]);
  expect(idsOf(new Set([2]))).toEqual(["1", "4"]);
});
