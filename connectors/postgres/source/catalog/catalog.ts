/** What the catalogue says about tables, as of now. The stream may be behind it: see shapes.ts. */
import type { OtherTable, PgType, PgTypes } from "./types.ts";
import type { Database, Reads } from "../wire/database.ts";
import type {
  Equalities,
  Equality,
  ForeignKey,
  NamedTable,
  TableSize,
} from "../../../../src/core/contracts/catalog.ts";
import type { SourceContext } from "../wire/context.ts";

export interface CatalogColumn {
  readonly attnum: number;
  readonly name: string;
  readonly type: number;
  readonly modifier: number;
  readonly native: string;
  readonly notNull: boolean;
  /** "" or how it is generated: s stored, v virtual. */
  readonly generated: string;
  /** Names of the columns that it is generated from. */
  readonly from: readonly string[];
  /** Whether rows from before the column show a default that they do not store (atthasmissing). */
  readonly missing: boolean;
}

export interface CatalogIndex {
  readonly oid: number;
  readonly name: string;
  readonly primary: boolean;
  /** The index of REPLICA IDENTITY USING INDEX. */
  readonly identity: boolean;
  /** False if its constraint is deferrable. */
  readonly immediate: boolean;
  /** attnums in index order. */
  readonly columns: readonly number[];
}

export interface CatalogTable {
  readonly oid: number;
  /** The file with its rows: a truncate or a rewrite changes it. */
  readonly file: number;
  /**
   * For a plain table: which transaction wrote the entry of each of its columns, dropped ones too. DDL on a column changes
   * it.
   */
  readonly written: string | null;
  /** Which transaction wrote the entry of its row type. A rename changes it, even if the table gets its old name back. */
  readonly named: string | null;
  readonly schema: string;
  readonly table: string;
  /** pg_class.relkind: r table, p partitioned, v view, m materialised view, f foreign. */
  readonly kind: string;
  /** pg_class.relpersistence: p permanent, u unlogged, t temporary. */
  readonly persistence: string;
  /** pg_class.relreplident. */
  readonly identity: string;
  /** The partitioned tables above it, nearest first. */
  readonly ancestors: readonly OtherTable[];
  /** For a partition, and a table that inherits: which transaction attached it, or created it as one. */
  readonly attached: string | null;
  /**
   * For a plain table: the tables that inherit from it directly. Their rows are not its own, but SELECT shows them.
   */
  readonly heirs: readonly OtherTable[];
  /** The tables that it inherits from, those of its partitioned table apart, and those that these inherit from. */
  readonly parents: readonly OtherTable[];
  /** It and the tables that inherit from it, which have it as their ancestor, are one table: see trees.ts. */
  readonly isTree?: true;
  /** The extension that it belongs to. */
  readonly extension: string | null;
  /** Policies hide rows of it from this role. */
  readonly hidesRows: boolean;
  readonly mayRead: boolean;
  /** Whether the role may use the names of its schema; without this, no other privilege helps. */
  readonly mayUseSchema: boolean;
  readonly owned: boolean;
  readonly columns: readonly CatalogColumn[];
  /** attnums of columns that were dropped. */
  readonly dropped: readonly number[];
  /** Valid unique indexes over plain columns of the whole table. */
  readonly uniques: readonly CatalogIndex[];
  /** Some name of it has no form in UTF-8. */
  readonly isIllegible?: true;
}

export interface Catalog {
  /** The role that the privileges are about. */
  readonly role: string;
  /** server_version_num */
  readonly version: number;
  readonly tables: readonly CatalogTable[];
  /** Partitions of the table with this oid, and theirs. */
  readonly below: (oid: number) => readonly CatalogTable[];
  readonly types: PgTypes;
  /** `TableVersion.relation` of the table with this oid. */
  readonly relation: (oid: number) => number;
}

const SYSTEM_SCHEMAS = "'pg_catalog', 'information_schema', 'pg_toast'";

/**
 * Every relation of the database that looks like a table, or those with these oids. As JSON, because one row per table is
 * the cheapest to parse.
 */
export async function readCatalog(
  database: Database,
  oids: readonly number[] | null,
  signal: AbortSignal,
): Promise<Catalog> {
  const read = { doing: "reading the catalogue", sql: TABLES_SQL, oids, all: OIDS_SQL };
  const rows = await readEach<CatalogRow>(database, read, asTheyAre, signal);
  const found = rows.flatMap(({ t }) => t ?? []);
  const typeOids = new Set(found.flatMap((table) => table.columns.map((column) => column.type)));
  const types = await readTypes(database, [...typeOids], signal);
  const { role, version, cluster } = rows[0]!;
  return { role, version, tables: found, below: belowIn(found), types, relation: (oid) => relationIn(cluster, oid) };
}

