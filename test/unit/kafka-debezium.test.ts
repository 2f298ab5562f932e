/**
 * Debezium's forms of values. What is expected is what Debezium 3.6.1 gave for the same values, or what its manual says; the tests
 * beside a real Debezium are test/integration/kafka-debezium.
 */
import { describe, expect, test } from "vitest";
import type { Decimals } from "../../connectors/kafka/formats/debezium/fields.ts";
import { fieldOf } from "../../connectors/kafka/formats/debezium/column-fields.ts";
import { writeValue } from "../../connectors/kafka/formats/debezium/values.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import type { DialectName } from "../../src/core/model/schema.ts";
import { CELL_TEXT, CELL_UNCHANGED } from "../../src/core/model/tuple.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { postgresType } from "../support/postgres/postgres-types.ts";

interface Told {
  readonly dialect?: DialectName;
  readonly decimals?: Decimals;
  readonly type?: ColumnType;
}

function tell(
  native: string,
  text: string | null,
  { dialect = "postgres", decimals = "precise", type }: Told = {},
): string | null {
  const field = fieldOf({ native, type: type ?? canonical(native) }, dialect, decimals);
  const bytes = Buffer.from(text ?? "");
  const out = new ByteWriter(64);
  const kind = text === null ? CELL_UNCHANGED : CELL_TEXT;
  const isTold = writeValue(out, field, { kind, bytes, start: 0, length: bytes.length });
  return isTold ? out.view().toString() : null;
}

/** Of the types with digits in the middle too. */
function canonical(native: string): ColumnType {
  return postgresType(native.replace(/^(time|timestamp)\(\d\)/, "$1"));
}

/** The fields of a type's schema. */
function schemaOf(native: string, told: Told = {}): unknown {
  const { schema } = fieldOf(
    { native, type: told.type ?? canonical(native) },
    told.dialect ?? "postgres",
    told.decimals ?? "precise",
  );
  return JSON.parse(`{${schema.type}${schema.rest}}`);
}

function unquoted(json: string | null): string {
  return String(JSON.parse(json ?? "null"));
}

/** The big-endian two's complement number in base64, by another way than the product's. */
function unscaled(text: string): bigint {
  const bytes = Buffer.from(text, "base64");
  return BigInt.asIntN(bytes.length * 8, BigInt(`0x${bytes.toString("hex")}`));
}

const opaque: ColumnType = { kind: "opaque" };

describe("decimals", () => {
  test.each([
    ["0.00", '"AA=="'],
    ["-12.50", '"+x4="'],
    ["1.28", '"AIA="'],
    ["-1.28", '"gA=="'],
    ["1.27", '"fw=="'],
    ["-1.29", '"/38="'],
    ["-0.01", '"/w=="'],
    ["127.99", '"Mf8="'],
  ])("numeric(12,2) %s", (text, expected) => {
    expect(tell("numeric(12,2)", text)).toBe(expected);
  });

  test("have as many digits as the type says, at any size", () => {
    const digits = "12345678901234567890123456789012345";
    for (const sign of ["", "-"]) {
      const told = unquoted(tell("numeric(60,20)", `${sign}${digits}.5`));
      expect(unscaled(told)).toBe(BigInt(`${sign}${digits}5${"0".repeat(19)}`));
    }
    for (let bits = 6n; bits < 80n; bits++) {
      for (const value of [2n ** bits - 1n, 2n ** bits, -(2n ** bits) - 1n, -(2n ** bits)]) {
        const told = unquoted(tell("numeric(60,0)", String(value)));
        expect(unscaled(told)).toBe(value);
        // No byte that only repeats the sign.
        const [first = 0, second = 0, ...rest] = Buffer.from(told, "base64");
        const isRepeated = (first === 0 && second < 128) || (first === 255 && second >= 128);
        expect(isRepeated && rest.length + 2 > 1 && Buffer.from(told, "base64").length > 1, told).toBe(false);
      }
    }
    const negative: ColumnType = { kind: "decimal", precision: 5, scale: -3 };
    expect(tell("numeric(5,-3)", "12346000", { type: negative })).toBe('"MDo="');
    expect(tell("numeric(5,-3)", "0", { type: negative })).toBe('"AA=="');
  });

  test("without a scale carry their own, without zeros at the end", () => {
    expect(tell("numeric", "12.50")).toBe('{"scale":1,"value":"fQ=="}');
    expect(tell("numeric", "100000000000000000000")).toBe('{"scale":0,"value":"BWvHXi1jEAAA"}');
    expect(tell("numeric", "-0.00000000012300")).toBe('{"scale":12,"value":"hQ=="}');
    expect(tell("numeric", "0.00")).toBe('{"scale":0,"value":"AA=="}');
  });

  test("that are no number have words, or no form", () => {
    const words = ["NaN", "Infinity", "-Infinity"];
    expect(words.map((word) => tell("numeric", word))).toEqual([null, null, null]);
    expect(words.map((word) => tell("numeric(12,2)", word))).toEqual([null, null, null]);
    expect(words.map((word) => tell("numeric", word, { decimals: "string" }))).toEqual([
      '"NAN"',
      '"POSITIVE_INFINITY"',
      '"NEGATIVE_INFINITY"',
    ]);
    expect(words.map((word) => tell("numeric", word, { decimals: "double" }))).toEqual([
      '"NaN"',
      '"Infinity"',
      '"-Infinity"',
    ]);
    expect(tell("numeric", "1.10", { decimals: "string" })).toBe('"1.10"');
    expect(tell("numeric", "-1.10", { decimals: "double" })).toBe("-1.1");
    // Within an array null is all that Connect has.
    expect(tell("numeric[]", "{1.10,NaN}")).toBe('[{"scale":1,"value":"Cw=="},null]');
  });

  test("money, however it is spelled", () => {
    const money = (text: string, decimals: Decimals = "precise"): string | null =>
      tell("money", text, { type: opaque, decimals });
    expect([money("$12.34"), money("-$1.50"), money("$0.00")]).toEqual(['"BNI="', '"/2o="', '"AA=="']);
    expect(money("$92,233,720,368,547,758.07")).toBe('"f/////////8="');
    expect([money("1.234,50 €", "string"), money("($1,234.50)", "string"), money("¥1,234", "string")]).toEqual([
      '"1234.50"',
      '"-1234.50"',
      '"1234.00"',
    ]);
    expect(money("-$1.50", "double")).toBe("-1.5");
  });
});

