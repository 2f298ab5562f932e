/** The existing table under a target's name. */
import { decodeNote, type TargetNote, type WantedColumn } from "../../../../src/core/targets/following.ts";
import { quoteLiteral } from "../../quote.ts";
import type { TargetName } from "./names.ts";
import type { Session } from "../session.ts";

/** A column and its type, as text and as the catalogue has it: oid and modifier. */
export interface TypedColumn extends WantedColumn {
  readonly oid: string;
  readonly modifier: string;
}

export type FoundColumn = Omit<TypedColumn, "identity">;

export interface FoundTable {
  readonly kind: string;
  readonly columns: readonly FoundColumn[];
  /** Columns of each unique index that ON CONFLICT can use. */
  readonly uniques: readonly (readonly string[])[];
  /** The name of the primary key's constraint, and its columns. */
  readonly primaryKey: { readonly name: string; readonly columns: readonly string[] } | null;
  readonly note: TargetNote | null;
}

export async function findTable(session: Session, name: TargetName, signal: AbortSignal): Promise<FoundTable | null> {
  const oid = `(SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ${quoteLiteral(name.schema)} AND c.relname = ${quoteLiteral(name.table)})`;
  const { rows } = await session.query(
    `SELECT relkind, obj_description(oid, 'pg_class') FROM pg_class WHERE oid = ${oid};
     SELECT attname, atttypid, atttypmod, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = ${oid} AND attnum > 0 AND NOT attisdropped;
     SELECT i.indexrelid, a.attname, n.conname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
     LEFT JOIN pg_constraint n ON n.conindid = i.indexrelid AND n.contype = 'p'
     WHERE i.indrelid = ${oid} AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL`,
    signal,
  );
  const [kind, comment] = rows.find((row) => row.length === 2) ?? [];
  if (kind == null) return null;
  const uniques = new Map<string, string[]>();
  let primary: { readonly name: string; readonly index: string } | null = null;
  for (const row of rows) {
    if (row.length !== 3) continue;
    const [index, column, constraint] = row;
    uniques.set(index!, [...(uniques.get(index!) ?? []), column!]);
    if (constraint != null) primary = { name: constraint, index: index! };
  }
  const columns = rows.flatMap(([column, oid_, modifier, type], i) =>
    rows[i]!.length === 4 ? [{ name: column!, oid: oid_!, modifier: modifier!, type: type! }] : [],
  );
  return {
    kind,
    columns,
    uniques: [...uniques.values()],
    primaryKey: primary === null ? null : { name: primary.name, columns: uniques.get(primary.index)! },
    note: decodeNote(comment ?? null),
  };
}
