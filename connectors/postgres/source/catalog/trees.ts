/**
 * Trees by inheritance that are one table: a root and all tables that inherit from it. Postgres keeps no key over a tree, and
 * two rows with one key would be one row in a sink. So a tree is one table only if its CHECKs prove that no two of its tables
 * can hold the same key. Otherwise each table stays apart, with the reason.
 */
import { quoteTable } from "../../../../src/postgres/quote.ts";
import type { SourceContext } from "../wire/context.ts";
import { RowSession } from "../wire/row-session.ts";
import { belowIn, type Catalog, type CatalogTable } from "./catalog.ts";
import { keyOf } from "./keys.ts";

export interface Apart {
  readonly reason: string;
  readonly fix: string;
}

/** Why these tables, which others inherit from, are not one table with them; by oid. */
export type ApartRoots = ReadonlyMap<number, Apart>;

const BY_ROUTES = "Or give them one target by `tables`, with `into` and `add`.";
/** A whole tree is looked at again when one of its tables changes. */
const MEMBER_COUNT_MAX = 1_000;

/** Whether the rows of other tables are its own. */
export function isRoot({ kind, isTree }: CatalogTable): boolean {
  return kind === "p" || isTree === true;
}

/** The tables that hold its rows. */
export function holdersOf(table: CatalogTable, { below }: Pick<Catalog, "below">): readonly CatalogTable[] {
  if (!isRoot(table)) return [table];
  const leaves = below(table.oid).filter(({ kind }) => kind !== "p");
  return table.isTree === true ? [table, ...leaves] : leaves;
}

/** The tables that a publication has to carry for it. Rows of partitions come under their root's name, others under their own. */
export function carriersOf(table: CatalogTable, catalog: Pick<Catalog, "below">): readonly CatalogTable[] {
  return table.isTree === true ? holdersOf(table, catalog) : [table];
}

/** A table that others inherit from, and all of these. */
export interface Tree {
  readonly root: CatalogTable;
  /** The root first. */
  readonly members: readonly CatalogTable[];
}

/** The schema of TimescaleDB's chunks. Compression moves their rows, and the log shows that as deletes and inserts. */
const CHUNKS = "_timescaledb_internal";

/** The tree below a root, or why its tables are not one table. */
export function treeBelow(root: CatalogTable, byOid: ReadonlyMap<number, CatalogTable>): Tree | Apart {
  const members: CatalogTable[] = [root];
  const seen = new Set([root.oid]);
  for (const member of members) {
    for (const { oid, schema, table: name } of member.heirs) {
      const heir = byOid.get(oid);
      if (heir === undefined || heir.isIllegible === true)
        return {
          reason: `${quoteTable(schema, name)} is temporary, or can't be read`,
          fix: "Let it inherit from nothing.",
        };
      if (seen.has(oid)) continue;
      seen.add(oid);
      members.push(heir);
      if (members.length > MEMBER_COUNT_MAX)
        return { reason: `more than ${MEMBER_COUNT_MAX} tables inherit from it`, fix: "Partition it (PARTITION BY)." };
    }
  }
  if (members.some(({ schema }) => schema === CHUNKS))
    return {
      reason: "it is a hypertable of TimescaleDB, whose chunks stay tables of their own",
      fix: BY_ROUTES.replace(/^Or give/, "Give"),
    };
  const above = new Set(root.parents.map(({ oid }) => oid));
  for (const { schema, table: name, kind, persistence, parents } of members.slice(1)) {
    const heir = quoteTable(schema, name);
    if (kind === "f") return { reason: `${heir} is a foreign table`, fix: "Capture it at its own server." };
    if (persistence !== "p") return { reason: `${heir} is unlogged`, fix: `ALTER TABLE ${heir} SET LOGGED;` };
    if (parents.some(({ oid }) => !seen.has(oid) && !above.has(oid)))
      return { reason: `${heir} inherits from other tables too`, fix: "Let it inherit from this one alone." };
  }
  return { root, members };
}

