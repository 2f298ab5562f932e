/** Canonical types from Postgres' own spelling of a type (`numeric(12,2)`, `text[]`), for tests. */
import type { ColumnType } from "../../../src/core/model/types.ts";

const PLAIN: Readonly<Record<string, ColumnType>> = {
  bool: { kind: "bool" },
  boolean: { kind: "bool" },
  int2: { kind: "int", bits: 16, signed: true },
  smallint: { kind: "int", bits: 16, signed: true },
  int4: { kind: "int", bits: 32, signed: true },
  int: { kind: "int", bits: 32, signed: true },
  integer: { kind: "int", bits: 32, signed: true },
  int8: { kind: "int", bits: 64, signed: true },
  bigint: { kind: "int", bits: 64, signed: true },
  float4: { kind: "float", bits: 32 },
  real: { kind: "float", bits: 32 },
  float8: { kind: "float", bits: 64 },
  "double precision": { kind: "float", bits: 64 },
  text: { kind: "text" },
  varchar: { kind: "text" },
  "character varying": { kind: "text" },
  bpchar: { kind: "text" },
  char: { kind: "text" },
  character: { kind: "text" },
  name: { kind: "text" },
  bytea: { kind: "bytes" },
  date: { kind: "date" },
  time: { kind: "time" },
  "time without time zone": { kind: "time" },
  timestamp: { kind: "timestamp", zone: false },
  "timestamp without time zone": { kind: "timestamp", zone: false },
  timestamptz: { kind: "timestamp", zone: true },
  "timestamp with time zone": { kind: "timestamp", zone: true },
  uuid: { kind: "uuid" },
  json: { kind: "json" },
  jsonb: { kind: "json" },
};

export function postgresType(native: string): ColumnType {
  if (native.endsWith("[]")) return { kind: "array", of: postgresType(native.slice(0, -2)) };
  const [, name = "", typmod] = /^([^(]+?)\s*(?:\(([^)]*)\))?$/.exec(native) ?? [];
  if (name === "numeric" || name === "decimal") {
    const [precision, scale] = typmod?.split(",").map(Number) ?? [];
    return { kind: "decimal", precision: precision ?? null, scale: precision === undefined ? null : (scale ?? 0) };
  }
  if (name === "enum") {
    const labels = (typmod ?? "").split(",").map((label) => label.trim().replace(/^'(.*)'$/s, "$1"));
    return { kind: "enum", labels };
  }
  return PLAIN[name] ?? { kind: "opaque" };
}
