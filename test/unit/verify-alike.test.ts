/** Values that two databases spell otherwise are one value to `millrace verify`, and others are not. */
import { describe, expect, test } from "vitest";
import type { Untyped } from "../../src/core/contracts/readable.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { spellings } from "../../src/core/values/alike.ts";

const DECIMAL: ColumnType = { kind: "decimal", precision: null, scale: null };
const FLOAT: ColumnType = { kind: "float", bits: 64 };
const INT: ColumnType = { kind: "int", bits: 32, signed: true };
const BOOL: ColumnType = { kind: "bool" };
const TEXT: ColumnType = { kind: "text" };
const JSON_TYPE: ColumnType = { kind: "json" };
const ZONED: ColumnType = { kind: "timestamp", zone: true };
const DOCUMENT = { kind: "untyped", hasNulls: true } as const;
const HASH = { kind: "untyped", hasNulls: false } as const;
const UNZONED: ColumnType = { kind: "timestamp", zone: false };

function isAlike(a: ColumnType, ofA: string, b: ColumnType | Untyped, ofB: string): boolean | null {
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
  [DECIMAL, "1.50", DOCUMENT, "1.5"],
  [BOOL, "t", DOCUMENT, "true"],
  [INT, "0", HASH, "false"],
  [ZONED, "2026-01-02 03:04:05.1+00", DOCUMENT, "2026-01-02T04:04:05.100000+01:00"],
  [ZONED, "2026-01-02 03:04:05.678+00", HASH, "1767323045678"],
  [ZONED, "2026-01-02 03:04:05.678901+00", HASH, "1767323045678901"],
  [ZONED, "2026-01-02 03:04:05+00", HASH, "1767323045"],
  [UNZONED, "1969-12-31 23:59:59.5", DOCUMENT, "1969-12-31T23:59:59.500Z"],
  [UNZONED, "1960-01-01 00:00:00.5", DOCUMENT, "-315619199500"],
  [UNZONED, "0044-03-15 00:00:00 BC", DOCUMENT, "-000043-03-15T00:00:00Z"],
  [UNZONED, "infinity", DOCUMENT, "infinity"],
  [{ kind: "date" }, "2026-01-02", DOCUMENT, "2026-01-02T00:00:00.000Z"],
  [{ kind: "date" }, "2026-01-02", HASH, "20455"],
  [{ kind: "time" }, "03:04:05.1", DOCUMENT, "03:04:05.100"],
  [JSON_TYPE, '{"b": 1.50, "a": []}', DOCUMENT, '{"a":[],"b":1.5}'],
  [JSON_TYPE, '"x"', DOCUMENT, "x"],
  [JSON_TYPE, '{"a": 1}', DOCUMENT, '"{\\"a\\":1}"'],
  [{ kind: "array", of: TEXT }, '{a,"b c",NULL}', DOCUMENT, '["a", "b c", null]'],
  [{ kind: "array", of: DECIMAL }, "{1.50}", DOCUMENT, "[1.5]"],
  [{ kind: "array", of: ZONED }, '{"2026-01-02 03:04:05+00"}', DOCUMENT, '["2026-01-02T03:04:05Z"]'],
  [{ kind: "array", of: INT }, "[0:1]={1,2}", HASH, "{1,2}"],
  [{ kind: "bytes" }, "\\x00ff", DOCUMENT, "AP8="],
  [{ kind: "bytes" }, "\\x00ff", HASH, "\\x00FF"],
  [{ kind: "bytes" }, "\\x", DOCUMENT, ""],
  [{ kind: "vector", form: "single", dimension: 2 }, "[1,0.5]", DOCUMENT, "[1.0, 0.50]"],
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

  test.each([
    [TEXT, "1.0", DOCUMENT, "1"],
    [TEXT, "", DOCUMENT, "x"],
    [BOOL, "t", DOCUMENT, "yes"],
    [ZONED, "2026-01-02 03:04:05.1+00", DOCUMENT, "2026-01-02T03:04:05Z"],
    [{ kind: "date" }, "2026-01-02", DOCUMENT, "2026-01-02T01:00:00Z"],
    [{ kind: "array", of: TEXT }, "{a}", DOCUMENT, '["b"]'],
    [{ kind: "array", of: INT }, "{1}", DOCUMENT, "{"],
    [{ kind: "bytes" }, "\\x00ff", DOCUMENT, "AP4="],
  ] as const)("%j %s and %j %s", (a, ofA, b, ofB) => expect(isAlike(a, ofA, b, ofB)).toBe(false));

  test("an empty text is a null where the store has none, and where the type has no such value", () => {
    const nulls = (type: ColumnType, other: Untyped) => spellings(type, other)!.map((spell) => spell("") === null);
    expect(nulls(TEXT, DOCUMENT)).toEqual([false, false]);
    expect(nulls(TEXT, HASH)).toEqual([true, true]);
    expect(nulls(INT, DOCUMENT)).toEqual([true, true]);
    expect(spellings({ kind: "bytes" }, HASH)![0]("\\x")).toBeNull();
    expect(spellings(JSON_TYPE, DOCUMENT)![0]("null")).toBeNull();
  });

  test("kinds that say different things are not compared", () => {
    expect(isAlike(ZONED, "2026-01-02 03:04:05+00", INT, "1")).toBeNull();
    expect(isAlike({ kind: "bytes" }, "\\x00", TEXT, "x")).toBeNull();
    expect(isAlike({ kind: "date" }, "2026-01-02", UNZONED, "2026-01-02 00:00:00")).toBeNull();
  });
});
