/**
 * How columns are mapped. The document holds the JSON form of src/core/values/json.ts, exactly; the mapping only decides
 * what can be searched, and no value may make it refuse the document: what a field can't take is kept and not indexed
 * (`ignore_malformed`, `ignore_above`).
 *
 *   int                 byte, short, integer, long by width; unsigned ones the next wider, 64 bits unsigned_long
 *   float               float, double                     NaN and the infinities are not indexed
 *   decimal             keyword, and <field>.number as double for ranges
 *   text                keyword up to 8,191 characters, and <field>.text for full-text search
 *   enum, uuid, time    keyword
 *   date, timestamp     date (to the millisecond; the document keeps microseconds); infinity is not indexed
 *   bool                boolean
 *   bytes               binary: kept, not searchable
 *   json                object that is not indexed: takes any JSON, scalars and mixed types included
 *   array               as its elements
 *   others              keyword
 */
import type { ColumnType } from "../../../src/core/model/types.ts";

export interface Mapping {
  readonly type: string;
  /** Subfields of the value, each under `<field>.<form>`. */
  readonly fields?: Readonly<Record<string, Mapping>>;
  readonly [setting: string]: unknown;
}

/** A keyword's term is limited to 32,766 bytes; a character has up to four. */
const KEYWORD_CHARACTERS_MAX = 8_191;
const KEYWORD: Mapping = { type: "keyword", ignore_above: KEYWORD_CHARACTERS_MAX };

export function mappingOf(type: ColumnType): Mapping {
  switch (type.kind) {
    case "bool":
      return { type: "boolean" };
    case "int":
      return { type: integerType(type.bits, type.signed), ignore_malformed: true };
    case "float":
      return { type: type.bits === 32 ? "float" : "double", ignore_malformed: true };
    case "decimal":
      return { ...KEYWORD, fields: { number: { type: "double", ignore_malformed: true } } };
    case "text":
      return { ...KEYWORD, fields: { text: { type: "text" } } };
    case "enum":
    case "uuid":
    case "time":
    case "opaque":
      return KEYWORD;
    case "date":
    case "timestamp":
      return { type: "date", format: "strict_date_optional_time_nanos", ignore_malformed: true };
    case "bytes":
      return { type: "binary" };
    case "json":
      return { type: "object", enabled: false };
    case "array":
      return mappingOf(type.of);
    default:
      return type satisfies never;
  }
}

function integerType(bits: number, signed: boolean): string {
  if (bits === 64) return signed ? "long" : "unsigned_long";
  if (bits === 32) return signed ? "integer" : "long";
  if (bits === 24) return "integer";
  if (bits === 16) return signed ? "short" : "integer";
  return signed ? "byte" : "short";
}

/** How many fields a mapping counts against index.mapping.total_fields.limit. */
export function fieldCountOf({ fields }: Mapping): number {
  return fields === undefined ? 1 : 2;
}