test.each([
  ["float8", "-0", "-0.0"],
  ["float8", "NaN", '"NaN"'],
  ["float8", "1e+20", "1e+20"],
  ["date", "2024-02-29", "19782"],
  ["date", "0044-03-15 BC", "-735160"],
  ["date", "infinity", "-2147472692"],
  ["date", "-infinity", "-2147472691"],
  ["time", "12:00:00.123456", "43200123456"],
  ["time", "24:00:00", "86400000000"],
  ["time(3) without time zone", "12:00:00.123", "43200123"],
  ["timestamp without time zone", "2024-02-29 12:30:00.25", "1709209800250000"],
  ["timestamp without time zone", "0044-03-15 12:00:00 BC", "-63517780800000000"],
  ["timestamp without time zone", "1969-12-31 23:59:59.999999", "-1"],
  ["timestamp without time zone", "infinity", "9223372036825200000"],
  ["timestamp without time zone", "-infinity", "-9223372036832400000"],
  ["timestamp without time zone", "294276-12-31 23:59:59.999999", "9223372036854775807"],
  ["timestamp(3) without time zone", "1900-01-01 00:00:00.001", "-2208988799999"],
  ["timestamp(0) without time zone", "-infinity", "-9223372036832400"],
  ["timestamp with time zone", "2024-02-29 12:30:00.25+00", '"2024-02-29T12:30:00.250000Z"'],
  ["timestamp(3) with time zone", "2024-02-29 12:30:00.25+00", '"2024-02-29T12:30:00.250Z"'],
  ["timestamp(0) with time zone", "2024-02-29 12:30:00+00", '"2024-02-29T12:30:00Z"'],
  ["timestamp with time zone", "0044-03-15 12:00:00.5+00 BC", '"-0043-03-15T12:00:00.500000Z"'],
  ["timestamp with time zone", "0001-06-15 00:00:00+00 BC", '"0000-06-15T00:00:00.000000Z"'],
  ["timestamp with time zone", "10000-01-01 00:00:00+00", '"+10000-01-01T00:00:00.000000Z"'],
  ["timestamp with time zone", "-infinity", '"-infinity"'],
  ["json", '{"a":\n1}', String.raw`"{\"a\":\n1}"`],
  ["text[]", '{a,"b \\"c\\\\",NULL,"NULL",""}', String.raw`["a","b \"c\\",null,"NULL",""]`],
  ["int4[]", "[0:1][1:2]={{1,2},{3,NULL}}", "[1,2,3,null]"],
  ["int4[]", "{}", "[]"],
  ["date[]", "{2024-02-29,NULL}", "[19782,null]"],
  ["bytea[]", '{"\\\\x00ff"}', '["AP8="]'],
])("%s %s", (native, text, expected) => {
  expect(tell(native, text)).toBe(expected);
});

