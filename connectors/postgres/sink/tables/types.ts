/**
 * Which type a column gets in a Postgres target. The table in README.md says the same in words.
 *
 * - From Postgres a built-in type is kept as it is, with modifier and array brackets.
 * - An opaque type of the source (extension, composite) is kept where the target has a type of that name; else text.
 * - Everything else goes by its canonical type: domains to their base type, enums to text.
 */
import type { Column, TableVersion } from "../../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";

/**
 * Built-in types that exist in every database and whose text means the same everywhere (reg… types name other objects).
 */
const KEPT: ReadonlySet<string> = new Set(
  [
    "boolean|bool|smallint|int2|integer|int|int4|bigint|int8|oid",
    "real|float4|double precision|float8|numeric|decimal|money",
    'text|character varying|varchar|character|char|bpchar|name|"char"|bytea',
    "date|time|time without time zone|timetz|time with time zone|interval",
    "timestamp|timestamp without time zone|timestamptz|timestamp with time zone",
    'uuid|json|jsonb|jsonpath|xml|bit|"bit"|bit varying|varbit',
    "inet|cidr|macaddr|macaddr8|tsvector|tsquery|pg_lsn|pg_snapshot|txid_snapshot|xid8",
    "point|line|lseg|box|path|polygon|circle",
    "int4range|int8range|numrange|tsrange|tstzrange|daterange",
    "int4multirange|int8multirange|nummultirange|tsmultirange|tstzmultirange|datemultirange",
  ].flatMap((names) => names.split("|")),
);

/**
 * Their binary form depends on the server's locale, on an encoding, or on a version inside; a server does not read the one of
 * an empty tsquery.
 */
const NOT_IN_BINARY: ReadonlySet<string> = new Set([
  "money",
  "xml",
  "jsonpath",
  "tsquery",
  "pg_snapshot",
  "txid_snapshot",
]);

const INTERVAL_FIELDS = /^interval(?: (?:year|month|day|hour|minute|second)(?: to (?:month|hour|minute|second))?)?$/;

/** `base`, modifier `(…)` and brackets of a type in the spelling of format_type: `timestamp(3) with time zone[]`. */
function split(native: string): { base: string; modifier: string; brackets: string } {
  const match = /^(.*?)(?:\s*(\([^()"]*\)))?([^()"[\]]*)((?:\[\])*)$/s.exec(native);
  const [, head = native, modifier = "", tail = "", brackets = ""] = match ?? [];
  return { base: `${head}${tail}`.trim(), modifier, brackets };
}

/**
 * A type of the source that is not built in, to be looked up in the target: its quoted name, its modifier, its
 * brackets.
 */
export interface ForeignType {
  readonly name: string;
  readonly suffix: string;
}

/**
 * Only a text of the form `schema.name`, each part quoted or a plain word, is looked up; other texts are not names of
 * types.
 */
const QUALIFIED = /^(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)\.(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)$/;
const PLAIN_MODIFIER = /^\([A-Za-z0-9_, -]*\)$/;

/** The type to look up in the target for this column, or null if no lookup is needed. */
export function foreignType(column: Column, table: TableVersion): ForeignType | null {
  if (table.dialect !== "postgres" || keptType(column.native) !== null) return null;
  const innermost = column.type.kind === "array" ? column.type.of : column.type;
  // Operators of a key's type must be found without a search path, which is only true for built-in types.
  if (innermost.kind !== "opaque" || table.key.some((ordinal) => table.columns[ordinal] === column)) return null;
  const { base, modifier, brackets } = split(column.native);
  if (!QUALIFIED.test(base)) return null;
  return { name: base, suffix: `${PLAIN_MODIFIER.test(modifier) ? modifier : ""}${brackets}` };
}

/** The SQL type of a column; `found` returns the target's spelling of a foreign type that exists there. */
export function targetType(column: Column, table: TableVersion, found: (name: string) => string | undefined): string {
  if (table.dialect === "postgres") {
    const kept = keptType(column.native);
    if (kept !== null) return kept;
    const foreign = foreignType(column, table);
    const known = foreign === null ? undefined : found(foreign.name);
    if (foreign !== null && known !== undefined) return `${known}${foreign.suffix}`;
  }
  return canonicalType(column.type);
}

function keptType(native: string): string | null {
  const { base, modifier, brackets } = split(native);
  if (!KEPT.has(base) && !INTERVAL_FIELDS.test(base)) return null;
  if (modifier !== "" && !/^\(-?\d+(?:,-?\d+)?\)$/.test(modifier)) return null;
  if (modifier === "") return `${base}${brackets}`;
  // The modifier of times precedes the zone: `timestamp(3) with time zone`.
  const zone = /^(time|timestamp)( with(?:out)? time zone)$/.exec(base);
  const typed = zone === null ? `${base}${modifier}` : `${zone[1]}${modifier}${zone[2]}`;
  return `${typed}${brackets}`;
}

/** Whether this is a built-in type whose binary form means the same on every server, also in an array. */
export function isSameInBinary(native: string): boolean {
  return keptType(native) !== null && !NOT_IN_BINARY.has(split(native).base);
}

const DECIMAL_PRECISION_MAX = 1000;

function canonicalType(type: ColumnType): string {
  switch (type.kind) {
    case "bool":
      return "boolean";
    case "int":
      return type.signed ? signedType(type.bits) : unsignedType(type.bits);
    case "float":
      return type.bits === 32 ? "real" : "double precision";
    case "decimal":
      return type.precision === null || type.precision > DECIMAL_PRECISION_MAX
        ? "numeric"
        : `numeric(${type.precision},${type.scale ?? 0})`;
    case "bytes":
      return "bytea";
    case "date":
      return "date";
    case "time":
      return "time without time zone";
    case "timestamp":
      return type.zone ? "timestamp with time zone" : "timestamp without time zone";
    case "uuid":
      return "uuid";
    case "json":
      return "json";
    case "array":
      return `${canonicalType(type.of)}[]`;
    case "text":
    case "enum":
    case "opaque":
      return "text";
    default:
      return type satisfies never;
  }
}

function signedType(bits: 8 | 16 | 24 | 32 | 64): string {
  return bits === 64 ? "bigint" : bits >= 24 ? "integer" : "smallint";
}

function unsignedType(bits: 8 | 16 | 24 | 32 | 64): string {
  if (bits === 64) return "numeric(20,0)";
  return bits === 32 ? "bigint" : bits >= 16 ? "integer" : "smallint";
}
