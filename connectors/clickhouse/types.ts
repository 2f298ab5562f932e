/** How each type of a source lands in ClickHouse; README.md shows it as a table. */
import type { Column } from "../../src/core/model/schema.ts";
import type { ColumnType } from "../../src/core/model/types.ts";

/** How a value is written in RowBinary. */
export type Form =
  | { readonly kind: "bool" }
  | { readonly kind: "int"; readonly byteCount: 1 | 2 | 4 | 8 }
  | { readonly kind: "float"; readonly byteCount: 4 | 8 }
  | { readonly kind: "decimal"; readonly scale: number; readonly digits: number; readonly byteCount: 4 | 8 | 16 | 32 }
  /** The source's text. */
  | { readonly kind: "text" }
  | { readonly kind: "json" }
  /** An array as JSON. */
  | { readonly kind: "array" }
  /** Float32, as many as the varint before them says; null: none, because no vector is empty. */
  | { readonly kind: "vector" }
  | { readonly kind: "bytes" }
  | { readonly kind: "date" }
  | { readonly kind: "timestamp" }
  | { readonly kind: "uuid" };

export interface ClickhouseType {
  /** In the spelling of system.columns. */
  readonly name: string;
  /** Without what allows nulls. */
  readonly base: string;
  readonly form: Form;
  /** Whether a byte before the value says that it is null. */
  readonly isNullable: boolean;
  /** Whether the source's type has values that the target's has not. */
  readonly mayNotFit: boolean;
}

const DECIMAL_DIGITS_MAX = 76;
const STRING = "String";
const TEXT: Form = { kind: "text" };

/** ClickHouse sorts by the key, where a null would need a setting of the table; the source's keys have none. */
export function clickhouseType(column: Pick<Column, "type" | "native">, isKey: boolean): ClickhouseType {
  const { name, form } = baseType(column);
  const mayNotFit =
    form.kind === "decimal" || form.kind === "date" || form.kind === "timestamp" || form.kind === "array";
  if (isKey) {
    if (form.kind === "vector") return { name: STRING, base: STRING, form: TEXT, isNullable: false, mayNotFit: false };
    const text = form.kind === "array" ? TEXT : form;
    return { name, base: name, form: text, isNullable: false, mayNotFit: mayNotFit && form.kind !== "array" };
  }
  // An array can't be nullable.
  if (form.kind === "vector") return { name, base: name, form, isNullable: false, mayNotFit };
  const nullable = `Nullable(${name})`;
  const isEnum = column.type.kind === "enum";
  return { name: isEnum ? `LowCardinality(${nullable})` : nullable, base: name, form, isNullable: true, mayNotFit };
}

function baseType({ type, native }: Pick<Column, "type" | "native">): { readonly name: string; readonly form: Form } {
  switch (type.kind) {
    case "bool":
      return { name: "Bool", form: { kind: "bool" } };
    case "int":
      return integer(type);
    case "float":
      return { name: `Float${type.bits}`, form: { kind: "float", byteCount: type.bits === 32 ? 4 : 8 } };
    case "decimal":
      return decimal(type);
    case "bytes":
      return { name: STRING, form: { kind: "bytes" } };
    case "date":
      return { name: "Date32", form: { kind: "date" } };
    case "timestamp":
      return { name: "DateTime64(6, 'UTC')", form: { kind: "timestamp" } };
    case "uuid":
      return { name: "UUID", form: { kind: "uuid" } };
    case "json":
      return { name: STRING, form: { kind: "json" } };
    case "array":
      // box[] separates its elements by semicolons, all other types by commas.
      return { name: STRING, form: { kind: native === "box[]" ? "text" : "array" } };
    case "vector":
      return type.form === "sparse"
        ? { name: STRING, form: TEXT }
        : { name: "Array(Float32)", form: { kind: "vector" } };
    case "text":
    case "enum":
    case "time":
    case "opaque":
      return { name: STRING, form: { kind: "text" } };
    default:
      return type satisfies never;
  }
}

function integer({ bits, signed }: Extract<ColumnType, { kind: "int" }>) {
  const stored = bits === 24 ? 32 : bits;
  const byteCount = stored === 8 ? 1 : stored === 16 ? 2 : stored === 32 ? 4 : 8;
  return { name: `${signed ? "" : "U"}Int${stored}`, form: { kind: "int", byteCount } } as const;
}

/**
 * A negative scale adds digits before the point; a scale above the precision counts zeros after it. Without a precision,
 * or with more digits than ClickHouse has, only text keeps all of them.
 */
function decimal({ precision, scale }: Extract<ColumnType, { kind: "decimal" }>) {
  const after = Math.max(scale ?? 0, 0);
  const digits = precision === null ? Infinity : Math.max(precision - Math.min(scale ?? 0, 0), after);
  if (digits > DECIMAL_DIGITS_MAX) return { name: STRING, form: { kind: "text" } } as const;
  const byteCount = digits <= 9 ? 4 : digits <= 18 ? 8 : digits <= 38 ? 16 : 32;
  return { name: `Decimal(${digits}, ${after})`, form: { kind: "decimal", scale: after, digits, byteCount } } as const;
}