/** The catalogue in which the tables of these trees are as partitions of their roots. */
export function withTrees(catalog: Catalog, trees: readonly Tree[]): Catalog {
  if (trees.length === 0) return catalog;
  const rootOf = new Map(trees.flatMap(({ root, members }) => members.map(({ oid }) => [oid, root] as const)));
  const tables = catalog.tables.map((table): CatalogTable => {
    const root = rootOf.get(table.oid);
    if (root === undefined) return table;
    if (root.oid === table.oid) return { ...table, isTree: true };
    return { ...table, ancestors: [{ oid: root.oid, schema: root.schema, table: root.table }] };
  });
  return { ...catalog, tables, below: belowIn(tables) };
}

// The proof that no two tables of a tree hold the same key.

interface CheckRow {
  readonly oid: number;
  readonly sign: string;
  readonly columns: readonly number[];
  readonly isFalse: boolean;
  readonly isPlain: boolean;
}

/**
 * A condition of constants, columns and the server's own comparisons: it is never null where its columns are not, so a row that
 * passes the CHECK fulfils it. Other expressions prove nothing, and functions of users are never run.
 */
const CHECKS_SQL = `
select c.conrelid::int8::float8 as oid, md5(c.oid || ' ' || c.conbin::text) as sign,
  array(select distinct m[1]::int8::float8 from regexp_matches(c.conbin::text, ':varattno (-?[0-9]+)', 'g') m) as columns,
  c.conbin::text ~ '^\\{CONST :consttype 16 .*:constisnull false .*\\[ 0 0 0 0 0 0 0 0 \\]\\}$' as "isFalse",
  c.conbin::text !~ ':constisnull true' and (
    select bool_and(m[1] in ('BOOLEXPR', 'OPEXPR', 'SCALARARRAYOPEXPR', 'VAR', 'CONST', 'RELABELTYPE', 'ARRAYEXPR', 'ARRAY', 'ARRAYCOERCEEXPR', 'CASETESTEXPR'))
    from regexp_matches(c.conbin::text, '\\{([A-Z_]+)', 'g') m) and not exists (
    select from regexp_matches(c.conbin::text, ':opno ([0-9]+)', 'g') m left join pg_operator o on o.oid = m[1]::oid
    where o.oprname in ('=', '<>', '<', '<=', '>', '>=', '+', '-', '*', '%', '~~') and o.oprnamespace = 'pg_catalog'::regnamespace is not true) as "isPlain"
from pg_constraint c
where c.contype = 'c' and c.convalidated and coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' and c.conrelid::int8 = any ($1)
order by c.oid`;

interface Holder {
  readonly table: CatalogTable;
  /** Which CHECKs prove something. */
  readonly sign: string;
}

/** By table, the CHECKs of all these trees. */
type Checks = ReadonlyMap<number, readonly CheckRow[]>;

export async function readChecks(
  { database }: Pick<SourceContext, "database">,
  trees: readonly Tree[],
  signal: AbortSignal,
): Promise<Checks> {
  if (trees.length === 0) return new Map();
  const oids = trees.flatMap(({ members }) => members.map(({ oid }) => oid));
  const doing = "looking at the constraints of tables that inherit";
  const rows = await database.rows<CheckRow>(doing, CHECKS_SQL, [oids], signal);
  return Map.groupBy(rows, ({ oid }) => oid);
}

/** Null: it is proven. Invariant: what was proven counts for tables whose CHECKs are the same, and for no others. */
export async function apartness(
  context: Pick<SourceContext, "database" | "provenTrees">,
  { root, members }: Tree,
  checks: Checks,
  signal: AbortSignal,
): Promise<Apart | null> {
  const holders: Holder[] = [];
  for (const table of members) {
    const own = checks.get(table.oid) ?? [];
    // It has no rows.
    if (own.some(({ isFalse }) => isFalse)) continue;
    const usable = own.filter((check) => check.isPlain && isOfKey(table, check.columns));
    holders.push({ table, sign: usable.map(({ sign }) => sign).join(" ") });
  }
  if (holders.length < 2) return null;
  const open = holders.find(({ sign }) => sign === "");
  if (open !== undefined) return withoutCheck(root, open.table);
  const known = context.provenTrees.get(root.oid) ?? new Map<number, string>();
  const isKnown = ({ table, sign }: Holder): boolean => known.get(table.oid) === sign;
  const fresh = holders.filter((holder) => !isKnown(holder));
  const left = fresh.length === 0 ? null : await overlapping(context, { root, holders, fresh }, signal);
  if (left !== null) return left;
  context.provenTrees.set(root.oid, new Map(holders.map(({ table, sign }) => [table.oid, sign])));
  return null;
}

