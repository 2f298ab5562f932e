/** The publication: reads it, and compares it with what it must be. publish.ts changes it. */
import { BEGIN_ANEW, sourceError } from "../errors.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import { type CatalogTable, readEach } from "./catalog.ts";
import type { SourceContext } from "../wire/context.ts";

/** Marks a publication as made by Millrace: only then are tables removed from it. */
export const COMMENT = "Made and kept in step by Millrace";

export interface Publication {
  readonly oid: number;
  /** Which transaction wrote its entry: every change except of its tables changes it. */
  readonly written: string;
  readonly allTables: boolean;
  readonly viaRoot: boolean;
  /** True if inserts, updates, deletes and truncates are all published. */
  readonly allOperations: boolean;
  /** Whether we may change it, and can. */
  readonly owned: boolean;
  readonly ours: boolean;
  /** Table oid -> oid of its entry; removing the table and adding it again changes it. */
  readonly entries: ReadonlyMap<number, number>;
  /** Table oid -> oid of the entry of its schema, if the whole schema is published. */
  readonly schemaEntries: ReadonlyMap<number, number>;
  /** Oids of all published tables, those of FOR ALL TABLES and FOR TABLES IN SCHEMA included. */
  readonly published: ReadonlySet<number>;
  /** Table oid -> its published columns. */
  readonly columns: ReadonlyMap<number, readonly string[]>;
  /** Whether tables without a column list are published with their stored generated columns. */
  readonly hasStored: boolean;
  /** Oids of tables with a row filter. */
  readonly filtered: ReadonlySet<number>;
}

interface PublicationRow {
  readonly version: number;
  readonly oid: string;
  readonly written: string;
  readonly all_tables: boolean;
  readonly via_root: boolean;
  readonly all_operations: boolean;
  readonly owned: boolean;
  readonly ours: boolean;
  readonly has_stored: boolean;
  readonly entries: readonly { readonly table: number; readonly entry: number }[];
}

interface PublishedRow {
  readonly oid: string;
  readonly schema_entry: string | null;
  readonly columns: readonly string[] | null;
  readonly filtered: boolean;
}

/** Undefined if there is none of that name. */
export async function readPublication(
  { database, writer, publication }: Pick<SourceContext, "database" | "writer" | "publication">,
  signal: AbortSignal,
): Promise<Publication | undefined> {
  const [row] = await database.rows<PublicationRow>(
    "reading the publication",
    `select current_setting('server_version_num')::int as version, p.oid::text, p.xmin::text as written, p.puballtables as all_tables, p.pubviaroot as via_root,
       p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as all_operations,
       coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false) as has_stored, pg_has_role(p.pubowner, 'USAGE') as owned, coalesce(obj_description(p.oid, 'pg_publication') = $2, false) as ours,
       (select coalesce(json_agg(json_build_object('table', r.prrelid::int8, 'entry', r.oid::int8)), '[]')
        from pg_publication_rel r where r.prpubid = p.oid) as entries
     from pg_publication p where p.pubname = $1`,
    [publication, COMMENT],
    signal,
  );
  if (row === undefined) return undefined;
  const sql = publishedSql(publication, row.version >= 150_000);
  const read = { doing: "reading the publication", sql, oids: null, all: PUBLISHABLE_SQL };
  const published = await readEach<PublishedRow>(database, read, (raw) => [...raw], signal);
  return {
    oid: Number(row.oid),
    written: row.written,
    allTables: row.all_tables,
    viaRoot: row.via_root,
    allOperations: row.all_operations,
    owned: row.owned && (await writer.canWrite(signal)),
    ours: row.ours,
    hasStored: row.has_stored,
    entries: new Map(row.entries.map((e) => [e.table, e.entry])),
    schemaEntries: new Map(
      published.flatMap((p) => (p.schema_entry === null ? [] : [[Number(p.oid), Number(p.schema_entry)] as const])),
    ),
    published: new Set(published.map((p) => Number(p.oid))),
    columns: new Map(published.flatMap((p) => (p.columns === null ? [] : [[Number(p.oid), p.columns] as const]))),
    filtered: new Set(published.filter((p) => p.filtered).map((p) => Number(p.oid))),
  };
}

/**
 * The published tables, as pg_publication_tables has them. From Postgres 15 on that view locks every table that it lists,
 * and so waits for any session that rewrites one of them (measured: a start waited until an ALTER TABLE was committed).
 * `hasSchemas`: FOR TABLES IN SCHEMA exists (15). Columns: null without a column list.
 */
