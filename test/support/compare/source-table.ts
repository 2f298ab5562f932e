/** The source's side: shape and rows of a table as the server itself prints them. */
import type { Client } from "pg";
import type { ColumnType, VectorForm } from "../../../src/core/model/types.ts";

/** A row of pg_type, numbers as the catalogue prints them. */
interface CatalogType {
  readonly oid: string;
  readonly name: string;
  readonly schema: string;
  /** typtype: b base, c composite, d domain, e enum, r range, m multirange. */
  readonly kind: string;
  readonly base: string;
  readonly baseModifier: number;
  /** Element type of a true array, else "0". */
  readonly element: string;
}

const BUILT_IN: Readonly<Record<string, ColumnType>> = {
  bool: { kind: "bool" },
  int2: { kind: "int", bits: 16, signed: true },
  int4: { kind: "int", bits: 32, signed: true },
  int8: { kind: "int", bits: 64, signed: true },
  oid: { kind: "int", bits: 32, signed: false },
  float4: { kind: "float", bits: 32 },
  float8: { kind: "float", bits: 64 },
  text: { kind: "text" },
  varchar: { kind: "text" },
  bpchar: { kind: "text" },
  name: { kind: "text" },
  bytea: { kind: "bytes" },
  date: { kind: "date" },
  time: { kind: "time" },
  timestamp: { kind: "timestamp", zone: false },
  timestamptz: { kind: "timestamp", zone: true },
  uuid: { kind: "uuid" },
  json: { kind: "json" },
  jsonb: { kind: "json" },
};

/** Of pgvector's extension. */
const VECTORS: Readonly<Record<string, VectorForm>> = { vector: "single", halfvec: "half", sparsevec: "sparse" };

/** What kind of values a column has, from Postgres' catalogue, by other means than the product's. */
function columnTypeOf(oid: string, modifier: number, types: ReadonlyMap<string, CatalogType>): ColumnType {
  const type = types.get(oid);
  if (type === undefined) return { kind: "opaque" };
  if (type.kind === "d") return columnTypeOf(type.base, type.baseModifier, types);
  if (type.kind === "e") return { kind: "enum", labels: [] };
  if (type.element !== "0") return { kind: "array", of: columnTypeOf(type.element, modifier, types) };
  if (type.name === "citext") return { kind: "text" };
  const form = VECTORS[type.name];
  if (form !== undefined) return { kind: "vector", form, dimension: modifier < 0 ? null : modifier };
  if (type.schema !== "pg_catalog") return { kind: "opaque" };
  // The length of precision does not matter to how a value is shown, only whether there is one.
  if (type.name === "numeric") {
    return modifier < 0
      ? { kind: "decimal", precision: null, scale: null }
      : { kind: "decimal", precision: (modifier - 4) >>> 16, scale: 0 };
  }
  return BUILT_IN[type.name] ?? { kind: "opaque" };
}

export interface TableName {
  readonly schema: string;
  readonly table: string;
  /** The columns of `key:` in the configuration, where it names others than the replica identity. */
  readonly key?: readonly string[];
  /** A view in the same schema that shows the table as its rules make it: a second path. Wants `key`. */
  readonly shownBy?: string;
}

export interface SourceColumn {
  readonly name: string;
  readonly type: ColumnType;
  /** As format_type spells it. */
  readonly native: string;
  readonly isKey: boolean;
}

export interface SourceTable {
  readonly schema: string;
  readonly table: string;
  /** Where its rows are read: itself, or the view that shows it. */
  readonly relation: string;
  readonly columns: readonly SourceColumn[];
  /** Ordinals in `columns`, in key order. */
  readonly key: readonly number[];
}

/** A cell as the server prints it, or null. */
export type Cells = readonly (string | null)[];

const ROWS_PER_FETCH = 2_000;