function isOfKey(table: CatalogTable, columns: readonly number[]): boolean {
  const key = new Set(keyOf(table)?.columns);
  const inKey = new Set(table.columns.filter(({ name }) => key.has(name)).map(({ attnum }) => attnum));
  return columns.length > 0 && columns.every((attnum) => inKey.has(attnum));
}

function withoutCheck(root: CatalogTable, table: CatalogTable): Apart {
  const name = quoteTable(table.schema, table.table);
  const key = keyOf(root)?.columns.join(", ") ?? "";
  const reason = `no CHECK on the columns of the key (${key}) keeps the rows of ${name} apart from those of the others`;
  const fix =
    table.oid === root.oid
      ? `If it has no rows of its own: ALTER TABLE ONLY ${name} ADD CHECK (false) NO INHERIT;`
      : `ALTER TABLE ${name} ADD CHECK (…); with a condition on ${key} that only its own rows fulfil.`;
  return { reason, fix: `${fix} ${BY_ROUTES}` };
}

const LOCK_TIMEOUT = "5s";

interface ToProve {
  readonly root: CatalogTable;
  readonly holders: readonly Holder[];
  /** Those that are not proven to be apart from all others. */
  readonly fresh: readonly Holder[];
}

/**
 * The server's planner proves it: asked for the rows that fulfil one table's CHECKs, it plans to read no table whose CHECKs
 * exclude them. Nothing is read.
 */
async function overlapping(
  { database }: Pick<SourceContext, "database">,
  { root, holders, fresh }: ToProve,
  signal: AbortSignal,
): Promise<Apart | null> {
  const doing = `comparing the constraints of the tables that inherit from ${root.schema}.${root.table}`;
  const named = new Map(holders.map(({ table }) => [quoteTable(table.schema, table.table), table]));
  using session = await RowSession.open(database, signal);
  const begin = `BEGIN READ ONLY; SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'; SET LOCAL constraint_exclusion = on`;
  await session.rows(doing, begin, signal);
  for (const { table, sign } of fresh) {
    const signs = sign.split(" ").map((one) => `'${one}'`);
    const read = `select pg_get_expr(conbin, conrelid) from pg_constraint where conrelid = ${table.oid} and contype = 'c' and md5(oid || ' ' || conbin::text) in (${signs.join()})`;
    const conditions = (await session.rows(doing, read, signal)).map(([condition]) => condition ?? "null");
    // What compares with a null may be null itself.
    if (conditions.length !== signs.length || conditions.some((condition) => /null/i.test(condition)))
      return withoutCheck(root, table);
    const where = conditions.map((condition) => `(${condition})`).join(" and ");
    const sql = `EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT FROM ${quoteTable(root.schema, root.table)} WHERE ${where}`;
    const plan: unknown = JSON.parse((await session.rows(doing, sql, signal)).map(([line]) => line).join("\n"));
    for (const name of relationsIn(plan)) {
      const other = named.get(name);
      if (other !== undefined && other.oid !== table.oid) return overlap(table, other);
    }
  }
  return null;
}

function overlap(one: CatalogTable, other: CatalogTable): Apart {
  const [a, b] = [one, other].map(({ schema, table }) => quoteTable(schema, table));
  const reason = `the CHECKs of ${a} and ${b} do not exclude each other, so both may hold a row with the same key`;
  return { reason, fix: `Give each a CHECK on the key that only its own rows fulfil. ${BY_ROUTES}` };
}

/** Parse boundary: the server's own JSON. */
function* relationsIn(plan: unknown): Generator<string> {
  if (Array.isArray(plan)) {
    for (const one of plan) yield* relationsIn(one);
    return;
  }
  if (typeof plan !== "object" || plan === null) return;
  if ("Relation Name" in plan && "Schema" in plan) yield quoteTable(String(plan.Schema), String(plan["Relation Name"]));
  for (const value of Object.values(plan)) if (typeof value === "object") yield* relationsIn(value);
}
