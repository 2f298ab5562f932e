/**
 * The columns of a table that shares its target with others: of the widest type that holds their values as they are, so that
 * columns of other sizes are one column. No table has to be known for another one's, and none changes when another one comes.
 */
import type { Column, DialectName } from "../core/model/schema.ts";

/** What warehouses have at most. */
const DECIMAL_DIGITS_MAX = 38;

export function wideColumn(column: Column, dialect: DialectName): Column {
  const { type, native } = column;
  const isMysql = dialect === "mysql";
  switch (type.kind) {
    case "int":
      if (!type.signed && type.bits === 64) return column;
      return { ...column, type: { kind: "int", bits: 64, signed: true }, native: "bigint" };
    case "text":
      return type.padded === true ? column : { ...column, native: isMysql ? "longtext" : "text" };
    case "enum":
      return { ...column, type: { kind: "text" }, native: isMysql ? "longtext" : "text" };
    case "decimal": {
      const { precision, scale } = type;
      if (precision === null || precision > DECIMAL_DIGITS_MAX || (scale ?? 0) < 0) return column;
      const wide = { kind: "decimal", precision: DECIMAL_DIGITS_MAX, scale } as const;
      return {
        ...column,
        type: wide,
        native: `${isMysql ? "decimal" : "numeric"}(${DECIMAL_DIGITS_MAX},${scale ?? 0})`,
      };
    }
    case "bytes":
      return isMysql && !/^bit/i.test(native) ? { ...column, native: "longblob" } : column;
    case "time":
    case "timestamp":
      return { ...column, native: isMysql ? `${native.replace(/\(\d\)/, "")}(6)` : native.replace(/\(\d\)/, "") };
    case "bool":
    case "float":
    case "date":
    case "uuid":
    case "json":
    case "array":
    case "vector":
    case "opaque":
      return column;
    default:
      return type satisfies never;
  }
}