interface CatalogRow extends Pick<Catalog, "role" | "version"> {
  readonly t: CatalogTable | null;
  readonly cluster: string;
}

/** Each with the texts that have a form in UTF-8 as they are. */
async function asTheyAre(raw: readonly CatalogRow[], reads: Reads): Promise<CatalogRow[]> {
  const tables = raw.flatMap(({ t }) => t ?? []);
  const named = await legibleNames(
    reads,
    tables.flatMap((table) => [table, ...table.ancestors, ...table.heirs, ...table.parents]),
  );
  const settled: CatalogRow[] = [];
  for (const { t: table, ...row } of raw) {
    if (table === null) continue;
    const own = await reads.legible<CatalogRow>(OWN_SQL, [[table.oid]]);
    const { ancestors, heirs, parents } = table;
    const others = { ancestors: ancestors.map(named), heirs: heirs.map(named), parents: parents.map(named) };
    settled.push({ ...row, t: { ...named(table), ...(own?.[0]?.t ?? { isIllegible: true }), ...others } });
  }
  return settled;
}

/** What is read of several tables or types by their oids. */
interface OidRead {
  readonly doing: string;
  readonly sql: string;
  /** Null: of those that `all` lists. */
  readonly oids: readonly number[] | null;
  readonly all?: string;
}

/**
 * A name that has no form in UTF-8 makes the whole answer illegible, so the answer is halved until each has its own, all as of one
 * moment. `settle`: what to take of those with such a name, whose other characters than ASCII's are wrong too.
 */
export async function readEach<Row extends object>(
  database: Database,
  { doing, ...read }: OidRead,
  settle: (raw: readonly Row[], reads: Reads) => Promise<Row[]> | Row[],
  signal: AbortSignal,
): Promise<Row[]> {
  const legible = await database.legibleRows<Row>(doing, read.sql, [read.oids], signal);
  if (legible !== null) return legible;
  const inParts = async (reads: Reads): Promise<Row[]> => {
    const { raw, rows } = await halved<Row>(reads, read);
    return [...rows, ...(await settle(raw, reads))];
  };
  return await database.atOneMoment(doing, inParts, signal);
}

async function halved<Row extends object>(
  reads: Reads,
  { oids, sql, all = "" }: Omit<OidRead, "doing">,
): Promise<{ readonly rows: Row[]; readonly raw: Row[] }> {
  const legible = await reads.legible<Row>(sql, [oids]);
  if (legible !== null) return { rows: legible, raw: [] };
  const each = oids ?? (await reads.raw<{ oid: number }>(all, [])).map(({ oid }) => oid);
  if (each.length <= 1) return { rows: [], raw: await reads.raw<Row>(sql, [each]) };
  const half = Math.ceil(each.length / 2);
  const first = await halved<Row>(reads, { sql, oids: each.slice(0, half) });
  const second = await halved<Row>(reads, { sql, oids: each.slice(half) });
  return { rows: [...first.rows, ...second.rows], raw: [...first.raw, ...second.raw] };
}

const NAMES_SQL = `select c.oid::int8::float8 as oid, n.nspname as schema, c.relname as "table"
from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid::int8 = any ($1)`;

/** Gives each of these its name as it is, unless it is that name that has no form in UTF-8. */
async function legibleNames(
  reads: Reads,
  tables: readonly OtherTable[],
): Promise<<T extends OtherTable>(table: T) => T> {
  const oids = [...new Set(tables.map(({ oid }) => oid))];
  const { rows } = await halved<OtherTable>(reads, { sql: NAMES_SQL, oids });
  const names = new Map(rows.map((name) => [name.oid, name]));
  return (table) => ({ ...table, ...names.get(table.oid) });
}

/** There may be thousands of partitioned tables: none looks through all tables for its own. */
export function belowIn(tables: readonly CatalogTable[]): Catalog["below"] {
  const pairs = tables.flatMap((table) => table.ancestors.map(({ oid }) => ({ oid, table })));
  const found = Map.groupBy(pairs, ({ oid }) => oid);
  return (oid) => found.get(oid)?.map(({ table }) => table) ?? [];
}

/** The largest prime with which numbers of relations, whose oids have 32 bits, stay exact. */
const CLUSTERS = 2_097_143n;