/** Under these a session prints values as the replication stream carries them. */
export const PRINTING = `set datestyle to 'ISO, MDY'; set timezone to 'UTC'; set extra_float_digits to 1;
  set bytea_output to 'hex'; set intervalstyle to 'postgres'; set lc_monetary to 'C'; set quote_all_identifiers to off;
  set search_path to pg_catalog`;

/** Gives every value as the text that the server sent. */
export const AS_TEXT = { getTypeParser: () => (text: string | Buffer) => String(text) };

export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

export function displayName({ schema, table }: Pick<TableName, "schema" | "table">): string {
  return `${schema}.${table}`;
}

export async function describeTable(client: Client, name: TableName): Promise<SourceTable> {
  const relation = `${quoted(name.schema)}.${quoted(name.shownBy ?? name.table)}`;
  const { rows: columns } = await client.query<{ name: string; oid: string; modifier: number; native: string }>(
    `select attname as name, atttypid::text as oid, atttypmod as modifier, format_type(atttypid, atttypmod) as native
     from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''
     order by attnum`,
    [relation],
  );
  const types = await readTypes(client);
  const keyNames = name.key ?? (await identityOf(client, name));
  const key = keyNames.map((column) => columns.findIndex((other) => other.name === column));
  if (key.length === 0 || key.includes(-1)) throw new Error(`${displayName(name)} has no key to compare rows by`);
  return {
    schema: name.schema,
    table: name.table,
    relation,
    key,
    columns: columns.map(({ name: column, oid, modifier, native }) => ({
      name: column,
      type: columnTypeOf(oid, modifier, types),
      native,
      isKey: keyNames.includes(column),
    })),
  };
}

async function readTypes(client: Client): Promise<Map<string, CatalogType>> {
  const { rows } = await client.query<CatalogType>(
    `select t.oid::text, t.typname as name, n.nspname as schema, t.typtype as kind, t.typbasetype::text as base,
       t.typtypmod as "baseModifier",
       case when t.typsubscript = 'array_subscript_handler'::regproc and t.typdelim = ',' then t.typelem::text else '0' end as element
     from pg_type t join pg_namespace n on n.oid = t.typnamespace`,
  );
  return new Map(rows.map((type) => [type.oid, type]));
}

/** The replica identity: primary key, USING INDEX, or under FULL the primary key, else the smallest usable index. */
async function identityOf(client: Client, { schema, table }: TableName): Promise<readonly string[]> {
  const { rows } = await client.query<{ columns: string[] }>(
    `select array(select a.attname::text from unnest(i.indkey::int2[]) with ordinality as k (attnum, n)
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
         where k.n <= i.indnkeyatts order by k.n) as columns
     from pg_class c join pg_index i on i.indrelid = c.oid
     where c.oid = $1::regclass and i.indisunique and i.indpred is null and i.indexprs is null
       and not exists (select from unnest(i.indkey::int2[]) with ordinality as k (attnum, n)
         join pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
         where k.n <= i.indnkeyatts and not a.attnotnull)
       and case c.relreplident when 'i' then i.indisreplident when 'f' then true else i.indisprimary end
     order by i.indisprimary desc, i.indnkeyatts, i.indexrelid limit 1`,
    [`${quoted(schema)}.${quoted(table)}`],
  );
  return rows[0]?.columns ?? [];
}

/** All rows through a cursor, a batch at a time, inside the client's transaction. */
export async function* readRows(client: Client, { relation, columns }: SourceTable): AsyncGenerator<Cells[]> {
  const list = columns.map(({ name }) => quoted(name)).join(", ");
  await client.query(`declare compared no scroll cursor for select ${list} from ${relation}`);
  for (;;) {
    const { rows } = await client.query<(string | null)[]>({
      text: `fetch ${ROWS_PER_FETCH} from compared`,
      rowMode: "array",
      types: AS_TEXT,
    });
    if (rows.length === 0) break;
    yield rows;
  }
  await client.query("close compared");
}
