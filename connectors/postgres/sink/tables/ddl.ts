/** Prepares the target for one version of a table: looks it up, creates it, or makes it follow the table's shape. */
import { failpoint } from "../../../../src/core/failpoint.ts";
import { followsByNote } from "../../../../src/core/targets/carrying.ts";
import { encodeNote, noteOf } from "../../../../src/core/targets/following.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import { type CatalogType, cellForms } from "../write/cells.ts";
import { fatal } from "../errors.ts";
import { attempt, dropColumn, followTable } from "./follow.ts";
import { deletedDefinition, type TargetForm, TIME_COLUMN, VERSION_COLUMN } from "./form.ts";
import { findTable, type TypedColumn } from "./found-table.ts";
import { HISTORY_COLUMNS, OFFSET_COLUMN } from "./history-table.ts";
import { fitted, type TargetName } from "./names.ts";
import type { Session } from "../session.ts";
import { TargetTable } from "./target-table.ts";
import type { Answer } from "../../../../src/postgres/exchange.ts";
import { foreignType, targetType } from "./types.ts";

const RESERVED = "_millrace_";

/** A table's target as it should be. The last two are choices of the configuration. */
export interface WantedTarget {
  readonly version: TableVersion;
  readonly name: TargetName;
  readonly form: TargetForm;
  readonly dropsColumns: boolean;
  /** See TargetNote. */
  readonly owner: string;
}

/** Runs inside the caller's transaction, which holds the fence. `ordinal`: see TargetTable. */
export async function prepareTable(
  session: Session,
  target: WantedTarget,
  ordinal: number,
  signal: AbortSignal,
): Promise<TargetTable> {
  const { version, name, form } = target;
  refuseReserved(version);
  const types = await resolveTypes(session, version, signal);
  const { wanted, catalog } = await describeTypes(session, version, types, signal);
  const found = await findTable(session, name, signal);
  if (found === null) await createTable(session, target, types, signal);
  const retired = found === null ? [] : await followTable(session, { ...target, types, wanted, found }, signal);
  const note = encodeNote(noteOf(version, wanted, target.owner));
  if (found?.note == null || encodeNote(found.note) !== note) await noteShape(session, name, note, signal);
  failpoint("postgres-sink.table-made", version);
  const forms = cellForms(version, catalog);
  return new TargetTable({ version, name, ordinal, types, forms, retired, form, isNew: found === null });
}

/** See `Sink.carries`. */
export async function carriesTable(
  session: Session,
  from: TableVersion,
  { version: to, name, form, dropsColumns }: WantedTarget,
  signal: AbortSignal,
): Promise<boolean> {
  const found = await findTable(session, name, signal);
  if (found === null) return false;
  // A column that a mirror keeps must be null in all rows; a history keeps the old values.
  const gone = from.columns.filter((column) => to.columns.every(({ identity }) => identity !== column.identity));
  const isMirror = form.mode === "mirror";
  if (gone.length > 0 && isMirror && !dropsColumns) return false;
  // Rolled back: it must leave nothing.
  await session.query("BEGIN", signal);
  const { wanted } = await describeTypes(session, to, await resolveTypes(session, to, signal), signal);
  const table = quoteTable(name.schema, name.table);
  let areFree = true;
  for (const column of isMirror ? gone : []) areFree &&= await dropColumn(session, table, fitted(column.name), signal);
  await session.query("ROLLBACK", signal);
  if (!areFree) return false;
  const names = found.columns.map((column) => column.name);
  const before = from.columns.map(({ name: column, identity }) => ({ name: fitted(column), identity }));
  return followsByNote(names, found.note, before, to, wanted);
}

const NOT_THE_OWNER = /^42501$/;

/**
 * Writes the note for the next shape beside the table: see core/targets/following. If another role owns the table,
 * names will decide then.
 */
async function noteShape(session: Session, name: TargetName, note: string, signal: AbortSignal): Promise<void> {
  const sql = `COMMENT ON TABLE ${quoteTable(name.schema, name.table)} IS ${quoteLiteral(note)}`;
  await attempt(session, sql, signal, NOT_THE_OWNER);
}

function refuseReserved(version: TableVersion): void {
  const reserved = version.columns.find((column) => column.name.startsWith(RESERVED));
  if (reserved === undefined) return;
  throw fatal(
    "MR3117",
    `column ${JSON.stringify(reserved.name)} of ${version.id} begins with ${RESERVED}, which is reserved`,
    "Rename the column, or exclude the table.",
  );
}

