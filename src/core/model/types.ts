/**
 * The canonical types: what a column is, whatever database it comes from. Every source maps its types onto these, every
 * sink maps these onto its own; `Column.native` keeps the source's spelling for sinks that speak the same dialect.
 */
export type ColumnType =
  | { readonly kind: "bool" }
  | { readonly kind: "int"; readonly bits: 8 | 16 | 24 | 32 | 64; readonly signed: boolean }
  | { readonly kind: "float"; readonly bits: 32 | 64 }
  /** Exact decimal; precision null means unconstrained. May hold NaN and ±Infinity where the source allows them. */
  | { readonly kind: "decimal"; readonly precision: number | null; readonly scale: number | null }
  /** `padded`: blanks at its end only fill it up, and count in no comparison (Postgres' char(n), also beneath a domain). */
  | { readonly kind: "text"; readonly padded?: true }
  | { readonly kind: "bytes" }
  | { readonly kind: "date" }
  | { readonly kind: "time" }
  | { readonly kind: "timestamp"; readonly zone: boolean }
  | { readonly kind: "uuid" }
  | { readonly kind: "json" }
  | { readonly kind: "enum"; readonly labels: readonly string[] }
  | { readonly kind: "array"; readonly of: ColumnType }
  /**
   * Anything else: carried, and landed, as the source's own text form. `attributes` of a composite: where they change, so
   * do the texts of its values.
   */
  | { readonly kind: "opaque"; readonly attributes?: readonly Attribute[] };

/** Of a composite type; `identity`: the number that the source keeps for it. */
export interface Attribute {
  readonly identity: number;
  readonly type: ColumnType;
}

/** True when core can read this type's binary cells (see tuple.ts); text cells are readable for every type. */
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
      return true;
    case "int":
      return type.signed || type.bits < 32;
    case "array":
      return type.of.kind !== "array" && hasBinaryForm(type.of);
    case "opaque":
      return false;
    default:
      return type satisfies never;
  }
}
