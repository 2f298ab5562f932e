import { expect, test } from "vitest";
import { pauseAfter } from "../../src/runtime/comparisons.ts";
import { PART_COUNT, partOf, partOn } from "../../src/reconcile/rows/rotation.ts";

test("as many days in a row as there are parts compare every row once", () => {
  const days = Array.from({ length: PART_COUNT }, (_, day) => partOn(new Date(Date.UTC(2026, 10, 28 + day, 2))));
  expect(new Set(days)).toEqual(new Set([1, 2, 3, 4, 5, 6, 7]));
  const counts = new Map<number, number>();
  for (let id = 0; id < 70_000; id++) {
    const part = partOf(String(id));
    counts.set(part, (counts.get(part) ?? 0) + 1);
  }
  expect(new Set(counts.keys())).toEqual(new Set(days));
  for (const count of counts.values()) expect(count).toBeGreaterThan(9_000);
});

test("a source that is fast is not paused for, one that is slow or behind is, and no longer than five seconds", () => {
  expect(pauseAfter({ readMs: 500, behindMs: 300 })).toBe(0);
  expect(pauseAfter({ readMs: 1_700, behindMs: 300 })).toBe(1_000);
  expect(pauseAfter({ readMs: 500, behindMs: 3_000 })).toBe(2_000);
  expect(pauseAfter({ readMs: 60_000, behindMs: 60_000 })).toBe(5_000);
});
