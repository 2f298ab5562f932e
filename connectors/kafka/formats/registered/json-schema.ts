/**
 * The JSON Schema of a Connect schema, with the attributes by which Confluent's JsonSchemaConverter finds the Connect schema again.
 * Decimals and bytes are texts in base64, as in the JSON that the formats write.
 */
import { type ConnectSchema, elementOf, memberName } from "./connect-schema.ts";

const TYPES = {
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

export function jsonSchemaOf(schema: ConnectSchema): JsonSchema {
  if (schema.optional !== true) return baseOf(schema);
  return { oneOf: [{ type: "null" }, baseOf(schema)] };
}

function baseOf(schema: ConnectSchema): JsonSchema {
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
  const told = { ...(TYPES[type] === type ? {} : { "connect.type": connectType(type) }), ...connect };
  if (type !== "float" && type !== "double") return { type: TYPES[type], ...told };
  return { anyOf: [{ type: "number" }, { enum: NO_NUMBERS }], ...told };
}

/** A closed object: another optional column is a compatible change then. */
function membersOf({ fields = [] }: ConnectSchema): JsonSchema {
  const members = fields.map(
    (field, i) => [memberName(field), { "connect.index": i, ...jsonSchemaOf(field) }] as const,
  );
  return { properties: Object.fromEntries(members), additionalProperties: false };
}

function connectType(type: keyof typeof TYPES): string {
  return type === "float" ? "float32" : type === "double" ? "float64" : type;
}