/** In another cluster, into which a dump was restored, an oid is another table's. */
function relationIn(cluster: string, oid: number): number {
  return Number(BigInt(cluster) % CLUSTERS) * 2 ** 32 + oid;
}

/** Of one schema; those without a form in UTF-8 apart. */
export async function tableNames(database: Database, schema: string, signal: AbortSignal): Promise<readonly string[]> {
  const doing = "reading the names of tables";
  const named = "select oid::int8::float8 as oid from pg_namespace where nspname = $1";
  const [found] = await database.rows<{ oid: number }>(doing, named, [schema], signal);
  if (found === undefined) return [];
  const from = `from pg_class c where c.relnamespace = ${found.oid} and c.relkind in ('r', 'p')`;
  const read = {
    doing,
    sql: `select c.relname as name ${from} and ($1::int8[] is null or c.oid::int8 = any ($1))`,
    oids: null,
    all: `select c.oid::int8::float8 as oid ${from}`,
  };
  const rows = await readEach<{ name: string }>(database, read, () => [], signal);
  return rows.map(({ name }) => name);
}

const LISTED = `c.relkind in ('r', 'p', 'v', 'm', 'f')
    and c.relpersistence <> 't' and n.nspname not in (${SYSTEM_SCHEMAS}) and n.nspname !~ '^pg_(toast|temp)'`;
const OIDS_SQL = `select c.oid::int8::float8 as oid from pg_class c join pg_namespace n on n.oid = c.relnamespace where ${LISTED} order by n.nspname, c.relname`;

const TABLES_SQL = `
select found.t, current_user as role, current_setting('server_version_num')::int as version, system_identifier::text as cluster
from pg_control_system()
left join (select n.nspname, c.relname, json_build_object(
  'oid', c.oid::int8, 'file', c.relfilenode::int8,
  'written', case c.relkind when 'r' then (
      select md5(string_agg(a.attnum || ':' || a.xmin, ' ' order by a.attnum)) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0)
    end,
  'named', (select t.xmin::text from pg_type t where t.oid = c.reltype),
  'schema', n.nspname, 'table', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
  'identity', c.relreplident,
  'ancestors', case when c.relispartition
    then (select coalesce(json_agg(json_build_object('oid', p.oid::int8, 'schema', pn.nspname, 'table', p.relname) order by a.n), '[]')
      from pg_partition_ancestors(c.oid) with ordinality a (relid, n)
      join pg_class p on p.oid = a.relid join pg_namespace pn on pn.oid = p.relnamespace where a.relid <> c.oid)
    else '[]'::json end,
  'attached', (select string_agg(case when c.relispartition then '' else i.inhparent || ':' end || i.xmin, ' ' order by i.inhparent)
    from pg_inherits i where c.relkind in ('r', 'p') and i.inhrelid = c.oid),
  'heirs', case when c.relkind = 'r' and c.relhassubclass
    then (select coalesce(json_agg(json_build_object('oid', h.oid::int8, 'schema', hn.nspname, 'table', h.relname) order by h.oid), '[]') from pg_inherits i
      join pg_class h on h.oid = i.inhrelid join pg_namespace hn on hn.oid = h.relnamespace where i.inhparent = c.oid)
    else '[]'::json end,
  'parents', case when c.relkind = 'r' and not c.relispartition
    then (with recursive above as (
        select i.inhparent from pg_inherits i where i.inhrelid = c.oid
        union select i.inhparent from above join pg_inherits i on i.inhrelid = above.inhparent)
      select coalesce(json_agg(json_build_object('oid', p.oid::int8, 'schema', pn.nspname, 'table', p.relname) order by p.oid), '[]') from above
      join pg_class p on p.oid = above.inhparent join pg_namespace pn on pn.oid = p.relnamespace)
    else '[]'::json end,
  'extension', (select e.extname from pg_depend d join pg_extension e on e.oid = d.refobjid
    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0 and d.deptype = 'e'
      and d.refclassid = 'pg_extension'::regclass),
  'hidesRows', c.relrowsecurity and not pg_has_role(c.relowner, 'USAGE') and not r.rolbypassrls and not r.rolsuper
    or c.relrowsecurity and c.relforcerowsecurity and not r.rolbypassrls and not r.rolsuper,
  'mayUseSchema', has_schema_privilege(n.oid, 'USAGE'),
  'mayRead', has_table_privilege(c.oid, 'SELECT') or not exists (
      select from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and not has_column_privilege(c.oid, a.attnum, 'SELECT')),
  'owned', pg_has_role(c.relowner, 'USAGE'),
  'columns', (select coalesce(json_agg(json_build_object(
      'attnum', a.attnum, 'name', a.attname, 'type', a.atttypid::int8, 'modifier', a.atttypmod,
      'native', format_type(a.atttypid, a.atttypmod), 'notNull', a.attnotnull, 'generated', a.attgenerated,
      'missing', a.atthasmissing,
      'from', case when a.attgenerated = '' then '[]'::json else (
        select coalesce(json_agg(distinct f.attname), '[]') from pg_depend d
        join pg_attribute f on f.attrelid = c.oid and f.attnum = d.refobjsubid and f.attnum <> a.attnum
        where d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid
          and (d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = a.attnum
            or d.classid = 'pg_attrdef'::regclass
            and d.objid = (select e.oid from pg_attrdef e where e.adrelid = c.oid and e.adnum = a.attnum))) end
    ) order by a.attnum), '[]')
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  'dropped', (select coalesce(json_agg(a.attnum order by a.attnum), '[]')
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and a.attisdropped),
  'uniques', (select coalesce(json_agg(json_build_object(
      'oid', i.indexrelid::int8, 'name', ic.relname, 'primary', i.indisprimary, 'identity', i.indisreplident,
      'immediate', i.indimmediate, 'columns', (i.indkey::int2[])[0:i.indnkeyatts - 1]
    ) order by i.indnkeyatts, i.indexrelid), '[]')
    from pg_index i join pg_class ic on ic.oid = i.indexrelid
    where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null)
) as t
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
cross join (select rolbypassrls, rolsuper from pg_roles where rolname = current_user) r
where case when $1::int8[] is null
    then ${LISTED}
    else c.relkind in ('r', 'p', 'v', 'm', 'f') and c.oid::int8 = any ($1) end) found on true
order by found.nspname, found.relname`;

