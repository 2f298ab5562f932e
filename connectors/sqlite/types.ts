import type { Column } from "../../src/core/model/schema.ts";

export const BOOL = 0;
export const INTEGER = 1;
/** Unsigned, of 64 bits: SQLite's integers are signed, so the upper half is text. */
export const UNSIGNED = 2;
export const FLOAT = 3;
/** The source's text. */
export const TEXT = 4;
/** The text in ISO 8601, as in the JSON form. */
export const MOMENT = 5;
export const BYTES = 6;
export const JSON_TEXT = 7;
export const ARRAY = 8;
/** In few bytes, beside a companion: see packed.ts. */
export const PACKED_UUID = 9;
export const PACKED_MOMENT = 10;
export type Form = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

export interface SqliteType {
  /** Of a STRICT table. */
  readonly name: "INTEGER" | "TEXT" | "BLOB" | "ANY";
  readonly form: Form;
}

/** The mapping; README.md shows it as a table. `isPacked`: beside a companion. */
export function sqliteType({ type, native }: Column, isKey: boolean, isPacked: boolean): SqliteType {
  switch (type.kind) {
    case "bool":
      return { name: "INTEGER", form: BOOL };
    case "int":
      return type.bits === 64 && !type.signed ? { name: "ANY", form: UNSIGNED } : { name: "INTEGER", form: INTEGER };
    // REAL would make an integer of a float without a fraction, and so a zero of a negative zero.
    case "float":
      return { name: "ANY", form: FLOAT };
    case "bytes":
      return { name: "BLOB", form: BYTES };
    case "date":
    case "time":
    case "timestamp":
      return isPacked ? { name: "ANY", form: PACKED_MOMENT } : { name: "TEXT", form: MOMENT };
    case "json":
      return { name: "TEXT", form: JSON_TEXT };
    case "array":
      // box[] separates its elements by semicolons. JSON does not show lower bounds, which belong to a key.
      return { name: "TEXT", form: isKey || native === "box[]" ? TEXT : ARRAY };
    case "vector":
      return { name: "TEXT", form: TEXT };
    case "uuid":
      return isPacked ? { name: "ANY", form: PACKED_UUID } : { name: "TEXT", form: TEXT };
    case "decimal":
    case "text":
    case "enum":
    case "opaque":
      return { name: "TEXT", form: TEXT };
    default:
      return type satisfies never;
  }
}
