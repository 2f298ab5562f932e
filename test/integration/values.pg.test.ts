/** Every built-in type with its edge values: our text and JSON against what the server itself prints and sends. */
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EDGE_TYPES, edgeValues, vectorValues } from "../support/postgres/postgres-edge-values.ts";
import { freshDatabase, type FreshDatabase } from "../support/run/services.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { CELL_BINARY, CELL_TEXT } from "../../src/core/model/tuple.ts";
import { type ColumnType, hasBinaryForm } from "../../src/core/model/types.ts";
import { writeJson } from "../../src/core/values/json.ts";
import { expectedJson as judgedJson, normalJson } from "../../src/core/targets/expected-json.ts";
import { writeText } from "../../src/core/values/text.ts";
import { jsonLanding } from "../support/model/json-landing.ts";
import { readJson, spelledJson } from "../support/model/json-text.ts";
import { postgresType } from "../support/postgres/postgres-types.ts";

/** Under these settings a session prints the canonical text (src/core/model/tuple.ts). */
const SETTINGS = `
  set datestyle to 'ISO, MDY'; set timezone to 'UTC'; set extra_float_digits to 1;
  set bytea_output to 'hex'; set intervalstyle to 'postgres'`;

const FUNCTIONS = `
  create function json_year(y int) returns text language sql as $$
    select case when y between 0 and 9999 then lpad(y::text, 4, '0')
      else (case when y < 0 then '-' else '+' end) || lpad(abs(y)::text, greatest(6, length(abs(y)::text)), '0') end $$;
  create function json_day(y numeric, m numeric, d numeric) returns text language sql as $$
    select json_year((y + (y < 0)::int)::int) || '-' || lpad(m::text, 2, '0') || '-' || lpad(d::text, 2, '0') $$`;

/** `json_day` of a date or timestamp expression. */
function jsonDay(v: string): string {
  return `json_day(extract(year from ${v}), extract(month from ${v}), extract(day from ${v}))`;
}

const TO_JSON_AGREES: ReadonlySet<ColumnType["kind"]> = new Set(["bool", "int", "text", "enum"]);

/** The JSON document that the contract promises for `v`, as SQL. */
function expectedJson(type: ColumnType): string {
  switch (type.kind) {
    case "bool":
      return "to_json(v)::text";
    case "int":
      return "v::text";
    case "decimal":
    case "text":
    case "uuid":
    case "enum":
    case "opaque":
      return "to_json(format('%s', v))::text";
    case "float":
      return "case when v::text ~ '[Nn]' then to_json(v::text)::text else v::text end";
    case "bytes":
      return "to_json(translate(encode(v, 'base64'), E'\\n', ''))::text";
    case "json":
      return "translate(format('%s', v), E'\\n\\r', '  ')";
    case "date":
      return `to_json(case when isfinite(v) then ${jsonDay("v")} else v::text end)::text`;
    case "time":
      return "to_json(case when v = '24:00' then '24:00:00.000000' else to_char(v, 'HH24:MI:SS.US') end)::text";
    case "timestamp": {
      const printed = `${jsonDay("v")} || to_char(v, '"T"HH24:MI:SS.US"${type.zone ? "Z" : ""}"')`;
      return `to_json(case when isfinite(v) then ${printed} else v::text end)::text`;
    }
    case "array": {
      // to_json knows nesting; its forms of the other types are not ours, so those are judged in one dimension.
      if (TO_JSON_AGREES.has(type.of.kind)) return "to_json(v)::text";
      const element = `case when v is null then 'null' else ${expectedJson(type.of)} end`;
      return `(select '[' || coalesce(string_agg(${element}, ',' order by i), '') || ']'
        from generate_subscripts(v, 1) as i, lateral (select v[i] as v) as elements)`;
    }
    case "vector":
      return type.form === "sparse"
        ? "regexp_replace(regexp_replace(v::text, '/\\d+$', ''), '(\\d+):', '\"\\1\":', 'g')"
        : "v::text";
    default:
      return type satisfies never;
  }
}

const SEND: Readonly<Record<string, string>> = {
  bool: "boolsend",
  int2: "int2send",
  int4: "int4send",
  int8: "int8send",
  float4: "float4send",
  float8: "float8send",
  numeric: "numeric_send",
  text: "textsend",
  varchar: "varcharsend",
  bpchar: "bpcharsend",
  name: "namesend",
  bytea: "byteasend",
  date: "date_send",
  time: "time_send",
  timestamp: "timestamp_send",
  timestamptz: "timestamptz_send",
  uuid: "uuid_send",
  json: "json_send",
  jsonb: "jsonb_send",
};

interface Judged extends Record<string, unknown> {
  readonly printed: string;
  readonly sent: string | null;
  readonly json: string;
}

interface Oracle {
  /** Has the server read every value as the type, and compares what it prints and sends with what we make of it. */
  judge(native: string, values: readonly string[], type?: ColumnType): Promise<void>;
}

/**
 * The real server as judge of values: what it prints, what it sends in binary, and the JSON form of the contract put
 * together by SQL alone.
 */
async function valueOracle(database: FreshDatabase): Promise<Oracle> {
  await database.query(SETTINGS);
  await database.query(FUNCTIONS);
  return {
    async judge(native, values, type = postgresType(native)) {
      const send = sendFunction(native, type);
      const { rows } = await database.query<Judged>(
        `select format('%s', v) as printed, ${send === null ? "null" : `encode(${send}(v), 'hex')`} as sent,
           ${expectedJson(type)} as json
         from unnest($1::text[]) with ordinality as given (text, ordinal), lateral (select text::${native} as v) as read
         order by ordinal`,
        [values],
      );
      expect(rows.length).toBe(values.length);
      for (const row of rows) compare(type, row);
    },
  };
}

function sendFunction(native: string, type: ColumnType): string | null {
  if (!hasBinaryForm(type)) return null;
  if (type.kind === "array") return "array_send";
  if (type.kind === "enum") return "enum_send";
  const name = native.replace(/\(.*\)$/, "");
  const send = SEND[name];
  if (send === undefined) throw new Error(`no send function is known for ${native}`);
  return send;
}

function compare(type: ColumnType, { printed, sent, json }: Judged): void {
  const text = Buffer.from(printed);
  expect(rendered(writeText, type, CELL_TEXT, text)).toBe(printed);
  const jsonOfText = rendered(writeJson, type, CELL_TEXT, text);
  if (sent !== null) {
    const binary = Buffer.from(sent, "hex");
    expect(rendered(writeText, type, CELL_BINARY, binary)).toBe(printed);
    expect(rendered(writeJson, type, CELL_BINARY, binary)).toBe(jsonOfText);
  }
  expect(jsonOfText).not.toContain("\n");
  // Arrays and texts may be spaced and escaped in another way: there the value counts.
  if (type.kind === "array" || json.startsWith('"')) expect(JSON.parse(jsonOfText)).toEqual(JSON.parse(json));
  else expect(jsonOfText).toBe(json);
  // What sinks are compared with, by reconcile and by tests.
  expect(judgedJson(type, printed) ?? "null").toBe(normalJson(json));
  expect(jsonLanding(type, printed)).toBe(spelledJson(readJson(json)));
}

function rendered(write: typeof writeText, type: ColumnType, kind: number, cell: Uint8Array): string {
  // The cell lies in the middle of other bytes, and the writer starts so small that every value has it grow.
  const padded = Buffer.concat([Buffer.from("<<<"), cell, Buffer.from(">>>")]);
  const out = new ByteWriter(1);
  write(out, type, kind, padded, 3, cell.length);
  return out.view().toString();
}

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