/** Without the names of other tables. */
const OWN_SQL = `select t::jsonb - '{ancestors,heirs,parents}'::text[] as t from (${TABLES_SQL}) own`;

/** The types with these oids, and the types that they consist of. */
export async function readTypes(database: Database, oids: readonly number[], signal: AbortSignal): Promise<PgTypes> {
  const read = { doing: "reading types", sql: TYPES_SQL, oids };
  const rows = await readEach<TypeRow>(database, read, typesAsTheyAre, signal);
  const byOid = new Map(rows.map(({ t }) => [t.oid, t]));
  return (oid) => byOid.get(oid);
}

interface TypeRow {
  readonly t: PgType;
}

async function typesAsTheyAre(raw: readonly TypeRow[], reads: Reads): Promise<TypeRow[]> {
  // Those that it consists of come with each.
  const types = new Map(raw.map(({ t }) => [t.oid, t]));
  const named = await legibleNames(
    reads,
    [...types.values()].flatMap(({ tables }) => tables),
  );
  const settled: TypeRow[] = [];
  for (const type of types.values()) {
    const own = await reads.legible<TypeRow>(OWN_TYPES_SQL, [[type.oid]]);
    const legible = own?.find(({ t }) => t.oid === type.oid)?.t ?? { isIllegible: true };
    settled.push({ t: { ...type, ...legible, tables: type.tables.map(named) } });
  }
  return settled;
}

