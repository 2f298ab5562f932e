/** The schemas of records: Connect's, and the same for a registry, in Avro and as JSON Schema. */
/** Kafka Connect's schema, as its JsonConverter writes it: what the formats of Debezium are described by. */
export interface ConnectSchema {
  readonly type:
    | "int8"
    | "int16"
    | "int32"
    | "int64"
    | "float"
    | "double"
    | "boolean"
    | "string"
    | "bytes"
    | "array"
    | "struct";
  readonly optional?: boolean;
  /** Of the logical type, or of the struct. */
  readonly name?: string;
  readonly version?: number;
  readonly parameters?: Readonly<Record<string, string>>;
  readonly doc?: string;
  readonly default?: unknown;
  /** Of a struct's member: its name. */
  readonly field?: string;
  readonly fields?: readonly ConnectSchema[];
  readonly items?: ConnectSchema;
}

/** Key and value of a topic's records. */
export interface RecordSchemas {
  readonly key: ConnectSchema;
  readonly value: ConnectSchema;
}

export function parseConnectSchema(text: string): ConnectSchema {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by the formats of this folder
  return JSON.parse(text) as ConnectSchema;
}

export function memberName({ field }: ConnectSchema): string {
  if (field === undefined) throw new Error("a member of a struct has a name");
  return field;
}

export function elementOf({ items }: ConnectSchema): ConnectSchema {
  if (items === undefined) throw new Error("an array has elements");
  return items;
}

const DECIMAL = "org.apache.kafka.connect.data.Decimal";
/** Where the column has no precision; AvroConverter's. */
const PRECISION = 64;
const AVRO_TYPES = {
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

type AvroSchema = string | { readonly [member: string]: unknown } | readonly AvroSchema[];

/** Two members of a struct have one name in Avro. */
export class AmbiguousNames extends Error {
  readonly names: readonly [string, string];

  constructor(names: readonly [string, string]) {
    super(`${names[0]} and ${names[1]} have one name in Avro`);
    this.names = names;
  }
}

/**
 * The Avro schema of a Connect schema, with the attributes (`connect.name` …) by which Confluent's AvroConverter finds the Connect
 * schema again: https://docs.confluent.io/platform/current/schema-registry/connect.html
 */
export function avroSchemaOf(schema: ConnectSchema): AvroSchema {
  return unionOf(schema, new Set());
}

/** `null` comes first unless the default is a value: Avro's default is one of a union's first type. */
export function isNullFirst({ default: given }: ConnectSchema): boolean {
  return given === undefined || given === null;
}

/** `known`: records that the schema has defined before. Avro defines each once. */
function unionOf(schema: ConnectSchema, known: Set<string>): AvroSchema {
  const base = avroTypeOf(schema, known);
  if (schema.optional !== true) return base;
  return isNullFirst(schema) ? ["null", base] : [base, "null"];
}

function avroTypeOf(schema: ConnectSchema, known: Set<string>): AvroSchema {
  const { type } = schema;
  const connect = connectAttributes(schema);
  if (type === "struct") return recordOf(schema, known, connect);
  if (type === "array") return { type: "array", items: unionOf(elementOf(schema), known), ...connect };
  const narrow = type === "int8" || type === "int16" ? { "connect.type": type } : {};
  const attributes = { ...narrow, ...decimalAttributes(schema), ...connect };
  return Object.keys(attributes).length === 0 ? AVRO_TYPES[type] : { type: AVRO_TYPES[type], ...attributes };
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
      type: unionOf(field, known),
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

const JSON_TYPES = {
  int8: "integer",
  int16: "integer",
  int32: "integer",
  int64: "integer",
  float: "number",
  double: "number",
  boolean: "boolean",
  string: "string",
  bytes: "string",
} as const;
/** What JSON has no number for. */
const NO_NUMBERS = ["NaN", "Infinity", "-Infinity"];

export type JsonSchema = Readonly<Record<string, unknown>>;

/**
 * The JSON Schema of a Connect schema, with the attributes by which Confluent's JsonSchemaConverter finds the Connect schema again.
 * Decimals and bytes are texts in base64, as in the JSON that the formats write.
 */
export function jsonSchemaOf(schema: ConnectSchema): JsonSchema {
  if (schema.optional !== true) return jsonTypeOf(schema);
  return { oneOf: [{ type: "null" }, jsonTypeOf(schema)] };
}

function jsonTypeOf(schema: ConnectSchema): JsonSchema {
  const { type, name, version, parameters, doc, default: given } = schema;
  const connect = {
    ...(name === undefined ? {} : { title: name }),
    ...(doc === undefined ? {} : { description: doc }),
    ...(given === undefined ? {} : { default: given }),
    ...(version === undefined ? {} : { "connect.version": version }),
    ...(parameters === undefined ? {} : { "connect.parameters": parameters }),
  };
  if (type === "struct") return { type: "object", ...connect, ...membersOf(schema) };
  if (type === "array") return { type: "array", items: jsonSchemaOf(elementOf(schema)), ...connect };
  const told = { ...(JSON_TYPES[type] === type ? {} : { "connect.type": connectType(type) }), ...connect };
  if (type !== "float" && type !== "double") return { type: JSON_TYPES[type], ...told };
  return { anyOf: [{ type: "number" }, { enum: NO_NUMBERS }], ...told };
}

/** A closed object: another optional column is a compatible change then. */
function membersOf({ fields = [] }: ConnectSchema): JsonSchema {
  const members = fields.map(
    (field, i) => [memberName(field), { "connect.index": i, ...jsonSchemaOf(field) }] as const,
  );
  return { properties: Object.fromEntries(members), additionalProperties: false };
}

function connectType(type: keyof typeof JSON_TYPES): string {
  return type === "float" ? "float32" : type === "double" ? "float64" : type;
}