/** The SQL types of the columns. Types that are not built in are looked up by name. */
async function resolveTypes(session: Session, version: TableVersion, signal: AbortSignal): Promise<readonly string[]> {
  const foreign = version.columns.flatMap((column) => foreignType(column, version)?.name ?? []);
  const known = new Map<string, string>();
  if (foreign.length > 0) {
    const names = [...new Set(foreign)].map((name) => `(${quoteLiteral(name)})`).join(", ");
    const sql = `SELECT n, format_type(to_regtype(n), NULL) FROM (VALUES ${names}) AS v (n) WHERE to_regtype(n) IS NOT NULL`;
    for (const [n, spelling] of (await session.query(sql, signal)).rows)
      if (n != null && spelling != null) known.set(n, spelling);
  }
  return version.columns.map((column) => targetType(column, version, (n) => known.get(n)));
}

/** The properties of built-in types are the same on every server, so they are read once. */
const described = new Map<string, Answer["rows"]>();
const DESCRIBED_COUNT_MAX = 1_000;

async function typeRows(
  session: Session,
  version: TableVersion,
  types: readonly string[],
  signal: AbortSignal,
): Promise<Answer["rows"]> {
  if (version.columns.some((column) => foreignType(column, version) !== null))
    return await askTypes(session, types, signal);
  const key = types.join();
  let rows = described.get(key);
  if (rows === undefined) {
    rows = await askTypes(session, types, signal);
    if (described.size >= DESCRIBED_COUNT_MAX) described.clear();
    described.set(key, rows);
  }
  return rows;
}

/** Asks the server about the wanted types: it creates a temporary table with them and rolls the transaction back. */
async function askTypes(session: Session, types: readonly string[], signal: AbortSignal): Promise<Answer["rows"]> {
  const columns = types.map((type, i) => `c${i} ${type}`).join(", ");
  const { rows } = await session.query(
    `CREATE TEMPORARY TABLE millrace_types (${columns}) ON COMMIT DROP;
     SELECT a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), t.typname, t.typelem
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = 'pg_temp.millrace_types'::regclass AND a.attnum > 0 ORDER BY a.attnum;
     DROP TABLE pg_temp.millrace_types`,
    signal,
  );
  return rows;
}

async function describeTypes(
  session: Session,
  version: TableVersion,
  types: readonly string[],
  signal: AbortSignal,
): Promise<{ readonly wanted: readonly TypedColumn[]; readonly catalog: readonly CatalogType[] }> {
  const rows = await typeRows(session, version, types, signal);
  return {
    wanted: rows.map(([oid, modifier, spelling], i) => ({
      name: fitted(version.columns[i]!.name),
      identity: version.columns[i]!.identity,
      oid: oid ?? "",
      modifier: modifier ?? "",
      type: spelling ?? "",
    })),
    catalog: rows.map((row) => ({ name: row[3] ?? "", elementOid: Number(row[4]) })),
  };
}

/** Follows the key: the newest change of a key comes first. */
const CHANGE_ORDER = [`${VERSION_COLUMN} DESC`, `${OFFSET_COLUMN} DESC`];

async function createTable(
  session: Session,
  { version, name, form }: WantedTarget,
  types: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const schema = quoteLiteral(name.schema);
  // Looked up first: IF NOT EXISTS requires the right to create schemas even if there is nothing to create.
  const { rows } = await session.query(`SELECT 1 FROM pg_namespace WHERE nspname = ${schema}`, signal);
  const createSchema = rows.length > 0 ? "" : `CREATE SCHEMA IF NOT EXISTS ${quoteIdentifier(name.schema)}; `;
  const columns = version.columns.map((column, i) => {
    const notNull = version.key.includes(i) && form.mode === "mirror" ? " NOT NULL" : "";
    return `${quoteIdentifier(fitted(column.name))} ${types[i]}${notNull}`;
  });
  const key = version.key.map((i) => quoteIdentifier(fitted(version.columns[i]!.name)));
  const isHistory = form.mode === "history";
  const indexed = isHistory ? HISTORY_COLUMNS : [`PRIMARY KEY (${key.join(", ")})`];
  const own = [`${VERSION_COLUMN} bigint NOT NULL`, `${TIME_COLUMN} timestamptz`, ...indexed];
  if (form.deletes === "soft" && form.mode === "mirror") own.unshift(deletedDefinition);
  const table = quoteTable(name.schema, name.table);
  const createIndex = isHistory ? `; CREATE UNIQUE INDEX ON ${table} (${[...key, ...CHANGE_ORDER].join(", ")})` : "";
  await session.query(
    `${createSchema}CREATE TABLE ${table} (${[...columns, ...own].join(", ")})${createIndex}`,
    signal,
  );
}
