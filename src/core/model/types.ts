/**
 * The canonical types of columns, independent of the database. Every source maps its types to these, every sink maps
 * these to its own; `Column.native` keeps the source's spelling for sinks with the same dialect.
 */
export type ColumnType =
  | { readonly kind: "bool" }
  | { readonly kind: "int"; readonly bits: 8 | 16 | 24 | 32 | 64; readonly signed: boolean }
  | { readonly kind: "float"; readonly bits: 32 | 64 }
  /** Exact decimal; precision null means unlimited. May contain NaN and ±Infinity if the source allows them. */
  | { readonly kind: "decimal"; readonly precision: number | null; readonly scale: number | null }
  /**
   * `padded`: trailing blanks only fill the value up, and comparisons ignore them (Postgres' char(n), also inside a
   * domain).
   */
  | { readonly kind: "text"; readonly padded?: true }
  | { readonly kind: "bytes" }
  | { readonly kind: "date" }
  | { readonly kind: "time" }
  | { readonly kind: "timestamp"; readonly zone: boolean }
  | { readonly kind: "uuid" }
  /** `shape`: what the values are, if that is known; null takes the place of any part. */
  | { readonly kind: "json"; readonly shape?: JsonShape }
  | { readonly kind: "enum"; readonly labels: readonly string[] }
  | { readonly kind: "array"; readonly of: ColumnType }
  /**
   * Numbers of a float32, of a half (whose values all float32 has), or only those that are not zero. None is NaN or
   * infinite. `dimension` null: any number of them; `isUpTo`: so many, or fewer.
   */
  | { readonly kind: "vector"; readonly form: VectorForm; readonly dimension: number | null; readonly isUpTo?: true }
  /**
   * Any other type: passed on as the source's text form. `attributes` of a composite type, or the bounds of a range: if
   * they change, so do the texts of its values.
   */
  | { readonly kind: "opaque"; readonly attributes?: readonly Attribute[] };

export type VectorForm = "single" | "half" | "sparse";

/** An object with these fields, or a bare value; or an array of them. */
export type JsonShape =
  | { readonly fields: readonly { readonly name: string; readonly type: ColumnType }[] }
  | { readonly value: ColumnType };

/** An attribute of a composite type; `identity` is its number at the source. */
export interface Attribute {
  readonly identity: number;
  readonly type: ColumnType;
}

/** True if core can read this type's binary cells (see tuple.ts); text cells are readable for every type. */
export function hasBinaryForm(type: ColumnType): boolean {
  switch (type.kind) {
    case "bool":
    case "float":
    case "decimal":
    case "text":
    case "bytes":
    case "date":
    case "time":
    case "timestamp":
    case "uuid":
    case "json":
    case "enum":
    case "vector":
      return true;
    case "int":
      return type.signed || type.bits < 32;
    case "array":
      return type.of.kind !== "array" && type.of.kind !== "vector" && hasBinaryForm(type.of);
    case "opaque":
      return false;
    default:
      return type satisfies never;
  }
}
