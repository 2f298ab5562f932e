/** What kind of values a column has, from Postgres' catalogue, by other means than the product's. */
import type { ColumnType } from "../../../src/core/model/types.ts";

/** A row of pg_type, numbers as the catalogue prints them. */
export interface CatalogType {
  readonly oid: string;
  readonly name: string;
  readonly schema: string;
  /** typtype: b base, c composite, d domain, e enum, r range, m multirange. */
  readonly kind: string;
  readonly base: string;
  readonly baseModifier: number;
  /** Element type of a true array, else "0". */
  readonly element: string;
}

const BUILT_IN: Readonly<Record<string, ColumnType>> = {
  bool: { kind: "bool" },
  int2: { kind: "int", bits: 16, signed: true },
  int4: { kind: "int", bits: 32, signed: true },
  int8: { kind: "int", bits: 64, signed: true },
  oid: { kind: "int", bits: 32, signed: false },
  float4: { kind: "float", bits: 32 },
  float8: { kind: "float", bits: 64 },
  text: { kind: "text" },
  varchar: { kind: "text" },
  bpchar: { kind: "text" },
  name: { kind: "text" },
  bytea: { kind: "bytes" },
  date: { kind: "date" },
  time: { kind: "time" },
  timestamp: { kind: "timestamp", zone: false },
  timestamptz: { kind: "timestamp", zone: true },
  uuid: { kind: "uuid" },
  json: { kind: "json" },
  jsonb: { kind: "json" },
};

export function columnTypeOf(oid: string, modifier: number, types: ReadonlyMap<string, CatalogType>): ColumnType {
  const type = types.get(oid);
  if (type === undefined) return { kind: "opaque" };
  if (type.kind === "d") return columnTypeOf(type.base, type.baseModifier, types);
  if (type.kind === "e") return { kind: "enum", labels: [] };
  if (type.element !== "0") return { kind: "array", of: columnTypeOf(type.element, modifier, types) };
  if (type.name === "citext") return { kind: "text" };
  if (type.schema !== "pg_catalog") return { kind: "opaque" };
  // The length of precision does not matter to how a value is shown, only whether there is one.
  if (type.name === "numeric") {
    return modifier < 0
      ? { kind: "decimal", precision: null, scale: null }
      : { kind: "decimal", precision: (modifier - 4) >>> 16, scale: 0 };
  }
  return BUILT_IN[type.name] ?? { kind: "opaque" };
}
