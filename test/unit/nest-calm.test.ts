/** When changed documents are read while full batches come. */
import { expect, test } from "vitest";
import { Calm } from "../../connectors/nest/calm.ts";

test("at once after a batch that is not full, soon after a full one that none follows, and at intervals while they follow", () => {
  const calm = new Calm();
  expect(calm.leftMs(0)).toBe(0);
  calm.ended(0.4, 0);
  expect(calm.leftMs(0)).toBe(0);

  calm.ended(0.5, 1_000);
  expect([1_000, 1_099, 1_100].map((atMs) => calm.leftMs(atMs))).toEqual([100, 1, 0]);
  calm.begun();
  expect([1_100, 1_499, 1_500].map((atMs) => calm.leftMs(atMs))).toEqual([400, 1, 0]);
  calm.ended(1, 1_450);
  expect([1_450, 1_500].map((atMs) => calm.leftMs(atMs))).toEqual([50, 0]);

  // From the reading on entries wait again.
  calm.read();
  expect(calm.leftMs(1_500)).toBe(0);
  calm.ended(1, 1_600);
  calm.begun();
  expect(calm.leftMs(1_600)).toBe(500);
  calm.ended(0, 1_700);
  expect(calm.leftMs(1_700)).toBe(0);
});