const TYPES_SQL = `
with recursive wanted (oid) as (
  select unnest($1::int8[])
  union
  select u.oid from wanted w join pg_type t on t.oid::int8 = w.oid
  cross join lateral (
    values (t.typbasetype::int8), (t.typelem::int8)
    union all
    select a.atttypid::int8 from pg_attribute a
    where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    union all select r.rngsubtype::int8 from pg_range r where r.rngtypid = t.oid
    union all select r.rngtypid::int8 from pg_range r where r.rngmultitypid = t.oid
  ) u (oid) where u.oid <> 0
)
select json_build_object(
  'oid', t.oid::int8, 'name', t.typname, 'send', (select p.proname from pg_proc p where p.oid = t.typsend), 'kind', t.typtype, 'base', t.typbasetype::int8, 'baseModifier', t.typtypmod,
  -- Types like point have an element too without being arrays; box[] has semicolons between its elements; int2vector and
  -- oidvector are arrays with blanks between them.
  'element', case when t.typsubscript = 'array_subscript_handler'::regproc and t.typdelim = ',' and t.oid not in (22, 30) then t.typelem::int8 else 0 end,
  'bounds', coalesce((select case r.rngtypid when t.oid then r.rngsubtype else r.rngtypid end::int8
    from pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)), 0),
  'labels', (select coalesce(json_agg(e.enumlabel order by e.enumsortorder), '[]') from pg_enum e where e.enumtypid = t.oid),
  'attributes', (select coalesce(json_agg(json_build_object(
      'attnum', a.attnum, 'type', a.atttypid::int8, 'modifier', a.atttypmod) order by a.attnum), '[]')
    from pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped),
  'tables', (with recursive shown (oid, kind) as (
      select c.oid, c.relkind from pg_class c where t.typtype = 'c' and c.oid = t.typrelid
      union select c.oid, c.relkind from shown cross join lateral (
        select d.refobjid as oid from pg_rewrite w join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
        where shown.kind in ('v', 'm') and w.ev_class = shown.oid and d.refclassid = 'pg_class'::regclass
        union all select i.inhparent from pg_inherits i join pg_class p on p.oid = i.inhrelid and p.relispartition
        where i.inhrelid = shown.oid) above
      join pg_class c on c.oid = above.oid)
    select coalesce(json_agg(json_build_object('oid', c.oid::int8, 'schema', n.nspname, 'table', c.relname) order by c.oid), '[]')
    from shown join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace where shown.kind in ('r', 'p'))
) as t
from wanted w join pg_type t on t.oid::int8 = w.oid`;

/** Without the names of tables. */
const OWN_TYPES_SQL = `select t::jsonb - 'tables' as t from (${TYPES_SQL}) own`;

/** Types as format_type spells them, in the requested order; text for one whose name has no form in UTF-8. */
export async function formatTypes(
  database: Database,
  types: readonly { readonly type: number; readonly modifier: number }[],
  signal: AbortSignal,
): Promise<string[]> {
  const rows = await database.legibleRows<{ native: string }>(
    "reading types",
    "select format_type(t.oid::oid, t.modifier) as native from unnest($1::int8[], $2::int4[]) with ordinality as t (oid, modifier, n) order by t.n",
    [types.map((t) => t.type), types.map((t) => t.modifier)],
    signal,
  );
  if (rows !== null) return rows.map((row) => row.native);
  if (types.length <= 1) return ["text"];
  const natives: string[] = [];
  for (const type of types) natives.push(...(await formatTypes(database, [type], signal)));
  return natives;
}

/**
 * `reltuples` is from the last VACUUM or ANALYZE, below 0 before the first; the live rows are counted as they change, and
 * are lost with a crash. Each may be too low, so the higher one counts. A partitioned table has the rows of its leaves, and a
 * tree by inheritance those of all its tables. Nothing here waits for a lock of a table, as `pg_relation_size` and `pg_partition_tree` do.
 */
const PARTS = `
with recursive named as (
  select id, t.oid, t.oid::int8 = any ($4) as isTree from unnest($1::text[], $2::text[], $3::text[]) as named(id, schema, name)
  join pg_namespace n on n.nspname = named.schema
  join pg_class t on t.relnamespace = n.oid and t.relname = named.name
), parts as (
  select id, oid, isTree from named
  union select id, i.inhrelid, isTree from parts
  join pg_inherits i on i.inhparent = parts.oid
  join pg_class p on p.oid = i.inhrelid and (p.relispartition or parts.isTree)
)`;
const ESTIMATES_SQL = `${PARTS}, counted as (
  select id, reltuples, pg_stat_get_live_tuples(c.oid) as live from parts join pg_class c using (oid) where c.relkind <> 'p'
)
select id, case when bool_or(reltuples < 0 and live = 0) then null else sum(greatest(reltuples, live))::float8 end as rows
from counted group by id`;

