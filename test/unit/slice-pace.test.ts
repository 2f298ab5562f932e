/** How many rows of a sink are compared at once beside the stream. */
import { expect, test } from "vitest";
import { SlicePace } from "../../src/runtime/comparisons.ts";

const ROW_MS = 0.003;

/** How long slices take in the end, and their rows, where a request takes so long beside its rows. */
function walked(requestMs: number, isBusy: (slice: number) => boolean = () => false): { ms: number; rows: number } {
  const pace = new SlicePace();
  let last = { ms: 0, rows: 0 };
  for (let walk = 0, slice = 0; walk < 20; walk++) {
    for (let i = 0; i < 25; i++, slice++) {
      const rows = pace.rowCount(i === 0);
      const ms = requestMs + rows * ROW_MS;
      pace.took(isBusy(slice) ? ms + 15 : ms, i === 0);
      if (i > 0) last = { ms, rows };
    }
  }
  return last;
}

test("a slice takes a millisecond or some more", () => {
  const { ms, rows } = walked(0.4);
  expect(ms).toBeGreaterThan(0.9);
  expect(ms).toBeLessThan(1.4);
  expect(rows).toBeGreaterThan(150);
});

test("one of a sink that is far away does at least as much as its way costs", () => {
  expect(walked(4).ms).toBeGreaterThan(7);
  expect(walked(20).rows).toBe(2_000);
});

test("a moment in which the machine has other work changes little", () => {
  const { rows } = walked(0.4, (slice) => slice % 7 === 3);
  expect(rows).toBeGreaterThan(80);
  expect(rows).toBeLessThan(500);
});
