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
  /** Whether the type can't hold the value of `field`, whose text is then in `_millrace_exact`. Null: it holds all. */
  readonly unfit: ((field: string) => string) | null;
}

export function fileColumns({ columns }: Pick<Shape, "columns">): readonly FileColumn[] {
  const names = columnNames(columns);
  return columns.map(({ type }, i) => ({ name: names[i]!, ...landing(type) }));
}

type Landing = Omit<FileColumn, "name">;

const TEXT: Landing = { type: "VARCHAR", expression: (field) => field, unfit: null };

function landing(type: ColumnType): Landing {
  switch (type.kind) {
    case "bool":
      return cast("BOOLEAN");
    case "int":
      return cast(integerName(type.bits, type.signed));
    case "float":
      return float(type.bits === 32 ? "FLOAT" : "DOUBLE");
    case "decimal": {
      const name = decimalName(type.precision, type.scale ?? 0);
      if (name === null) return TEXT;
      const value = (field: string): string => `TRY_CAST(${field} AS ${name})`;
      return { type: name, expression: value, unfit: (field) => `${value(field)} IS NULL` };
    }
    case "bytes":
      return { type: "BLOB", expression: (field) => `from_hex(substr(${field}, 3))`, unfit: null };
    case "date":
      return within("DATE", (field) => `length(${field}) = 10`);
    case "timestamp":
      return within(type.zone ? "TIMESTAMPTZ" : "TIMESTAMP", (field) => `${field}[5] = '-' AND ${field}[-1] <> 'C'`);
    case "text":
    case "enum":
    case "opaque":
    case "json":
    case "uuid":
    case "time":
    case "array":
    case "vector":
      return TEXT;
    default:
      return type satisfies never;
  }
}

function cast(name: string): Landing {
  return { type: name, expression: (field) => `CAST(${field} AS ${name})`, unfit: null };
}

/** DuckDB's dictionaries in Parquet merge both zeros, so that only one may be there. */
function float(type: string): Landing {
  const expression = (field: string): string => `CAST(CASE WHEN ${field} = '-0' THEN '0' ELSE ${field} END AS ${type})`;
  return { type, expression, unfit: (field) => `${field} = '-0'` };
}

/** Years from 1 to 9999, which all warehouses have; infinities, other years and years before Christ do not fit. */
function within(type: string, fits: (field: string) => string): Landing {
  const expression = (field: string): string => `CASE WHEN ${fits(field)} THEN CAST(${field} AS ${type}) END`;
  return { type, expression, unfit: (field) => `NOT (${fits(field)})` };
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