export async function rowEstimates(
  context: SourceContext,
  tables: readonly NamedTable[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  const named = [tables.map(({ id }) => id), tables.map(({ schema }) => schema), tables.map(({ table }) => table)];
  const rows = await context.database.rows<{ readonly id: string; readonly rows: number | null }>(
    "reading the statistics of tables",
    ESTIMATES_SQL,
    [...named, context.leaves.trees],
    signal,
  );
  return new Map(rows.flatMap(({ id, rows: count }) => (count === null ? [] : [[id, Math.round(count)] as const])));
}

/** A value that lies apart counts in its column with the bytes of its place; the table of those has as many as its pages. */
const SIZES_SQL = `${PARTS}
select id, s.attname::text as column, avg(s.avg_width * (1 - s.null_frac))::float8 as bytes
from parts join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace
join pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and not s.inherited
group by 1, 2
union all
select id, null, sum(t.relpages * current_setting('block_size')::float8)
from parts join pg_class c using (oid) join pg_class t on t.oid = c.reltoastrelid
group by 1`;

export async function tableSizes(
  context: SourceContext,
  tables: readonly NamedTable[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, TableSize>> {
  const counts = await rowEstimates(context, tables, signal);
  const rows = await context.database.rows<{
    readonly id: string;
    readonly column: string | null;
    readonly bytes: number;
  }>(
    "reading the statistics of columns",
    SIZES_SQL,
    [
      tables.map(({ id }) => id),
      tables.map(({ schema }) => schema),
      tables.map(({ table }) => table),
      context.leaves.trees,
    ],
    signal,
  );
  return new Map(
    [...counts].map(([id, rowCount]) => {
      const own = rows.filter((row) => row.id === id);
      const columnBytes = new Map(
        own.flatMap(({ column, bytes }) => (column === null ? [] : [[column, bytes] as const])),
      );
      const apart = own.find(({ column }) => column === null)?.bytes ?? 0;
      return [id, { rowCount, columnBytes, restBytes: apart / Math.max(1, rowCount) }];
    }),
  );
}

/** Of a partitioned table that of the whole: those of its parts have it as their parent. */
const FOREIGN_KEYS_SQL = `
with named as (
  select t.oid, n.nspname as schema, t.relname as name
  from unnest($1::text[], $2::text[]) as named(schema, name)
  join pg_namespace n on n.nspname = named.schema
  join pg_class t on t.relnamespace = n.oid and t.relname = named.name
)
select own.schema, own.name as table, other.schema as other_schema, other.name as other_table,
  array(select attname::text from unnest(conkey) with ordinality as k(number, i)
    join pg_attribute on attrelid = conrelid and attnum = number order by i) as columns,
  array(select attname::text from unnest(confkey) with ordinality as k(number, i)
    join pg_attribute on attrelid = confrelid and attnum = number order by i) as referenced
from pg_constraint join named own on own.oid = conrelid join named other on other.oid = confrelid
where contype = 'f' and conparentid = 0
order by 1, 2, conname`;

interface ForeignKeyRow {
  readonly schema: string;
  readonly table: string;
  readonly other_schema: string;
  readonly other_table: string;
  readonly columns: readonly string[];
  readonly referenced: readonly string[];
}

export async function foreignKeys(
  { database }: SourceContext,
  tables: readonly NamedTable[],
  signal: AbortSignal,
): Promise<readonly ForeignKey[]> {
  const named = [tables.map(({ schema }) => schema), tables.map(({ table }) => table)];
  const rows = await database.rows<ForeignKeyRow>("reading foreign keys", FOREIGN_KEYS_SQL, named, signal);
  return rows.map((row) => ({
    table: { schema: row.schema, table: row.table },
    columns: row.columns,
    references: { schema: row.other_schema, table: row.other_table },
    referenced: row.referenced,
  }));
}

/** Of a domain, the type below. A collation that is deterministic has one form for equal texts. */
const EQUALITIES_SQL = `
with recursive named as (
  select t.oid, given.id
  from unnest($1::text[], $2::text[], $3::text[]) as given(id, schema, name)
  join pg_namespace n on n.nspname = given.schema
  join pg_class t on t.relnamespace = n.oid and t.relname = given.name
), typed as (
  select id, attname, attcollation, atttypid as type
  from named join pg_attribute on attrelid = named.oid and attnum > 0 and not attisdropped
  union all
  select id, attname, attcollation, typbasetype from typed join pg_type on pg_type.oid = typed.type where typtype = 'd'
)
select id, attname::text as column, case when typname = 'citext' then 'citext' else collname::text end as by
from typed join pg_type on pg_type.oid = typed.type left join pg_collation c on c.oid = attcollation
where typname = 'citext' or not collisdeterministic`;

interface EqualityRow {
  readonly id: string;
  readonly column: string;
  readonly by: string;
}

export async function equalities(
  { database }: SourceContext,
  tables: readonly NamedTable[],
  signal: AbortSignal,
): Promise<Equalities> {
  const named = [tables.map(({ id }) => id), tables.map(({ schema }) => schema), tables.map(({ table }) => table)];
  const rows = await database.rows<EqualityRow>("reading the collations of columns", EQUALITIES_SQL, named, signal);
  const found = new Map(tables.map(({ id }) => [id, new Map<string, Equality>()]));
  for (const { id, column, by } of rows) found.get(id)?.set(column, { by, alike: null });
  return found;
}
