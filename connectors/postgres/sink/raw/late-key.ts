/**
 * The key of a new table during its raw copy: it is taken away before the first row and built of all rows at the end. Row by
 * row an index costs the target a third of its processor time, built at once a sixth. The note beside the table says that the
 * key is owed: whoever prepares the table next makes it (tables/warehouse).
 */
import { encodeNote, type TargetNote } from "../../../warehouse/following.ts";
import { quoteIdentifier, quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { Session } from "../session.ts";
import { findTable } from "../tables/found-table.ts";
import { attempt } from "../tables/warehouse.ts";
import type { TargetTable } from "../tables/target-table.ts";

/** Something depends on the key, or it belongs to another role. */
const KEPT = /^(2BP01|42501)$/;

export interface OwedKey {
  readonly name: string;
  readonly note: TargetNote;
}

/** Inside a transaction. Null: the table keeps its key. */
export async function takeKey(session: Session, target: TargetTable, signal: AbortSignal): Promise<OwedKey | null> {
  const { quoted, isNew, name } = target;
  if (!isNew) return null;
  const found = await findTable(session, name, signal);
  if (found?.kind !== "r" || found.primaryKey === null || found.note === null) return null;
  const { rows } = await session.query(`SELECT FROM ${quoted} LIMIT 1`, signal);
  if (rows.length > 0) return null;
  const drop = `ALTER TABLE ${quoted} DROP CONSTRAINT ${quoteIdentifier(found.primaryKey.name)}`;
  if (!(await attempt(session, drop, signal, KEPT))) return null;
  await session.query(noteKey(quoted, { ...found.note, keyless: true }), signal);
  return { name: found.primaryKey.name, note: found.note };
}

/** The statements that make it. Readers wait only for the last ones, which do not look at the rows. */
export function makeKey({ quoted }: TargetTable, { name, note }: OwedKey): string {
  const key = quoteIdentifier(name);
  const columns = note.key.map(quoteIdentifier).join(", ");
  return `CREATE UNIQUE INDEX ${key} ON ${quoted} (${columns}); ALTER TABLE ${quoted} ADD CONSTRAINT ${key} PRIMARY KEY USING INDEX ${key}; ${noteKey(quoted, note)}`;
}

function noteKey(quoted: string, note: TargetNote): string {
  return `COMMENT ON TABLE ${quoted} IS ${quoteLiteral(encodeNote(note))}`;
}