function publishedSql(publication: string, hasSchemas: boolean): string {
  const inSchemas = hasSchemas
    ? `union select c.oid from p join pg_publication_namespace s on s.pnpubid = p.oid
         join pg_class c on c.relnamespace = s.pnnspid and ${PUBLISHABLE}`
    : "";
  const schemaEntry = hasSchemas
    ? "(select s.oid::text from pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = c.relnamespace)"
    : "null";
  // What is published with its schema, or with all tables, has neither filter nor column list.
  const byItself = hasSchemas
    ? "and not exists (select from pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = c.relnamespace)"
    : "";
  return `with recursive p as (select * from pg_publication where pubname = ${quoteLiteral(publication)}),
    named (oid) as (
      select r.prrelid from p join pg_publication_rel r on r.prpubid = p.oid ${inSchemas}
      union select c.oid from p join pg_class c on p.puballtables and ${PUBLISHABLE}),
    spread (oid) as (
      select oid from named
      union select i.inhrelid from spread s join pg_class c on c.oid = s.oid and c.relkind = 'p'
        join pg_inherits i on i.inhparent = s.oid)
    select c.oid::text, ${schemaEntry} as schema_entry,
      case when to_jsonb(r) ->> 'prattrs' is not null then (select jsonb_agg(a.attname) from pg_attribute a
          where a.attrelid = c.oid and to_jsonb(r) -> 'prattrs' @> to_jsonb(a.attnum))
        when to_jsonb(p) ->> 'pubgencols' = 's' then (select jsonb_agg(a.attname) from pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated in ('', 's'))
        end as columns,
      to_jsonb(r) ->> 'prqual' is not null as filtered
    from p join pg_class c on c.oid in (select oid from spread)
    left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid and not p.puballtables ${byItself}
    where ($1::int8[] is null or c.oid::int8 = any ($1)) and case when p.pubviaroot then c.oid in (select oid from named) and not exists (
        select from pg_partition_ancestors(c.oid) a join named n on n.oid = a.relid where a.relid <> c.oid)
      else c.relkind <> 'p' end`;
}

/** For pg_class as `c`: what FOR ALL TABLES includes; the server's own relations have lower oids. */
const PUBLISHABLE = "c.relkind in ('r', 'p') and c.relpersistence = 'p' and c.oid >= 16384";
const PUBLISHABLE_SQL = `select c.oid::int8::float8 as oid from pg_class c where ${PUBLISHABLE}`;

/** Those of `tables` that the publication carries, or that are added to it. */
export function publishable(
  context: Pick<SourceContext, "selection">,
  current: Publication,
  tables: readonly CatalogTable[],
): readonly CatalogTable[] {
  return tables.filter((table) => current.published.has(table.oid) || mayAdd(context, current, table));
}

/**
 * What somebody else has made is published on purpose as it is. Nothing of it is changed, but for a table that is added to it
 * because it is named literally.
 */
function mayAdd({ selection }: Pick<SourceContext, "selection">, current: Publication, table: CatalogTable): boolean {
  const { ours, owned, viaRoot } = current;
  const isNamed = selection.isLiteral(table.schema, table.table) && (viaRoot || table.kind !== "p");
  return owned && table.owned && (ours || isNamed);
}

/** Why these tables, which the publication lacks, are not added to it. */
export function addRefusal(current: Publication, tables: readonly CatalogTable[]): string {
  const { owned, ours } = current;
  const may = owned && tables.every((table) => table.owned);
  if (may && lacksRoot(current, tables))
    return "it publishes partitions under their own names, and Millrace did not make it";
  if (may && !ours) return "Millrace did not make it, and adds only tables that `tables` names without a wildcard";
  return `the role may not add ${tables.length === 1 ? "it" : "them"}`;
}

/** What brings these tables into a publication that lacks them. */
export function addAdvice(
  publication: string,
  current: Publication | undefined,
  tables: readonly CatalogTable[],
): string {
  if (current === undefined) return `${addStatement(publication, tables)};`;
  const { allTables, entries } = current;
  const unnamed = allTables ? [] : tables.filter(({ oid }) => !entries.has(oid));
  const statements = [
    ...(lacksRoot(current, tables) ? [viaRootStatement(publication)] : []),
    ...(unnamed.length > 0 ? [addStatement(publication, unnamed)] : []),
  ];
  return statements.map((statement) => `${statement};`).join(" ");
}

/** True if rows of partitions come under the partitions' names. */
export function lacksRoot({ viaRoot }: Publication, tables: readonly CatalogTable[]): boolean {
  return !viaRoot && tables.some(({ kind }) => kind === "p");
}

export function createStatement(publication: string, tables: readonly CatalogTable[]): string {
  const list = tables.length === 0 ? "" : ` FOR TABLE ${tables.map(member).join(", ")}`;
  return `CREATE PUBLICATION ${quoteIdentifier(publication)}${list} WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)`;
}

export function addStatement(publication: string, tables: readonly CatalogTable[]): string {
  return `ALTER PUBLICATION ${quoteIdentifier(publication)} ADD TABLE ${tables.map(member).join(", ")}`;
}

export function viaRootStatement(publication: string): string {
  return `ALTER PUBLICATION ${quoteIdentifier(publication)} SET (publish_via_partition_root = true)`;
}

/** A publication that leaves out rows or kinds of change would silently make every sink wrong. */
export function checkPublication(context: SourceContext, current: Publication, tables: readonly CatalogTable[]): void {
  const name = quoteIdentifier(context.publication);
  if (!current.allOperations) {
    throw sourceError(
      "MR2017",
      "fatal",
      `the publication ${context.publication} does not publish every kind of change`,
      { hint: `ALTER PUBLICATION ${name} SET (publish = 'insert, update, delete, truncate'). ${BEGIN_ANEW}` },
    );
  }
  const filtered = tables.find((table) => current.filtered.has(table.oid));
  if (filtered !== undefined) {
    throw sourceError(
      "MR2017",
      "fatal",
      `the publication ${context.publication} filters rows of ${filtered.schema}.${filtered.table}`,
      { hint: `Publish the table without WHERE. ${BEGIN_ANEW}` },
    );
  }
}

/** ONLY: a child by inheritance is a separate table. */
export function member(table: CatalogTable): string {
  return `${table.kind === "r" ? "ONLY " : ""}${quoteTable(table.schema, table.table)}`;
}
