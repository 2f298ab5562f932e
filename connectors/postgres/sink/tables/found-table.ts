/** The existing table under a target's name. */
import { decodeNote, type TargetNote, type WantedColumn } from "../../../../src/core/targets/following.ts";
import { quoteIdentifier, quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { TargetName } from "./names.ts";
import type { Session } from "../session.ts";

/** Begins the names of our own columns. */
export const OWN = "_millrace_";

/** A column and its type, as text and as the catalogue has it: oid and modifier. */
export interface TypedColumn extends WantedColumn {
  readonly oid: string;
  readonly modifier: string;
}

export interface FoundColumn extends Omit<TypedColumn, "identity"> {
  /** The server writes it: what makes it an ordinary column again. */
  readonly written: "DROP EXPRESSION" | "DROP IDENTITY" | null;
}

export interface FoundTable {
  readonly kind: string;
  readonly columns: readonly FoundColumn[];
  /** Columns of each unique index that ON CONFLICT can use. */
  readonly uniques: readonly (readonly string[])[];
  /** The name of the primary key's constraint, and its columns. */
  readonly primaryKey: { readonly name: string; readonly columns: readonly string[] } | null;
  readonly note: TargetNote | null;
  readonly isUnlogged: boolean;
  /** A policy hides rows from the role. */
  readonly isSecured: boolean;
  /** Quoted names of rules, and of triggers that may change or swallow rows. */
  readonly rules: readonly string[];
  readonly triggers: readonly string[];
}

export async function findTable(session: Session, name: TargetName, signal: AbortSignal): Promise<FoundTable | null> {
  const oid = `(SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ${quoteLiteral(name.schema)} AND c.relname = ${quoteLiteral(name.table)})`;
  const { rows } = await session.query(
    `SELECT relkind, obj_description(oid, 'pg_class'), relpersistence = 'u', row_security_active(oid),
       (SELECT json_agg(quote_ident(rulename)) FROM pg_rewrite WHERE ev_class = c.oid AND rulename <> '_RETURN' AND ev_enabled IN ('O', 'A')),
       (SELECT json_agg(quote_ident(tgname)) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 3 = 3)
     FROM pg_class c WHERE oid = ${oid};
     SELECT attname, atttypid, atttypmod, format_type(atttypid, atttypmod),
       CASE WHEN attgenerated <> '' THEN 'DROP EXPRESSION' WHEN attidentity = 'a' THEN 'DROP IDENTITY' END FROM pg_attribute WHERE attrelid = ${oid} AND attnum > 0 AND NOT attisdropped;
     SELECT i.indexrelid, a.attname, n.conname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
     LEFT JOIN pg_constraint n ON n.conindid = i.indexrelid AND n.contype = 'p'
     WHERE i.indrelid = ${oid} AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL`,
    signal,
  );
  const [kind, comment, unlogged, secured, rules, triggers] = rows.find((row) => row.length === 6) ?? [];
  if (kind == null) return null;
  const uniques = new Map<string, string[]>();
  let primary: { readonly name: string; readonly index: string } | null = null;
  for (const row of rows) {
    if (row.length !== 3) continue;
    const [index, column, constraint] = row;
    uniques.set(index!, [...(uniques.get(index!) ?? []), column!]);
    if (constraint != null) primary = { name: constraint, index: index! };
  }
  const columns = rows
    .filter((row) => row.length === 5)
    .map(([column, oid_, modifier, type, written]): FoundColumn => {
      const isWritten = written === "DROP EXPRESSION" || written === "DROP IDENTITY";
      return { name: column!, oid: oid_!, modifier: modifier!, type: type!, written: isWritten ? written : null };
    });
  return {
    kind,
    columns,
    uniques: [...uniques.values()],
    primaryKey: primary === null ? null : { name: primary.name, columns: uniques.get(primary.index)! },
    note: decodeNote(comment ?? null),
    isUnlogged: unlogged === "t",
    isSecured: secured === "t",
    rules: namesIn(rules),
    triggers: namesIn(triggers),
  };
}

function namesIn(json: string | null | undefined): readonly string[] {
  const names: unknown = JSON.parse(json ?? "[]");
  return Array.isArray(names) ? names.map(String) : [];
}

export interface Obstacle {
  readonly what: string;
  readonly fix: string;
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
  for (const rule of rules) {
    const what = `${table} has the rule ${rule} in the target: what is written would be changed, or refused`;
    found.push({ what, fix: `DROP RULE ${rule} ON ${table};` });
  }
  for (const column of columns) {
    if (column.written === null || !(written.includes(column.name) || column.name.startsWith(OWN))) continue;
    const name = quoteIdentifier(column.name);
    const what = `${table}.${name} is a column that the target writes by itself`;
    found.push({ what, fix: `ALTER TABLE ${table} ALTER COLUMN ${name} ${column.written};` });
  }
  return found;
}
