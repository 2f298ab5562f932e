/** The existing table under a target's name. */
import { decodeNote, type WantedColumn } from "../../../warehouse/following.ts";
import { quoteIdentifier, quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { TargetName } from "./names.ts";
import type { Session } from "../wire/session.ts";
import { formOf, isOwn, VERSION_COLUMN } from "../../../warehouse/own-columns.ts";
import type { ExistingColumn, ExistingTarget } from "../../../warehouse/table-change.ts";
import type { Answer } from "../../../../src/postgres/exchange.ts";
import { groupsOf } from "../../../../src/core/each-of.ts";

/** A column and its type, as text and as the catalogue has it: oid and modifier. */
export interface TypedColumn extends WantedColumn {
  readonly oid: string;
  readonly modifier: string;
}

export interface FoundColumn extends ExistingColumn {
  readonly oid: string;
  readonly modifier: string;
  /** The server writes it: what makes it an ordinary column again. */
  readonly written: "DROP EXPRESSION" | "DROP IDENTITY" | null;
}

/** Its keys are the unique indexes that ON CONFLICT can use. */
export interface FoundTable extends ExistingTarget {
  readonly kind: string;
  /** Tables inherit from it, so a column changes in these too. */
  readonly hasHeirs: boolean;
  readonly columns: ReadonlyMap<string, FoundColumn>;
  /** The name of the primary key's constraint, and its columns. */
  readonly primaryKey: { readonly name: string; readonly columns: readonly string[] } | null;
  readonly isUnlogged: boolean;
  /** A policy hides rows from the role. */
  readonly isSecured: boolean;
  /** The role may change the table itself, not only its rows. */
  readonly isOwned: boolean;
  /** Quoted names of rules, and of triggers that may change or swallow rows. */
  readonly rules: readonly string[];
  readonly triggers: readonly string[];
}

/**
 * How statements name the rows of a table. Tables that inherit from it have rows of their own; a partitioned table has none
 * but those of its partitions.
 */
export function rowsOf(quoted: string, kind: string | null | undefined): string {
  return kind === "p" ? quoted : `ONLY ${quoted}`;
}

export async function findTable(session: Session, name: TargetName, signal: AbortSignal): Promise<FoundTable | null> {
  return (await findTables(session, [name], signal))[0] ?? null;
}

/** See `FoundTable`. */
export function rulesOf(oid: string): string {
  return `(SELECT json_agg(quote_ident(rulename)) FROM pg_rewrite WHERE ev_class = ${oid} AND rulename <> '_RETURN' AND ev_enabled IN ('O', 'A'))`;
}

export function triggersOf(oid: string): string {
  return `(SELECT json_agg(quote_ident(tgname)) FROM pg_trigger WHERE tgrelid = ${oid} AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 3 = 3)`;
}

/** How many names one statement asks for. */
const NAMES_MAX = 250;

/** In the order of the names. */
export async function findTables(
  session: Session,
  names: readonly TargetName[],
  signal: AbortSignal,
): Promise<readonly (FoundTable | null)[]> {
  const found: (FoundTable | null)[] = [];
  for (const some of groupsOf(names, NAMES_MAX)) found.push(...(await look(session, some, signal)));
  return found;
}

async function look(
  session: Session,
  names: readonly TargetName[],
  signal: AbortSignal,
): Promise<readonly (FoundTable | null)[]> {
  const listed = names.map(
    ({ schema, table }, i) => `(${i}, ${quoteLiteral(schema)}::name, ${quoteLiteral(table)}::name)`,
  );
  const tables = `(SELECT v.i, c.* FROM (VALUES ${listed.join(", ")}) AS v (i, s, t) JOIN pg_namespace n ON n.nspname = v.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = v.t) AS c`;
  const own = `c.oid, c.relkind, obj_description(c.oid, 'pg_class')`;
  const { rows } = await session.query(
    `SELECT c.i, ${own}, c.relpersistence = 'u', row_security_active(c.oid),
       ${rulesOf("c.oid")}, ${triggersOf("c.oid")},
       c.relkind <> 'p' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid), pg_has_role(c.relowner, 'USAGE')
     FROM ${tables};
     SELECT c.i, attname, atttypid, atttypmod, format_type(atttypid, atttypmod),
       CASE WHEN attgenerated <> '' THEN 'DROP EXPRESSION' WHEN attidentity = 'a' THEN 'DROP IDENTITY' END
     FROM ${tables} JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY c.i, attnum;
     SELECT c.i, x.indexrelid, a.attname, n.conname FROM ${tables} JOIN pg_index x ON x.indrelid = c.oid
     JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey[0:x.indnkeyatts - 1])
     LEFT JOIN pg_constraint n ON n.conindid = x.indexrelid AND n.contype = 'p'
     WHERE x.indisunique AND x.indimmediate AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL`,
    signal,
  );
  const byTable = Map.groupBy(rows, ([i]) => Number(i));
  return names.map((_, i) => foundTable(byTable.get(i) ?? []));
}

type Row = Answer["rows"][number];

function foundTable(rows: readonly Row[]): FoundTable | null {
  const [, , kind, comment, unlogged, secured, rules, triggers, heirs, owned] =
    rows.find((row) => row.length === 10) ?? [];
  if (kind == null) return null;
  const uniques = new Map<string, string[]>();
  let primary: { readonly name: string; readonly index: string } | null = null;
  for (const row of rows) {
    if (row.length !== 4) continue;
    const [, index, column, constraint] = row;
    uniques.set(index!, [...(uniques.get(index!) ?? []), column!]);
    if (constraint != null) primary = { name: constraint, index: index! };
  }
  const columns = new Map(rows.filter((row) => row.length === 6).map((row) => [row[1]!, foundColumn(row)]));
  const isTable = kind === "r" || kind === "p";
  return {
    kind,
    hasHeirs: heirs === "t",
    isView: !isTable,
    form: isTable && columns.get(VERSION_COLUMN)?.type === "bigint" ? formOf(columns) : null,
    columns,
    keys: [...uniques.values()],
    primaryKey: primary === null ? null : { name: primary.name, columns: uniques.get(primary.index)! },
    note: decodeNote(comment ?? null),
    isUnlogged: unlogged === "t",
    isSecured: secured === "t",
    isOwned: owned === "t",
    rules: namesIn(rules),
    triggers: namesIn(triggers),
  };
}

function foundColumn([, name, oid, modifier, type, written]: Row): FoundColumn {
  const isWritten = written === "DROP EXPRESSION" || written === "DROP IDENTITY";
  return { name: name!, oid: oid!, modifier: modifier!, type: type!, written: isWritten ? written : null };
}

export function namesIn(json: string | null | undefined): readonly string[] {
  const names: unknown = JSON.parse(json ?? "[]");
  return Array.isArray(names) ? names.map(String) : [];
}

export interface Obstacle {
  readonly what: string;
  readonly fix: string;
}

export function ofRule(table: string, rule: string): Obstacle {
  const what = `${table} has the rule ${rule} in the target: what is written would be changed, or refused`;
  return { what, fix: `DROP RULE ${rule} ON ${table};` };
}

/** What somebody made of the table, so that it would lose, or never get, what is written to these columns. */
export function obstaclesOf(
  table: string,
  { isUnlogged, rules, columns }: FoundTable,
  written: readonly string[],
): readonly Obstacle[] {
  const found: Obstacle[] = [];
  if (isUnlogged) {
    const what = `${table} is UNLOGGED in the target: a crash of that server would empty it`;
    found.push({ what, fix: `ALTER TABLE ${table} SET LOGGED;` });
  }
  for (const rule of rules) found.push(ofRule(table, rule));
  for (const column of columns.values()) {
    if (column.written === null || !(written.includes(column.name) || isOwn(column.name))) continue;
    const name = quoteIdentifier(column.name);
    const what = `${table}.${name} is a column that the target writes by itself`;
    found.push({ what, fix: `ALTER TABLE ${table} ALTER COLUMN ${name} ${column.written};` });
  }
  return found;
}
