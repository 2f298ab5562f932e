import type { TableName } from "../../../../src/core/contracts/connector.ts";
import type { ColumnType, VectorForm } from "../../../../src/core/model/types.ts";

export interface OtherTable extends TableName {
  readonly oid: number;
}

/** What pg_type says of one type; `base` is the type under a domain, `element` the one inside an array. */
export interface PgType {
  readonly oid: number;
  readonly name: string;
  /** The name of the function that writes its binary form; null: it has none. */
  readonly send: string | null;
  /** pg_type.typtype: b base, d domain, e enum, c composite, r range, m multirange, p pseudo. */
  readonly kind: string;
  readonly base: number;
  /** typtypmod of a domain: the modifier of its base type. */
  readonly baseModifier: number;
  /** Element oid where the type is a true array whose text has commas between its elements, else 0. */
  readonly element: number;
  /** Of a range, the type of its bounds; of a multirange, its range; else 0. */
  readonly bounds: number;
  readonly labels: readonly string[];
  /** Its name or a label, or one of a type that it consists of, has no form in UTF-8. */
  readonly isIllegible?: true;
  /** Of a composite, in order; a table's row type is one too. */
  readonly attributes: readonly PgAttribute[];
  /** The table whose row type it is, with those of which it is a partition; of a view, those that it reads. */
  readonly tables: readonly OtherTable[];
}

interface PgAttribute {
  readonly attnum: number;
  readonly type: number;
  readonly modifier: number;
}

/** Finds a type by oid; undefined where the catalogue does not have it (any more). */
export type PgTypes = (oid: number) => PgType | undefined;

const DEPTH_MAX = 32;

/**
 * Postgres' built-in types that have a canonical one, by oid (fixed in pg_type.dat). Every other type is carried as its
 * output text, `opaque`: intervals, money, ranges, geometry, network addresses, bit strings, tsvector, xml, composites …
 * `"char"` is opaque too: it is one byte of any value, not text.
 */
const BUILTIN = new Map<number, ColumnType>([
  [16, { kind: "bool" }],
  [17, { kind: "bytes" }],
  [19, { kind: "text" }], // name
  [20, { kind: "int", bits: 64, signed: true }],
  [21, { kind: "int", bits: 16, signed: true }],
  [23, { kind: "int", bits: 32, signed: true }],
  [25, { kind: "text" }],
  [26, { kind: "int", bits: 32, signed: false }], // oid
  [114, { kind: "json" }],
  [700, { kind: "float", bits: 32 }],
  [701, { kind: "float", bits: 64 }],
  [1042, { kind: "text", padded: true }], // char(n)
  [1043, { kind: "text" }], // varchar(n)
  [1082, { kind: "date" }],
  [1083, { kind: "time" }],
  [1114, { kind: "timestamp", zone: false }],
  [1184, { kind: "timestamp", zone: true }],
  [2950, { kind: "uuid" }],
  [3802, { kind: "json" }], // jsonb
]);

/** pgvector's types, whose oids differ from database to database. */
const VECTOR_FORMS: Readonly<Record<string, VectorForm>> = { vector: "single", halfvec: "half", sparsevec: "sparse" };

const NUMERIC = 1700;
const OPAQUE: ColumnType = { kind: "opaque" };

/** The canonical type of a column of type `oid` with `modifier` (pg_attribute.atttypmod). */
export function columnType(oid: number, modifier: number, types: PgTypes, depth = 0): ColumnType {
  const builtin = BUILTIN.get(oid);
  if (builtin !== undefined) return builtin;
  if (oid === NUMERIC) return decimalType(modifier);
  const type = types(oid);
  if (type === undefined || depth > DEPTH_MAX) return OPAQUE;
  if (type.kind === "d") return columnType(type.base, type.baseModifier, types, depth + 1);
  if (type.kind === "e") return { kind: "enum", labels: type.labels };
  if (type.element !== 0) return { kind: "array", of: columnType(type.element, modifier, types, depth + 1) };
  // citext is an extension's type, so its oid differs from database to database; its bytes are text's.
  if (type.kind === "b" && type.name === "citext") return { kind: "text" };
  const form = VECTOR_FORMS[type.name];
  if (type.kind === "b" && form !== undefined && type.send === `${type.name}_send`)
    return { kind: "vector", form, dimension: modifier < 0 ? null : modifier };
  // The text of a range has the texts of its bounds.
  if (type.bounds !== 0)
    return { kind: "opaque", attributes: [{ identity: 1, type: columnType(type.bounds, -1, types, depth + 1) }] };
  if (type.kind !== "c") return OPAQUE;
  const attributes = type.attributes.map((a) => ({
    identity: a.attnum,
    type: columnType(a.type, a.modifier, types, depth + 1),
  }));
  return { kind: "opaque", attributes };
}

/** numeric's modifier: ((precision << 16) | (scale & 0x7ff)) + 4, the scale signed in 11 bits; -1: unconstrained. */
function decimalType(modifier: number): ColumnType {
  if (modifier < 4) return { kind: "decimal", precision: null, scale: null };
  const packed = modifier - 4;
  return { kind: "decimal", precision: (packed >> 16) & 0xffff, scale: ((packed & 0x7ff) ^ 0x400) - 0x400 };
}
