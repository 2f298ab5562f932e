/** What a SQLite sink makes of values that no suite over Postgres' types has, and of SQLite's failures. */
import { expect, test } from "vitest";
import { classify } from "../../connectors/sqlite/errors.ts";
import { sqliteType } from "../../connectors/sqlite/types.ts";
import { CellValues } from "../../connectors/sqlite/write/cells.ts";
import { CELL_TEXT } from "../../src/core/model/tuple.ts";
import type { ColumnType } from "../../src/core/model/types.ts";

const unsigned: ColumnType = { kind: "int", bits: 64, signed: false };
const signed: ColumnType = { kind: "int", bits: 64, signed: true };
const double: ColumnType = { kind: "float", bits: 64 };

test.each([
  [unsigned, "0", 0n],
  [unsigned, "9223372036854775807", 9_223_372_036_854_775_807n],
  [unsigned, "9223372036854775808", "9223372036854775808"],
  [unsigned, "18446744073709551615", "18446744073709551615"],
  [signed, "-9223372036854775808", -9_223_372_036_854_775_808n],
  [signed, "999999999999999", 999_999_999_999_999],
  [signed, "-17", -17],
  [signed, "12a", "12a"],
  [double, "NaN", "NaN"],
  [double, "-0", -0],
  [double, "-Infinity", Number.NEGATIVE_INFINITY],
] as const)("%j %s is bound as %s", (type, text, value) => {
  const column = { name: "c", type, native: "", nullable: true, identity: 1 };
  const cells = new CellValues();
  const bytes = Buffer.from(`..${text}..`);
  cells.over(bytes);
  expect(cells.read(sqliteType(column, false, false).form, type, CELL_TEXT, 2, text.length)).toBe(value);
});

test.each([
  [5, "MR2026", "retryable"],
  [8, "MR3203", "blocked"],
  [14, "MR3203", "blocked"],
  [13, "MR3213", "blocked"],
  [778, "MR3213", "blocked"],
  [11, "MR3202", "fatal"],
  [26, "MR3202", "fatal"],
  [7, "MR2006", "retryable"],
  [21, "MR2027", "retryable"],
])("SQLite's result %i is %s, and names the file but no value", (errcode, code, kind) => {
  const error = Object.assign(new Error("a value of a row"), { errcode });
  const known = classify(error, "writing", "/data/r.sqlite");
  expect(known).toMatchObject({ code, kind });
  expect(`${known.message} ${String(known.cause)}`).not.toContain("a value");
  if (code !== "MR2006") expect(known.message).toContain("/data/r.sqlite");
  if (code === "MR3213") expect(known.message).toMatch(/bytes free/);
});
