/**
 * Which type a column gets in a Postgres target. The table in README.md says the same in words.
 *
 * - From Postgres a built-in type is kept as it is, with modifier and array brackets.
 * - An opaque type of the source (extension, composite) is kept where the target has a type of that name; else text.
 * - A vector gets pgvector's type where the target has that extension, in whatever schema; else real[], a sparse one text.
 * - Everything else goes by its canonical type: domains to their base type, enums to text.
 */
import type { Column, TableVersion } from "../../../../src/core/model/schema.ts";
import type { ColumnType, VectorForm } from "../../../../src/core/model/types.ts";
import type { Answer } from "../../../../src/postgres/exchange.ts";
import { quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { CatalogType } from "../values/cells.ts";
import type { TypedColumn } from "./found-table.ts";
import { fitted } from "./names.ts";

type TypedTable = Pick<TableVersion, "columns" | "key" | "dialect">;

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
interface ForeignType {
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
function foreignType(column: Column, table: TypedTable): ForeignType | null {
  if (table.dialect !== "postgres" || keptType(column.native) !== null) return null;
  const innermost = column.type.kind === "array" ? column.type.of : column.type;
  const isForeign = innermost.kind === "opaque" || (innermost.kind === "vector" && column.type.kind === "array");
  // Operators of a key's type must be found without a search path, which is only true for built-in types.
  if (!isForeign || isInKey(column, table)) return null;
  const { base, modifier, brackets } = split(column.native);
  if (!QUALIFIED.test(base)) return null;
  return { name: base, suffix: `${PLAIN_MODIFIER.test(modifier) ? modifier : ""}${brackets}` };
}

const VECTOR_NAMES: Readonly<Record<VectorForm, string>> = { single: "vector", half: "halfvec", sparse: "sparsevec" };

/** The name of pgvector's type for this column; null: it is no vector, or in the key. */
function vectorName(column: Column, table: TypedTable): string | null {
  return column.type.kind !== "vector" || isInKey(column, table) ? null : VECTOR_NAMES[column.type.form];
}

function isInKey(column: Column, { key, columns }: TypedTable): boolean {
  return key.some((ordinal) => columns[ordinal] === column);
}

/** The SQL type of a column; `found` returns the target's spelling of a type that is not built in and exists there. */
function targetType(column: Column, table: TypedTable, found: (name: string) => string | undefined): string {
  if (column.type.kind === "vector") {
    const name = vectorName(column, table);
    if (name === null) return "text";
    const known = found(name);
    const { dimension, isUpTo, form } = column.type;
    if (known === undefined) return form === "sparse" ? "text" : "real[]";
    return dimension === null || isUpTo === true || dimension > VECTOR_DIMENSION_MAX[form]
      ? known
      : `${known}(${dimension})`;
  }
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
/** pgvector's limits. */
const VECTOR_DIMENSION_MAX: Readonly<Record<VectorForm, number>> = {
  single: 16_000,
  half: 16_000,
  sparse: 1_000_000_000,
};

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
    // Elsewhere than in an array it is not decided by its type alone.
    case "vector":
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

type Rows = Answer["rows"];

/** The SQL types of the columns. Types that are not built in are looked up by name. */
export async function resolveTypes(
  version: TypedTable,
  rows: (sql: string) => Promise<Rows>,
): Promise<readonly string[]> {
  const foreign = version.columns.flatMap((column) => foreignType(column, version)?.name ?? []);
  const lookups: string[] = [];
  if (foreign.length > 0) {
    const names = [...new Set(foreign)].map((name) => `(${quoteLiteral(name)})`).join(", ");
    lookups.push(
      `SELECT n, format_type(to_regtype(n), NULL) FROM (VALUES ${names}) AS v (n) WHERE to_regtype(n) IS NOT NULL`,
    );
  }
  if (version.columns.some((column) => vectorName(column, version) !== null)) lookups.push(VECTOR_TYPES);
  const known = new Map<string, string>();
  for (const sql of lookups)
    for (const [name, spelling] of await rows(sql)) if (name != null && spelling != null) known.set(name, spelling);
  return version.columns.map((column) => targetType(column, version, (n) => known.get(n)));
}

/** pgvector's types by their names, as the target spells them: the extension may be in any schema. */
const VECTOR_TYPES = `SELECT t.typname, format_type(t.oid, NULL) FROM pg_type t
  JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
  WHERE e.extname = 'vector' AND t.typname IN ('vector', 'halfvec', 'sparsevec')`;

/** The properties of built-in types are the same on every server, so they are read once. */
const described = new Map<string, Rows>();
const DESCRIBED_COUNT_MAX = 1_000;

/** What the server's catalogue says of these types, as columns of the table. */
export async function typesOf(
  version: TableVersion,
  types: readonly string[],
  rows: (sql: string) => Promise<Rows>,
): Promise<{ readonly wanted: readonly TypedColumn[]; readonly catalog: readonly CatalogType[] }> {
  const isBuiltIn = version.columns.every(
    (column) => foreignType(column, version) === null && vectorName(column, version) === null,
  );
  const key = types.join();
  const found = (isBuiltIn ? described.get(key) : undefined) ?? (await rows(describe(types)));
  if (described.size >= DESCRIBED_COUNT_MAX) described.clear();
  if (isBuiltIn) described.set(key, found);
  return {
    wanted: found.map(([oid, modifier, spelling], i) => ({
      name: fitted(version.columns[i]!.name),
      identity: version.columns[i]!.identity,
      oid: oid ?? "",
      modifier: modifier ?? "",
      type: spelling ?? "",
    })),
    catalog: found.map((row) => ({ name: row[3] ?? "", elementOid: Number(row[4]) })),
  };
}

/** Makes a temporary table with the types, asks about its columns, and drops it. */
function describe(types: readonly string[]): string {
  const columns = types.map((type, i) => `c${i} ${type}`).join(", ");
  return `CREATE TEMPORARY TABLE millrace_types (${columns}) ON COMMIT DROP;
     SELECT a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), t.typname, t.typelem
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = 'pg_temp.millrace_types'::regclass AND a.attnum > 0 ORDER BY a.attnum;
     DROP TABLE pg_temp.millrace_types`;
}
