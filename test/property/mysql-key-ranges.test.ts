/** Where a large table of MySQL is cut. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cutColumn, cutKeys, type KeyRange } from "../../connectors/mysql/source/snapshot/cut-table.ts";
import type { Column } from "../../src/core/model/schema.ts";
import type { ColumnType } from "../../src/core/model/types.ts";

const MAX = 2n ** 64n - 1n;
const COUNT = 16;

const holds = ({ from, to }: KeyRange, key: bigint): boolean =>
  (from === null || key >= from) && (to === null || key < to);

/** Counts as a server would that knows its rows. */
const counting =
  (keys: readonly bigint[]) =>
  async (ranges: readonly KeyRange[]): Promise<readonly number[]> =>
    ranges.map((range) => keys.filter((key) => holds(range, key)).length);

test("every key is in one range, whatever the server estimates", async () => {
  const keys = fc.bigInt({ min: -(2n ** 63n), max: MAX });
  const estimates = fc.infiniteStream(fc.oneof(fc.nat(), fc.constant(Number.NaN), fc.double()));
  await fc.assert(
    fc.asyncProperty(keys, keys, fc.integer({ min: 1, max: 64 }), fc.array(keys), estimates, async (...drawn) => {
      const [a, b, count, others, rows] = drawn;
      const [low, high] = a < b ? [a, b] : [b, a];
      const ranges = await cutKeys(low, high, count, async (asked) => asked.map(() => rows.next().value));
      const bounds = ranges.flatMap(({ to }) => (to === null ? [] : [to]));
      expect(bounds.every((bound) => bound > low && bound <= high)).toBe(true);
      for (const key of [low, high, low - 1n, high + 1n, ...others, ...bounds, ...bounds.map((bound) => bound - 1n)])
        expect(ranges.filter((range) => holds(range, key))).toHaveLength(1);
    }),
  );
});

describe("ranges have about the same number of rows", () => {
  const dense = Array.from({ length: 2000 }, (_, i) => BigInt(i));
  test.each([
    ["dense keys", dense],
    ["one row far away", [...dense, MAX]],
    ["a huge gap below zero", [-(2n ** 63n), ...dense.map((key) => key - 5000n)]],
    ["three places", dense.map((key) => key + 2n ** (20n * (key % 3n)))],
    ["sparse", dense.map((key) => key * 1_000_003n * 1_000_003n)],
  ])("%s", async (_, keys) => {
    const low = keys.reduce((a, b) => (a < b ? a : b));
    const high = keys.reduce((a, b) => (a > b ? a : b));
    const ranges = await cutKeys(low, high, COUNT, counting(keys));
    const rows = await counting(keys)(ranges);
    expect(Math.max(...rows)).toBeLessThanOrEqual((2 * keys.length) / COUNT);
    expect(ranges.length).toBeLessThanOrEqual(2 * COUNT + 1);
  });

  test("one row, and a key with few values", async () => {
    expect(await cutKeys(7n, 7n, COUNT, counting([7n]))).toEqual([{ from: null, to: null }]);
    const few = Array.from({ length: 900 }, (_, i) => BigInt(i % 3));
    expect(await cutKeys(0n, 2n, COUNT, counting(few))).toEqual([
      { from: null, to: 1n },
      { from: 1n, to: 2n },
      { from: 2n, to: null },
    ]);
  });
});

describe("columns by which a table is cut", () => {
  const column = (type: ColumnType, native: string): Column => ({
    name: "k",
    type,
    native,
    nullable: false,
    identity: 1,
  });

  test.each([
    ["bigint unsigned", { kind: "int", bits: 64, signed: false }, "18446744073709551615", "18446744073709551615"],
    ["int", { kind: "int", bits: 32, signed: true }, "-5", "-5"],
    ["int unsigned", { kind: "int", bits: 32, signed: false }, "0000000007", "7"],
    ["decimal(30,0)", { kind: "decimal", precision: 30, scale: 0 }, `-1${"0".repeat(29)}`, `-1${"0".repeat(29)}`],
    ["binary(16)", { kind: "bytes" }, "00FF00000000000123456789ABCDEF01", "0x00ff000000000001"],
    ["varbinary(20)", { kind: "bytes" }, "A1", "0xa100000000000000"],
    ["varbinary(20)", { kind: "bytes" }, "", "0x0000000000000000"],
  ] as const)("%s", (native, type, shown, literal) => {
    const cut = cutColumn(column(type, native))!;
    expect(cut.literal(cut.parse(shown))).toBe(literal);
  });

  test.each([
    ["decimal(10,2)", { kind: "decimal", precision: 10, scale: 2 }],
    ["bit(20)", { kind: "int", bits: 32, signed: false }],
    ["year", { kind: "int", bits: 16, signed: true }],
    ["varchar(20)", { kind: "text" }],
    ["uuid", { kind: "uuid" }],
    ["blob", { kind: "bytes" }],
    ["double", { kind: "float", bits: 64 }],
  ] as const)("not %s", (native, type) => {
    expect(cutColumn(column(type, native))).toBe(null);
  });
});
