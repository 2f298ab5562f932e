import type { Column } from "../../src/core/model/schema.ts";
import type { ColumnType } from "../../src/core/model/types.ts";

/** How to write a cell's canonical text as a CSV field. */
export const PLAIN = 0;
/** Plain, but NaN and infinities don't fit. */
export const DECIMAL = 1;
export const DATE = 2;
export const TIMESTAMP = 3;
/** Quoted, because it may be any text, even an empty one. */
export const TEXT = 4;
export const JSON_TEXT = 5;
/** Hex digits without the `\x`. */
export const HEX = 6;
/** A JSON array of the elements' forms. */
export const LIST = 7;
/** Plain, but the sign of a zero is stored separately: DuckDB's compression of runs merges both zeros. */
export const FLOAT = 8;
/** A float in a key: plain, but a zero has no sign. */
export const KEY_FLOAT = 9;
/** A timestamp with time zone: DuckDB calculates with milliseconds in floats, which are exact up to 2^53. */
export const INSTANT = 10;
export type Form = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

export interface DuckType {
  /** In the spelling of DuckDB's catalogue. */
  readonly name: string;
  /** The type with which the CSV reader reads the field. */
  readonly field: string;
  readonly form: Form;
  readonly element: Form;
  /** Converts the field into a value of the column's type. */
  readonly expression: (field: string) => string;
}

const DECIMAL_DIGITS_MAX = 38;
/** Of a vector. */
const NUMBER: ColumnType = { kind: "float", bits: 32 };

/**
 * The mapping; README.md shows it as a table. A key column is never a list: DuckDB can't index lists. In a lake the elements of
 * a list are never JSON: DuckLake can't read such lists back out of its catalogue, where small changes go first.
 */
export function duckType({ type, native }: Column, isKey: boolean, isLake: boolean): DuckType {
  // In a key, both zeros are equal, in Postgres too.
  if (type.kind === "float" && isKey) return { ...plain(floatName(type.bits)), form: KEY_FLOAT };
  if (type.kind === "vector" && !isKey && type.form !== "sparse") {
    const list = listType(NUMBER);
    // DuckLake has lists alone.
    if (isLake || type.dimension === null || type.isUpTo === true) return list;
    const name = `${floatName(32)}[${type.dimension}]`;
    return { ...list, name, expression: (field) => `CAST(${list.expression(field)} AS ${name})` };
  }
  if (type.kind !== "array") return scalarType(type);
  // box[] separates its elements by semicolons, all other types by commas.
  if (isKey || native === "box[]") return text("VARCHAR", TEXT);
  return listType(isLake && type.of.kind === "json" ? { kind: "text" } : type.of);
}

function scalarType(type: Exclude<ColumnType, { kind: "array" }>): DuckType {
  switch (type.kind) {
    case "bool":
      return plain("BOOLEAN");
    case "int":
      return plain(integerName(type.bits, type.signed));
    case "float":
      return { ...plain(floatName(type.bits)), form: FLOAT };
    case "decimal": {
      const name = decimalName(type.precision, type.scale ?? 0);
      return name === undefined ? text("VARCHAR", TEXT) : { ...plain(name), form: DECIMAL };
    }
    // Sparse, of a key, or an element.
    case "vector":
    case "text":
    case "enum":
    case "opaque":
      return text("VARCHAR", TEXT);
    case "bytes":
      return { ...text("BLOB", HEX), expression: (field) => `from_hex(${field})` };
    case "date":
      return { ...plain("DATE"), form: DATE };
    case "time":
      return plain("TIME");
    case "timestamp":
      return type.zone
        ? { ...plain("TIMESTAMP WITH TIME ZONE"), form: INSTANT }
        : { ...plain("TIMESTAMP"), form: TIMESTAMP };
    case "uuid":
      return plain("UUID");
    case "json":
      return { ...text("JSON", JSON_TEXT), expression: (field) => `CAST(${field} AS JSON)` };
    default:
      return type satisfies never;
  }
}

/** In Postgres the dimensions are not part of an array's type, so a list has one level, whatever the values have. */
function listType(of: ColumnType): DuckType {
  const element = of.kind === "array" ? text("VARCHAR", TEXT) : scalarType(of);
  const convert = element.form === TEXT ? "" : elementConversion(element);
  const expression = (field: string): string => {
    const strings = `from_json(${field}, '["VARCHAR"]')`;
    return convert === "" ? strings : `list_transform(${strings}, lambda millrace_x: ${convert})`;
  };
  return { name: `${element.name}[]`, field: "VARCHAR", form: LIST, element: element.form, expression };
}

function elementConversion(element: DuckType): string {
  if (element.form === HEX) return element.expression("millrace_x");
  return `CAST(millrace_x AS ${element.name})`;
}

function plain(name: string): DuckType {
  return { name, field: name, form: PLAIN, element: PLAIN, expression: (field) => field };
}

function text(name: string, form: Form): DuckType {
  return { name, field: "VARCHAR", form, element: PLAIN, expression: (field) => field };
}

function floatName(bits: 32 | 64): string {
  return bits === 32 ? "FLOAT" : "DOUBLE";
}

function integerName(bits: 8 | 16 | 24 | 32 | 64, signed: boolean): string {
  const sign = signed ? "" : "U";
  switch (bits) {
    case 8:
      return `${sign}TINYINT`;
    case 16:
      return `${sign}SMALLINT`;
    case 24:
    case 32:
      return `${sign}INTEGER`;
    case 64:
      return `${sign}BIGINT`;
    default:
      return bits satisfies never;
  }
}

/**
 * Undefined if only text keeps all digits: no precision, or more digits than DECIMAL has. A negative scale adds digits
 * before the point; a scale above the precision counts zeros after it.
 */
function decimalName(precision: number | null, scale: number): string | undefined {
  if (precision === null) return undefined;
  const digits = scale < 0 ? precision - scale : Math.max(precision, scale);
  return digits > DECIMAL_DIGITS_MAX ? undefined : `DECIMAL(${digits},${Math.max(scale, 0)})`;
}