test.each([
  ["interval", "1 year 2 mons -3 days +04:05:06.789", "36572706789000"],
  ["interval", "-1 years -2 mons +3 days -04:05:06.789", "-36572706789000"],
  ["interval", "178000000 years", "9223372036854775807"],
  ["interval", "00:00:00", "0"],
  ["interval(3)", "-00:00:01.5", "-1500000"],
  ["time with time zone", "12:00:00.5-08", '"20:00:00.5Z"'],
  ["time with time zone", "24:00:00+05:30", '"18:30:00Z"'],
  ["time(3) with time zone", "00:00:00.000001-15:59", '"15:59:00.000001Z"'],
  ["time with time zone", "01:00:00+02:00:30", '"22:59:30Z"'],
  ["time with time zone", "24:00:00+00", '"24:00:00Z"'],
  ["bit(1)", "1", "true"],
  ["bit varying(1)", "0", "false"],
  ["bit(5)", "10101", '"FQ=="'],
  ["bit(12)", "100000000011", '"Awg="'],
  ["bit(5)", "00000", '""'],
  ["bit varying", "00000000100000000", '"AAE="'],
  ["hstore", '"a"=>"1", "b"=>NULL', String.raw`"{\"a\":\"1\",\"b\":null}"`],
  ["public.hstore", String.raw`"c \"d\\"=>"é, =>"`, String.raw`"{\"c \\\"d\\\\\":\"é, =>\"}"`],
  ["point", "(1.5,-2)", '{"x":1.5,"y":-2,"wkb":"AQEAAAAAAAAAAAD4PwAAAAAAAADA","srid":null}'],
  ["inet", "10.0.0.1/8", '"10.0.0.1/8"'],
  ["box", "(3,4),(1,2)", '"(3,4),(1,2)"'],
])("%s %s", (native, text, expected) => {
  expect(tell(native, text, { type: opaque })).toBe(expected);
});

test.each<[string, ColumnType, string, string]>([
  ["bigint unsigned", { kind: "int", bits: 64, signed: false }, "18446744073709551615", "-1"],
  ["bit(12)", { kind: "int", bits: 16, signed: false }, "2051", '"Awg="'],
  ["bit(64)", { kind: "int", bits: 64, signed: false }, "1", '"AQAAAAAAAAA="'],
  ["time(6)", opaque, "-838:59:58.500000", "-3020398500000"],
  ["time", opaque, "12:00:01", "43201000000"],
  ["datetime(3)", { kind: "timestamp", zone: false }, "2024-02-29 12:30:00.25", "1709209800250"],
  ["datetime(4)", { kind: "timestamp", zone: false }, "2024-02-29 12:30:00.25", "1709209800250000"],
  ["timestamp(3)", { kind: "timestamp", zone: true }, "2024-02-29 12:30:00.25+00", '"2024-02-29T12:30:00.250Z"'],
  ["set('a','b')", opaque, "a,b", '"a,b"'],
  [
    "point",
    { kind: "bytes" },
    "\\x0101000020e61000000000000000000040000000000000f03f",
    '{"x":2,"y":1,"wkb":"AQEAAAAAAAAAAAAAQAAAAAAAAPA/","srid":4326}',
  ],
  [
    "geometry",
    { kind: "bytes" },
    "\\x0101000000000000000000f03f0000000000000040",
    '{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}',
  ],
])("MySQL %s", (native, type, text, expected) => {
  expect(tell(native, text, { dialect: "mysql", type })).toBe(expected);
});

test("a value that the log leaves out has the placeholder in its type's form, and is never an empty one", () => {
  const word = "__debezium_unavailable_value";
  const base64 = Buffer.from(word).toString("base64");
  const codes = JSON.stringify([...Buffer.from(word)]);
  for (const native of ["text", "jsonb", "character varying(5)"]) expect(tell(native, null)).toBe(`"${word}"`);
  expect(tell("bytea", null)).toBe(`"${base64}"`);
  expect(tell("numeric(2000,2)", null)).toBe(`"${base64}"`);
  expect(tell("numeric", null)).toBe(`{"scale":0,"value":"${base64}"}`);
  expect(tell("numeric", null, { decimals: "string" })).toBe(`"${word}"`);
  expect(tell("bit varying", null, { type: opaque })).toBe(`"${base64}"`);
  for (const native of ["int4[]", "float8[]", "date[]", "timestamp[]"]) expect(tell(native, null)).toBe(codes);
  for (const native of ["text[]", "timestamptz[]", "jsonb[]"]) expect(tell(native, null)).toBe(`["${word}"]`);
  expect(tell("uuid[]", null)).toBe('["b68a35a7-17ad-35b3-af2a-ae46edb4545a"]');
  expect(JSON.parse(unquoted(tell("hstore", null, { type: opaque })))).toEqual({ [word]: word });
});

test("types that Debezium leaves out are strings", () => {
  for (const native of ["box", "path", "circle", "pg_lsn", "tsquery", "int4multirange", "pair"]) {
    expect(schemaOf(native, { type: opaque })).toEqual({ type: "string" });
  }
  expect(schemaOf("interval[]", { type: { kind: "array", of: opaque } })).toMatchObject({
    type: "array",
    items: { type: "int64", optional: true, name: "io.debezium.time.MicroDuration" },
  });
});

test("a domain is its base type, as far as the type alone says it", () => {
  expect(schemaOf("seconds", { type: { kind: "timestamp", zone: false } })).toMatchObject({
    type: "int64",
    name: "io.debezium.time.MicroTimestamp",
  });
});
