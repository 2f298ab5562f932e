/** Values that two databases spell otherwise are one value to `millrace verify`, and others are not. */
import { describe, expect, test } from "vitest";
import type { ColumnType } from "../../src/core/model/types.ts";
import { spellings } from "../../src/core/values/alike.ts";

const DECIMAL: ColumnType = { kind: "decimal", precision: null, scale: null };
const FLOAT: ColumnType = { kind: "float", bits: 64 };
const INT: ColumnType = { kind: "int", bits: 32, signed: true };
const BOOL: ColumnType = { kind: "bool" };
const TEXT: ColumnType = { kind: "text" };
const JSON_TYPE: ColumnType = { kind: "json" };
const ZONED: ColumnType = { kind: "timestamp", zone: true };
const UNZONED: ColumnType = { kind: "timestamp", zone: false };

function isAlike(a: ColumnType, ofA: string, b: ColumnType, ofB: string): boolean | null {
  const pair = spellings(a, b);
  return pair === null ? null : pair[0](ofA) === pair[1](ofB);
}

test.each([
  [DECIMAL, "1.50", DECIMAL, "1.5"],
  [DECIMAL, "0.00", INT, "0"],
  [DECIMAL, "-0.0", INT, "0"],
  [DECIMAL, "100", FLOAT, "100"],
  [DECIMAL, "100000000000000000000", FLOAT, "1e+20"],
  [DECIMAL, "0.000001", FLOAT, "1e-06"],
  [DECIMAL, "-1234.5", FLOAT, "-1.2345e+3"],
  [DECIMAL, "NaN", FLOAT, "NaN"],
  [BOOL, "t", INT, "1"],
  [BOOL, "f", DECIMAL, "0"],
  [ZONED, "2026-01-02 03:04:05.1+00", UNZONED, "2026-01-02 03:04:05.100000"],
  [ZONED, "2026-01-02 03:04:05+00", UNZONED, "2026-01-02 03:04:05.000"],
  [JSON_TYPE, '{"b": 1.50, "a": []}', TEXT, '{"a":[],"b":1.5}'],
  [{ kind: "array", of: INT }, "{1,NULL}", JSON_TYPE, "[1, null]"],
  [{ kind: "uuid" }, "AB000000-0000-0000-0000-000000000000", TEXT, "ab000000-0000-0000-0000-000000000000"],
  [{ kind: "text", padded: true }, "a  ", TEXT, "a"],
] as const)("%j %s and %j %s", (a, ofA, b, ofB) => {
  expect(isAlike(a, ofA, b, ofB)).toBe(true);
});

describe("what is not alike", () => {
  test.each([
    [DECIMAL, "1.5", DECIMAL, "1.51"],
    [DECIMAL, "10", DECIMAL, "1"],
    [DECIMAL, "0.1", DECIMAL, "0.01"],
    [DECIMAL, "-1", DECIMAL, "1"],
    [TEXT, "a ", TEXT, "a"],
    [TEXT, "1.0", TEXT, "1"],
    [JSON_TYPE, "[1, 2]", JSON_TYPE, "[2, 1]"],
    [JSON_TYPE, '["1.0"]', JSON_TYPE, '["1"]'],
    [TEXT, "not json", JSON_TYPE, '"not json"'],
    [ZONED, "2026-01-02 03:04:50+00", UNZONED, "2026-01-02 03:04:05"],
  ] as const)("%j %s and %j %s", (a, ofA, b, ofB) => expect(isAlike(a, ofA, b, ofB)).toBe(false));

  test("kinds that say different things are not compared", () => {
    expect(isAlike(ZONED, "2026-01-02 03:04:05+00", INT, "1")).toBeNull();
    expect(isAlike({ kind: "bytes" }, "\\x00", TEXT, "x")).toBeNull();
    expect(isAlike({ kind: "date" }, "2026-01-02", UNZONED, "2026-01-02 00:00:00")).toBeNull();
  });
});
