/**
 * The Avro schema of a Connect schema, with the attributes (`connect.name` …) by which Confluent's AvroConverter finds the Connect
 * schema again: https://docs.confluent.io/platform/current/schema-registry/connect.html
 */
import { type ConnectSchema, elementOf, memberName } from "./connect-schema.ts";

const DECIMAL = "org.apache.kafka.connect.data.Decimal";
/** Where the column has no precision; AvroConverter's. */
const PRECISION = 64;
const PRIMITIVES = {
  int8: "int",
  int16: "int",
  int32: "int",
  int64: "long",
  float: "float",
  double: "double",
  boolean: "boolean",
  string: "string",
  bytes: "bytes",
} as const;
/** Of a struct without a name; AvroConverter's. */
const UNNAMED = "io.confluent.connect.avro.ConnectDefault";

export type AvroSchema = string | { readonly [member: string]: unknown } | readonly AvroSchema[];

/** Two members of a struct have one name in Avro. */
export class AmbiguousNames extends Error {
  readonly names: readonly [string, string];

  constructor(names: readonly [string, string]) {
    super(`${names[0]} and ${names[1]} have one name in Avro`);
    this.names = names;
  }
}

export function avroSchemaOf(schema: ConnectSchema): AvroSchema {
  return typeOf(schema, new Set());
}

/** `null` comes first unless the default is a value: Avro's default is one of a union's first type. */
export function isNullFirst({ default: given }: ConnectSchema): boolean {
  return given === undefined || given === null;
}

/** `known`: records that the schema has defined before. Avro defines each once. */
function typeOf(schema: ConnectSchema, known: Set<string>): AvroSchema {
  const base = baseOf(schema, known);
  if (schema.optional !== true) return base;
  return isNullFirst(schema) ? ["null", base] : [base, "null"];
}

function baseOf(schema: ConnectSchema, known: Set<string>): AvroSchema {
  const { type } = schema;
  const connect = connectAttributes(schema);
  if (type === "struct") return recordOf(schema, known, connect);
  if (type === "array") return { type: "array", items: typeOf(elementOf(schema), known), ...connect };
  const narrow = type === "int8" || type === "int16" ? { "connect.type": type } : {};
  const attributes = { ...narrow, ...decimalAttributes(schema), ...connect };
  return Object.keys(attributes).length === 0 ? PRIMITIVES[type] : { type: PRIMITIVES[type], ...attributes };
}

function recordOf(schema: ConnectSchema, known: Set<string>, connect: object): AvroSchema {
  const fullName = avroFullName(schema.name ?? UNNAMED);
  if (known.has(fullName)) return fullName;
  known.add(fullName);
  const at = fullName.lastIndexOf(".");
  const fields = schema.fields ?? [];
  expectDistinct(fields);
  return {
    type: "record",
    name: fullName.slice(at + 1),
    ...(at < 0 ? {} : { namespace: fullName.slice(0, at) }),
    ...(schema.doc === undefined ? {} : { doc: schema.doc }),
    fields: fields.map((field) => ({
      name: avroName(memberName(field)),
      type: typeOf(field, known),
      ...(field.optional === true ? { default: field.default ?? null } : {}),
    })),
    ...connect,
  };
}

function connectAttributes({ name, version, parameters, default: given }: ConnectSchema): object {
  return {
    ...(version === undefined ? {} : { "connect.version": version }),
    ...(parameters === undefined ? {} : { "connect.parameters": parameters }),
    ...(given === undefined ? {} : { "connect.default": given }),
    ...(name === undefined ? {} : { "connect.name": name }),
  };
}

/** Avro's own decimal: a scale below zero, or above the precision, is none. */
function decimalAttributes({ name, parameters }: ConnectSchema): object {
  if (name !== DECIMAL) return {};
  const scale = Number(parameters?.["scale"] ?? 0);
  const precision = Number(parameters?.["connect.decimal.precision"] ?? PRECISION);
  return scale < 0 || scale > precision ? {} : { scale, precision, logicalType: "decimal" };
}

function expectDistinct(fields: readonly ConnectSchema[]): void {
  const known = new Map<string, string>();
  for (const name of fields.map(memberName)) {
    const other = known.get(avroName(name));
    if (other !== undefined) throw new AmbiguousNames([other, name]);
    known.set(avroName(name), name);
  }
}

/** Letters, digits and underscores, and no digit first; as Debezium's `field.name.adjustment.mode=avro`. */
export function avroName(name: string): string {
  return name.replace(/[^A-Za-z0-9_]/g, "_").replace(/^(?=\d)/, "_");
}

function avroFullName(name: string): string {
  return name.split(".").map(avroName).join(".");
}
