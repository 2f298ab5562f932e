/** When changed documents are read while full batches come. */
import { expect, test } from "vitest";
import { ReadDelay } from "../../connectors/nest/read-delay.ts";

test("at once after a batch that is not full, soon after a full one that none follows, and at intervals while they follow", () => {
  const delay = new ReadDelay();
  expect(delay.leftMs(0)).toBe(0);
  delay.ended(0.4, 0);
  expect(delay.leftMs(0)).toBe(0);

  delay.ended(0.5, 1_000);
  expect([1_000, 1_099, 1_100].map((atMs) => delay.leftMs(atMs))).toEqual([100, 1, 0]);
  delay.begun();
  expect([1_100, 1_499, 1_500].map((atMs) => delay.leftMs(atMs))).toEqual([400, 1, 0]);
  delay.ended(1, 1_450);
  expect([1_450, 1_500].map((atMs) => delay.leftMs(atMs))).toEqual([50, 0]);

  // From the reading on entries wait again.
  delay.read();
  expect(delay.leftMs(1_500)).toBe(0);
  delay.ended(1, 1_600);
  delay.begun();
  expect(delay.leftMs(1_600)).toBe(500);
  delay.ended(0, 1_700);
  expect(delay.leftMs(1_700)).toBe(0);
});
