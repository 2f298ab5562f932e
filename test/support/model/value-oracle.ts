/**
 * The real server as judge of values: what it prints, what it sends in binary, and the JSON form of the contract put
 * together by SQL alone.
 */
import { expect } from "vitest";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_TEXT } from "../../../src/core/model/tuple.ts";
import { type ColumnType, hasBinaryForm } from "../../../src/core/model/types.ts";
import { writeJson } from "../../../src/core/values/json.ts";
import { expectedJson as judgedJson, normalJson } from "../../../src/core/targets/expected-json.ts";
import { writeText } from "../../../src/core/values/text.ts";
import { jsonLanding } from "./json-landing.ts";
import { readJson, spelledJson } from "./json-text.ts";
import { postgresType } from "../postgres/postgres-types.ts";
import type { FreshDatabase } from "../run/services.ts";

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

export interface Oracle {
  /** Has the server read every value as the type, and compares what it prints and sends with what we make of it. */
  judge(native: string, values: readonly string[], type?: ColumnType): Promise<void>;
}

export async function valueOracle(database: FreshDatabase): Promise<Oracle> {
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
