/** The fields of Connect's schemas: how each is described, and what stands in place of values that are not known. */
import type { ColumnType } from "../../../../src/core/model/types.ts";

/** What stands for a value that the log did not carry: Debezium's unavailable.value.placeholder, in the forms of its types. */
const UNAVAILABLE = "__debezium_unavailable_value";
const UNAVAILABLE_BASE64 = Buffer.from(UNAVAILABLE).toString("base64");
/** Elements of an array of numbers: the placeholder's bytes. */
const UNAVAILABLE_CODES = JSON.stringify([...Buffer.from(UNAVAILABLE)]);
/** The name-based UUID (version 3) of the placeholder. */
export const UNAVAILABLE_UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";
/** An hstore as JSON text. */
export const UNAVAILABLE_HSTORE = JSON.stringify(JSON.stringify({ [UNAVAILABLE]: UNAVAILABLE }));

/** Debezium's decimal.handling.mode. */
export type Decimals = "precise" | "string" | "double";

/** What a value becomes; values.ts writes them. */
export type Form =
  | "plain"
  | "float"
  | "text"
  | "date"
  | "time-ms"
  | "time-us"
  | "timestamp-ms"
  | "timestamp-us"
  | "zoned-timestamp"
  | "decimal"
  | "scaled-decimal"
  | "decimal-text"
  | "decimal-double"
  | "unsigned-long"
  | "bit"
  | "bits"
  | "little-endian"
  | "duration"
  | "zoned-time"
  | "money"
  | "money-text"
  | "money-double"
  | "hstore"
  | "point"
  | "geometry"
  | "geometry-point"
  | "time-of-mysql"
  | "array";

/** A value of a row as a block has it. One object, which the next value replaces. */
export interface Cell {
  kind: number;
  bytes: Uint8Array;
  start: number;
  length: number;
}

export interface Field {
  readonly form: Form;
  /** Of the cells. */
  readonly type: ColumnType;
  /** Of a fraction; of a decimal behind the point; of bits in all. */
  readonly digits: number;
  /** Of an array's elements. */
  readonly of: Field | null;
  /** The schema as members of a JSON object, without `optional` and `field`. */
  readonly schema: { readonly type: string; readonly rest: string };
  /** In place of a value that is not known, where the column is NOT NULL: Debezium's "" and 0. */
  readonly zero: string;
  /** In place of a value that the log did not carry. */
  readonly unavailable: string;
}

/** `type`: Connect's; `name`: of the logical type. */
export interface Plan {
  readonly form: Form;
  readonly digits?: number;
  readonly connect: string;
  readonly name?: string;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly zero?: string;
  readonly unavailable?: string;
}

const ZEROS: Readonly<Record<string, string>> = {
  boolean: "false",
  string: '""',
  bytes: '""',
};
const UNAVAILABLES: Readonly<Record<string, string>> = {
  string: `"${UNAVAILABLE}"`,
  bytes: `"${UNAVAILABLE_BASE64}"`,
};

export function field(type: ColumnType, plan: Plan): Field {
  const { form, digits = 0, connect, name, parameters } = plan;
  const named = name === undefined ? "" : `,"name":${JSON.stringify(name)},"version":1`;
  const given = parameters === undefined ? "" : `,"parameters":${JSON.stringify(parameters)}`;
  return {
    form,
    type,
    digits,
    of: null,
    schema: { type: `"type":"${connect}"`, rest: `${named}${given}` },
    zero: plan.zero ?? ZEROS[connect] ?? "0",
    unavailable: plan.unavailable ?? UNAVAILABLES[connect] ?? "null",
  };
}

export function structField(
  type: ColumnType,
  plan: Omit<Plan, "connect"> & { readonly fields: string; readonly doc: string },
): Field {
  const made = field(type, { ...plan, connect: "struct" });
  const rest = `,"name":${JSON.stringify(plan.name)},"version":1,"doc":${JSON.stringify(plan.doc)}`;
  return { ...made, schema: { type: `"type":"struct","fields":[${plan.fields}]`, rest } };
}

export function arrayField(
  type: ColumnType,
  of: Field,
  plan: { readonly name?: string; readonly optional?: boolean } = {},
): Field {
  const { optional = true, name } = plan;
  return {
    form: "array",
    type,
    digits: 0,
    of,
    schema: {
      type: `"type":"array","items":{${of.schema.type},"optional":${optional}${of.schema.rest}}`,
      rest: name === undefined ? "" : `,"name":${JSON.stringify(name)},"version":1`,
    },
    zero: "[]",
    unavailable: unavailableArray(of),
  };
}

export function vectorField(type: ColumnType, connect: "float" | "double", name: string): Field {
  const number = field({ kind: "float", bits: 32 }, { form: "float", connect });
  return { ...arrayField(type, number, { name, optional: false }), form: "plain" };
}

/** Debezium has no placeholder for some arrays, which it shows as null. */
function unavailableArray({ schema: { type }, unavailable, form }: Field): string {
  if (/"(int16|int32|int64|float|double)"/.test(type)) return UNAVAILABLE_CODES;
  if (form === "text" && unavailable === `"${UNAVAILABLE_UUID}"`) return `["${UNAVAILABLE_UUID}"]`;
  return unavailable === "null" ? "null" : `[${unavailable}]`;
}

const VARIABLE = '{"type":"int32","optional":false,"field":"scale"},{"type":"bytes","optional":false,"field":"value"}';

/** `scale` null: each value has its own. */
export function decimalField(
  type: ColumnType,
  { precision, scale, decimals }: { precision: number | null; scale: number | null; decimals: Decimals },
): Field {
  if (decimals === "double") return field(type, { form: "decimal-double", connect: "double" });
  if (decimals === "string")
    return field(type, { form: "decimal-text", connect: "string", zero: zeroText(scale ?? 0) });
  if (scale === null) {
    return structField(type, {
      form: "scaled-decimal",
      fields: VARIABLE,
      name: "io.debezium.data.VariableScaleDecimal",
      doc: "Variable scaled decimal",
      zero: '{"scale":0,"value":"AA=="}',
      unavailable: `{"scale":0,"value":"${UNAVAILABLE_BASE64}"}`,
    });
  }
  return field(type, {
    form: "decimal",
    digits: scale,
    connect: "bytes",
    name: "org.apache.kafka.connect.data.Decimal",
    parameters: {
      scale: String(scale),
      ...(precision === null ? {} : { "connect.decimal.precision": String(precision) }),
    },
    zero: '"AA=="',
  });
}

function zeroText(scale: number): string {
  return scale > 0 ? `"0.${"0".repeat(scale)}"` : '"0"';
}
