/** How columns land in Parquet: types that all warehouses read. README.md shows them as a table. */
import type { ColumnType } from "../../../src/core/model/types.ts";
import type { Shape } from "../log/entry.ts";
import { columnNames } from "../names.ts";

const DECIMAL_DIGITS_MAX = 38;

export interface FileColumn {
  /** Name in the files. */
  readonly name: string;
  /** DuckDB's name of the type. */
  readonly type: string;
  /** The value from `field`, the cell's text. Null where the type can't hold it. */
  readonly expression: (field: string) => string;
  /** True if the source may have values that the type can't hold: their text is in `_millrace_exact`. */
  readonly mayNotFit: boolean;
}

export function fileColumns({ columns }: Pick<Shape, "columns">): readonly FileColumn[] {
  const names = columnNames(columns);
  return columns.map(({ type }, i) => ({ name: names[i]!, ...landing(type) }));
}

type Landing = Omit<FileColumn, "name">;

const TEXT: Landing = { type: "VARCHAR", expression: (field) => field, mayNotFit: false };

function landing(type: ColumnType): Landing {
  switch (type.kind) {
    case "bool":
      return cast("BOOLEAN");
    case "int":
      return cast(integerName(type.bits, type.signed));
    case "float":
      return cast(type.bits === 32 ? "FLOAT" : "DOUBLE");
    case "decimal": {
      const name = decimalName(type.precision, type.scale ?? 0);
      if (name === null) return TEXT;
      return { type: name, expression: (field) => `TRY_CAST(${field} AS ${name})`, mayNotFit: true };
    }
    case "bytes":
      return { type: "BLOB", expression: (field) => `from_hex(substr(${field}, 3))`, mayNotFit: false };
    case "date":
      return { type: "DATE", expression: (field) => inFourDigits(field, "DATE", 10), mayNotFit: true };
    case "timestamp": {
      const name = type.zone ? "TIMESTAMPTZ" : "TIMESTAMP";
      return { type: name, expression: (field) => inFourDigits(field, name), mayNotFit: true };
    }
    case "text":
    case "enum":
    case "opaque":
    case "json":
    case "uuid":
    case "time":
    case "array":
      return TEXT;
    default:
      return type satisfies never;
  }
}

function cast(name: string): Landing {
  return { type: name, expression: (field) => `CAST(${field} AS ${name})`, mayNotFit: false };
}

/** Years from 1 to 9999: what all warehouses have. No infinity has a dash there. */
function inFourDigits(field: string, type: string, length?: number): string {
  const fits = length === undefined ? `${field}[5] = '-' AND ${field}[-1] <> 'C'` : `length(${field}) = ${length}`;
  return `CASE WHEN ${fits} THEN CAST(${field} AS ${type}) END`;
}

/** Parquet's unsigned types are unknown to most warehouses. */
function integerName(bits: 8 | 16 | 24 | 32 | 64, signed: boolean): string {
  if (bits === 64) return signed ? "BIGINT" : "DECIMAL(20,0)";
  return bits === 32 && !signed ? "BIGINT" : "INTEGER";
}

/** Null: only text keeps all digits. */
function decimalName(precision: number | null, scale: number): string | null {
  if (precision === null) return null;
  const digits = scale < 0 ? precision - scale : Math.max(precision, scale);
  return digits > DECIMAL_DIGITS_MAX ? null : `DECIMAL(${digits},${Math.max(scale, 0)})`;
}
