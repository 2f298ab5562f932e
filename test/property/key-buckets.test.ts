import * as fc from "fast-check";
import { expect, test } from "vitest";
import { KeyBuckets, KeyHashes } from "../../src/reconcile/rows/key-buckets.ts";

const ids = fc.uniqueArray(fc.oneof(fc.nat({ max: 10_000 }).map(String), fc.string()), { maxLength: 300 });

function hashesOf(keys: readonly string[]): KeyHashes {
  const hashes = new KeyHashes();
  for (const key of keys) hashes.add(key);
  return hashes;
}

test("a key that one side alone has lies in an uneven bucket, in whatever order keys come", () => {
  fc.assert(
    fc.property(ids, fc.func(fc.constantFrom("both", "both", "both", "source", "sink")), (keys, sideOf) => {
      const buckets = new KeyBuckets();
      const ofSource = keys.filter((key) => sideOf(key) !== "sink");
      const ofSink = keys.filter((key) => sideOf(key) !== "source");
      const half = ofSource.length >> 1;
      for (const some of [ofSource.slice(0, half), ofSource.slice(half)]) buckets.ofSource(hashesOf(some));
      for (const key of ofSink.toReversed()) buckets.ofSink(key);
      const single = keys.filter((key) => sideOf(key) !== "both");
      expect(single.filter((key) => !buckets.isUneven(key))).toEqual([]);
      expect(buckets.allEven).toBe(single.length === 0);
    }),
    { numRuns: 2_000 },
  );
});

test("of many keys, that come in parts, none of one side is missed", () => {
  const buckets = new KeyBuckets();
  const keys = Array.from({ length: 20_000 }, (_, i) => String(i));
  for (let at = 0; at < keys.length; at += 3_000) buckets.ofSource(hashesOf(keys.slice(at, at + 3_000)));
  for (const key of keys) if (key !== "77" && key !== "19999") buckets.ofSink(key);
  buckets.ofSink("more");
  expect(buckets.allEven).toBe(false);
  expect(["77", "19999", "more"].filter((key) => !buckets.isUneven(key))).toEqual([]);
  expect(keys.filter((key) => buckets.isUneven(key)).length).toBeLessThan(20);
});

test("beside a key that one side alone has, the others of its bucket are known to be on both", () => {
  const buckets = new KeyBuckets();
  // Half as many as buckets, so each key has another in its bucket in half of all cases.
  const keys = Array.from({ length: 2 ** 19 }, (_, i) => String(i));
  buckets.ofSource(hashesOf(keys));
  const isSingle = (i: number): boolean => i % 1_000 === 0;
  keys.forEach((key, i) => {
    if (!isSingle(i)) buckets.ofSink(key);
  });
  const added = keys.filter((_, i) => isSingle(i)).map((key) => `+${key}`);
  for (const key of added) buckets.ofSink(key);
  // Some buckets have two such keys.
  const uneven = keys.flatMap((key, i) => (buckets.isUneven(key) ? [i] : []));
  expect(uneven.filter(isSingle)).toHaveLength(added.length);
  expect(uneven.length).toBeLessThan(1.1 * added.length);
  expect(added.filter((key) => !buckets.isUneven(key))).toEqual([]);
});

test("keys that follow each other are spread over the buckets", () => {
  const buckets = new KeyBuckets();
  buckets.ofSource(hashesOf(Array.from({ length: 4_095 }, (_, i) => String(i))));
  const even = Array.from({ length: 20_000 }, (_, i) => String(100_000 + i)).filter((key) => !buckets.isUneven(key));
  // Of a quarter as many keys as buckets some 78 % stay empty.
  expect(even.length / 20_000).toBeGreaterThan(0.74);
  expect(even.length / 20_000).toBeLessThan(0.82);
});
