/** Every built-in type with its edge values: our text and JSON against what the server itself prints and sends. */
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EDGE_TYPES, edgeValues, vectorValues } from "../support/postgres/postgres-edge-values.ts";
import { freshDatabase, type FreshDatabase } from "../support/run/services.ts";
import { type Oracle, valueOracle } from "../support/model/value-oracle.ts";

let database: FreshDatabase;
let oracle: Oracle;

beforeAll(async () => {
  database = await freshDatabase();
  oracle = await valueOracle(database);
  await database.query(EDGE_TYPES);
});

afterAll(async () => {
  await database[Symbol.asyncDispose]();
});

describe("edge values are printed as the server prints them, from text and binary alike", () => {
  for (const [native, values, type] of [...edgeValues, ...vectorValues])
    test(native, () => oracle.judge(native, values, type));
});

/** Batches, so that a few round trips judge thousands of values. */
async function judgeRandom(native: string, value: fc.Arbitrary<string>): Promise<void> {
  const batch = fc.array(value, { minLength: 100, maxLength: 300 });
  await fc.assert(
    fc.asyncProperty(batch, (values) => oracle.judge(native, values)),
    { numRuns: 10 },
  );
}

const float64Bits = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((bits) => {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, bits);
  return view.getFloat64(0);
});
const float32Bits = fc.integer({ min: 0, max: 2 ** 32 - 1 }).map((bits) => {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bits);
  return view.getFloat32(0);
});
/** Few digits times a power of ten, and powers of two with their neighbours: where shortest forms are hard. */
const awkward = fc.oneof(
  fc.tuple(fc.bigInt(1n, 10n ** 17n), fc.integer({ min: -30, max: 30 })).map(([d, e]) => Number(`${d}e${e}`)),
  fc.tuple(fc.bigInt(1n, 1000n), fc.integer({ min: 10, max: 30 })).map(([d, e]) => Number(`${d}e${e}`)),
  fc
    .tuple(fc.integer({ min: -1074, max: 1023 }), fc.integer({ min: -2, max: 2 }))
    .map(([e, n]) => 2 ** e * (1 + n * 2 ** -52)),
  fc
    .tuple(fc.integer({ min: -149, max: 127 }), fc.integer({ min: -2, max: 2 }))
    .map(([e, n]) => 2 ** e * (1 + n * 2 ** -23)),
);
/** The server takes no float that its type rounds to zero or to infinity. */
const fitsFloat32 = (value: number) =>
  Number.isNaN(value) ||
  !Number.isFinite(value) ||
  value === 0 ||
  (Math.fround(value) !== 0 && Number.isFinite(Math.fround(value)));

const sign = fc.constantFrom("", "-");
const digits = (max: number) =>
  fc.string({ unit: fc.constantFrom(...Array.from("0123456789")), minLength: 1, maxLength: max });
const year = fc.oneof(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 294_000 }));
const clock = fc
  .tuple(fc.integer({ min: 0, max: 86_399 }), fc.integer({ min: 0, max: 999_999 }))
  .map(([s, us]) => `${Math.floor(s / 3600)}:${Math.floor(s / 60) % 60}:${s % 60}.${String(us).padStart(6, "0")}`);
const day = fc
  .tuple(year, fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 28 }), fc.boolean())
  .map(([y, m, d, bc]) => ({
    date: `${String(bc ? (y % 4712) + 1 : y).padStart(4, "0")}-${m}-${d}`,
    era: bc ? " BC" : "",
  }));
const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 40 }).map((value) => value.replaceAll("\0", "")),
  fc.string({ unit: fc.constantFrom(...Array.from('nulNUL"\\{},; \t\n\u000b')), maxLength: 8 }),
);
const quoted = (value: string | null) => (value === null ? "NULL" : `"${value.replaceAll(/["\\]/g, "\\$&")}"`);

describe("random values are printed as the server prints them", () => {
  test("int8", () => judgeRandom("int8", fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n).map(String)));
  test("float8", () => judgeRandom("float8", fc.oneof(float64Bits, awkward, fc.double()).map(String)));
  test("float4", () =>
    judgeRandom(
      "float4",
      fc
        .oneof(float32Bits, awkward, fc.float())
        .filter(fitsFloat32)
        .map((v) => String(Math.fround(v))),
    ));
  test("numeric", () =>
    judgeRandom(
      "numeric",
      fc.tuple(sign, digits(60), digits(60)).map(([s, whole, part]) => `${s}${whole}.${part}`),
    ));
  test("small numeric", () =>
    judgeRandom(
      "numeric",
      fc.tuple(sign, digits(9), fc.integer({ min: -40, max: 40 })).map(([s, d, e]) => `${s}${d}e${e}`),
    ));
  test("date", () =>
    judgeRandom(
      "date",
      day.map(({ date, era }) => date + era),
    ));
  test("timestamp", () =>
    judgeRandom(
      "timestamp",
      fc.tuple(day, clock).map(([d, c]) => `${d.date} ${c}${d.era}`),
    ));
  test("timestamptz", () =>
    judgeRandom(
      "timestamptz",
      fc.tuple(day, clock).map(([d, c]) => `${d.date} ${c}+00${d.era}`),
    ));
  test("time", () => judgeRandom("time", clock));
  test("text", () => judgeRandom("text", text));
  test("bytea", () =>
    judgeRandom(
      "bytea",
      fc.uint8Array({ maxLength: 50 }).map((b) => `\\x${Buffer.from(b).toString("hex")}`),
    ));
  test("jsonb", () =>
    judgeRandom(
      "jsonb",
      fc.json({ stringUnit: "grapheme" }).map((v) => v.replaceAll("\\u0000", "")),
    ));
  test("text[]", () =>
    judgeRandom(
      "text[]",
      fc.array(fc.option(text)).map((list) => `{${list.map(quoted).join(",")}}`),
    ));
  test("text[] of two dimensions with bounds", () =>
    judgeRandom(
      "text[]",
      fc
        .tuple(
          fc.integer({ min: -5, max: 5 }),
          fc.array(fc.tuple(text, fc.option(text)), { minLength: 1, maxLength: 5 }),
        )
        .map(([lower, rows]) => {
          const cells = rows.map((row) => `{${row.map(quoted).join(",")}}`).join(",");
          return `[${lower}:${lower + rows.length - 1}][0:1]={${cells}}`;
        }),
    ));
});

test("the judge itself objects to a wrong value", async () => {
  await expect(oracle.judge("numeric", ["1.10"], { kind: "float", bits: 64 })).rejects.toThrow();
  await expect(oracle.judge("time", ["00:00:01"], { kind: "decimal", precision: null, scale: null })).rejects.toThrow();
});
