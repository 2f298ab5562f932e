/** Why a sink can't be compared yet: what it says of itself, and what it is known to lack. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { TableSnapshot } from "../../src/core/contracts/state-store.ts";
import { type ComparisonParts, Comparisons } from "../../src/runtime/comparisons.ts";
import { tableVersion } from "../support/model/blocks.ts";

const table = tableVersion({ table: "t", columns: { id: "integer" } });

function comparisons(open: readonly Partial<TableSnapshot>[], state = "streaming"): Comparisons {
  const worker = { position: { tables: { [table.id]: "complete" } } };
  const parts = {
    clock: systemClock,
    fanOut: { has: () => true },
    gate: { completeness: () => "complete" },
    lives: [{ name: "cache", state, catchingUp: false, error: null, worker }],
    suspended: { errorOf: () => null },
    state: { snapshots: { unfinished: async () => open } },
  };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of them
  return new Comparisons(parts as unknown as ComparisonParts);
}

const snapshot = { sink: "cache", tableId: table.id, needed: true, scope: { kind: "table" } } as const;

test("a sink that holds a copy is ready", async () => {
  expect(await comparisons([]).unready("cache", table)).toBeNull();
  const others: readonly Partial<TableSnapshot>[] = [
    { ...snapshot, needed: false },
    { ...snapshot, scope: { kind: "differences" } },
  ];
  expect(await comparisons(others).unready("cache", table)).toBeNull();
});

test("one whose copy lacks rows until they are read again is not", async () => {
  expect(await comparisons([snapshot]).unready("cache", table)).toMatchObject({ isWhole: false });
});

test("one that has failed is not waited for", async () => {
  expect(await comparisons([], "failed").unready("cache", table)).toMatchObject({ isWhole: true, isFinal: true });
  expect(await comparisons([], "retrying").unready("cache", table)).toMatchObject({ isWhole: true, isFinal: false });
});
