/**
 * Batches of a history sink: stages all rows in the order of the log, then appends them. A row is one change; (key, version,
 * offset) identifies it and is unique, so an existing change is not appended again when the log is read again.
 */
import { mayLackInserts, type TableWrites } from "../../../src/core/model/batch.ts";
import { holdsReads, READ_OFFSET } from "../../../src/core/targets/history.ts";
import {
  COMMIT_TIME_COLUMN,
  EXACT_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  SEEN_COLUMN,
  UNCHANGED_COLUMN,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";
import { readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { quoteIdentifier, quoteLiteral } from "../names.ts";
import {
  cellFields,
  COMMIT_TIME,
  field,
  insertNew,
  mergedExact,
  type TableLayout,
  readCsv,
  type StagedFile,
  TAIL,
} from "./layout.ts";
import { expectExact, type UnwrittenEntries, refusing, STAGE_BYTES_MAX, type WriteTools } from "./merge.ts";
import { staging, type Staging } from "./stage.ts";

const CHANGES = "temp.main.millrace_changes";
/** The row of a change's key before the change, or now. */
const FOUND = "temp.main.millrace_found";

const VERSION = quoteIdentifier(VERSION_COLUMN);
const OFFSET = quoteIdentifier(OFFSET_COLUMN);
const OP = quoteIdentifier(OP_COLUMN);
const UNCHANGED = quoteIdentifier(UNCHANGED_COLUMN);
const SEEN = quoteIdentifier(SEEN_COLUMN);
const EXACT = quoteIdentifier(EXACT_COLUMN);
const TIME = quoteIdentifier(COMMIT_TIME_COLUMN);

/** Columns of a history besides the source's, version and commit time. */
export const HISTORY_COLUMNS: readonly string[] = [
  `${OP} VARCHAR NOT NULL`,
  `${OFFSET} BIGINT NOT NULL`,
  `${UNCHANGED} VARCHAR[]`,
  `${SEEN} BIGINT`,
];

export async function appendTable(
  tools: WriteTools,
  layout: TableLayout,
  writes: TableWrites,
  without: ReadonlySet<number>,
): Promise<UnwrittenEntries> {
  const entries = Array.from({ length: writes.count }, (_, i) => i).filter((i) => !without.has(i));
  const work = staging(layout, writes, "append", entries);
  const incomplete = await appendEntries(tools, work);
  return { incomplete, unfit: work.unfit };
}

/** Piece by piece: a later piece can build on earlier ones. Returns the entries with cells whose value is unknown. */
export async function appendEntries(tools: WriteTools, work: Staging): Promise<number[]> {
  const { connection, stage } = tools;
  const file = tools.files[0];
  const { layout, writes, entries } = work;
  const unknown: number[] = [];
  while (work.next < entries.length) {
    tools.signal.throwIfAborted();
    const from = work.next;
    await stage.fill(file, work, STAGE_BYTES_MAX);
    if (file.byteCount === 0) continue;
    await tools.makeRoom(file.rowBytesMax);
    expectExact(tools, work);
    const withExact = tools.hasExact(layout);
    await refusing(work, entries.slice(from, work.next), async () => {
      await connection.run(stageChangesSql(layout, file));
      if (holdsReads(writes)) {
        await connection.run(findLatestSql(layout, withExact));
        for (const sql of appendReadsSql(layout, withExact)) await connection.run(sql);
        return;
      }
      const withBases = writes.patchCount > 0;
      if (withBases) {
        await connection.run(findBasesSql(layout, withExact));
        const rows = await readTextRows(connection, unknownSql(layout));
        for (const [entry] of rows) unknown.push(Number(entry));
      }
      await connection.run(appendSql(layout, withExact, withBases));
    });
  }
  return unknown;
}

function stageChangesSql(layout: TableLayout, file: StagedFile): string {
  const fields = [
    ["entry", "INTEGER"] as const,
    ["op", "VARCHAR"] as const,
    ["place", "BIGINT"] as const,
    ["held", "BOOLEAN"] as const,
    ["mask", "VARCHAR"] as const,
    ...cellFields(layout),
    ...layout.key.map(({ duck }, i) => [`k${i}`, duck.field] as const),
    ...TAIL,
  ];
  const values = layout.columns.map(({ duck }, i) => `${duck.expression(field(i))} AS ${field(i)}`);
  const base = layout.key.map(({ duck }, i) => `${duck.expression(`k${i}`)} AS k${i}`);
  return (
    `CREATE OR REPLACE TEMP TABLE millrace_changes AS SELECT entry, op, place, held, mask, ${[...values, ...base].join(", ")}, ` +
    `version, commit_us, exact FROM ${readCsv(file, fields)}`
  );
}

/**
 * Finds the latest earlier row for changes with unchanged cells. A deleted row, one that a truncate removed before the change, or
 * one with unknown values, supplies nothing. Truncates are looked for, in the whole history, only where such a row can be the latest.
 */
function findBasesSql(layout: TableLayout, withExact: boolean): string {
  const matches = layout.key.map(({ name }, i) => `h.${quoteIdentifier(name)} = staged.k${i}`);
  const before = `(h.${VERSION} < staged.version OR h.${VERSION} = staged.version AND h.${OFFSET} < staged.place)`;
  const place = `(t.${VERSION}, t.${OFFSET})`;
  const isBetween = `${place} > (b.v, b.o) AND ${place} < (b.version, b.place)`;
  const truncate = `(SELECT 1 FROM ${layout.sqlName} AS t WHERE t.${OP} = 't' AND ${isBetween})`;
  const isThere = mayLackInserts(layout.table) ? `AND NOT EXISTS ${truncate}` : "";
  return findSql(layout, withExact, [...matches, before], `WHERE op <> 'd' AND unchanged IS NULL ${isThere}`);
}

/** The latest row of each key that was read. */
function findLatestSql(layout: TableLayout, withExact: boolean): string {
  const matches = layout.table.key.map((ordinal) => {
    return `h.${quoteIdentifier(layout.columns[ordinal]!.name)} = staged.${field(ordinal)}`;
  });
  return findSql(layout, withExact, matches, "");
}

function findSql(layout: TableLayout, withExact: boolean, on: readonly string[], where: string): string {
  const cells = layout.columns.map(({ name }, i) => `h.${quoteIdentifier(name)} AS ${field(i)}`);
  const exact = withExact ? `h.${EXACT}` : "NULL";
  return (
    `CREATE OR REPLACE TEMP TABLE millrace_found AS SELECT * FROM (SELECT staged.entry, staged.version, staged.place, h.rowid AS id, h.${OP} AS op, ` +
    `h.${VERSION} AS v, h.${OFFSET} AS o, h.${UNCHANGED} AS unchanged, ${cells.join(", ")}, ${exact} AS exact ` +
    `FROM ${CHANGES} AS staged JOIN ${layout.sqlName} AS h ON ${on.join(" AND ")} ` +
    `QUALIFY row_number() OVER (PARTITION BY staged.entry ORDER BY h.${VERSION} DESC, h.${OFFSET} DESC) = 1) AS b ${where}`
  );
}

/** Entries with cells whose value is unknown. An existing change needs none. */
function unknownSql(layout: TableLayout): string {
  const same = layout.table.key.map((ordinal) => {
    return `h.${quoteIdentifier(layout.columns[ordinal]!.name)} = staged.${field(ordinal)}`;
  });
  same.push(`h.${VERSION} = staged.version`, `h.${OFFSET} = staged.place`);
  return (
    `SELECT entry FROM ${CHANGES} AS staged WHERE mask IS NOT NULL AND entry NOT IN (SELECT entry FROM ${FOUND}) ` +
    `AND NOT EXISTS (SELECT 1 FROM ${layout.sqlName} AS h WHERE ${same.join(" AND ")}) ORDER BY entry`
  );
}

/**
 * Appends staged changes of the log, in their order. `withBases`: some have unchanged cells, and their bases were
 * looked up.
 */
function appendSql(layout: TableLayout, withExact: boolean, withBases: boolean): string {
  if (!withBases) {
    const cells = layout.columns.map((_, i) => `staged.${field(i)}`);
    const values = [...cells, ...tail(withExact, "NULL", "staged.exact")].join(", ");
    return append(layout, withExact, `SELECT ${values} FROM ${CHANGES} AS staged ORDER BY staged.entry`);
  }
  const cells = layout.columns.map(({ isKey }, i) =>
    isKey
      ? `staged.${field(i)}`
      : `CASE WHEN staged.mask[${i + 1}] = 'u' THEN found.${field(i)} ELSE staged.${field(i)} END`,
  );
  const names = layout.columns.map(
    ({ name }, i) => `CASE WHEN staged.mask[${i + 1}] = 'u' THEN ${quoteLiteral(name)} END`,
  );
  const unknown = `CASE WHEN staged.mask IS NOT NULL AND found.entry IS NULL THEN list_filter([${names.join(", ")}], lambda millrace_x: millrace_x IS NOT NULL) END`;
  const exact = `CASE WHEN staged.mask IS NULL THEN CAST(staged.exact AS JSON) ELSE ${mergedExact("found.exact", "staged.exact")} END`;
  const values = [...cells, ...tail(withExact, unknown, exact)].join(", ");
  const from = `${CHANGES} AS staged LEFT JOIN ${FOUND} AS found ON found.entry = staged.entry`;
  const isMeant = "NOT staged.held OR found.entry IS NOT NULL";
  return append(layout, withExact, `SELECT ${values} FROM ${from} WHERE ${isMeant} ORDER BY staged.entry`);
}

/**
 * Appends staged rows that were read beside the stream, unless the latest row of their key is the same already. Marks
 * the rows as seen, for `sweep`.
 */
function appendReadsSql(layout: TableLayout, withExact: boolean): readonly string[] {
  const from = `${CHANGES} AS staged LEFT JOIN ${FOUND} AS found ON found.entry = staged.entry`;
  const held = isHeld(layout);
  const seen = `found.entry IS NOT NULL AND staged.op = 'r' AND found.v <= staged.version AND ${held}`;
  const isNew = `CASE WHEN found.entry IS NULL THEN staged.op = 'r' ELSE found.v <= staged.version AND NOT (${held}) END`;
  const cells = layout.columns.map((_, i) => `staged.${field(i)}`);
  const values = [...cells, ...tail(withExact, "NULL", "staged.exact")].join(", ");
  return [
    `UPDATE ${layout.sqlName} AS h SET ${SEEN} = l.seen FROM (SELECT found.id, staged.version AS seen FROM ${from} WHERE ${seen}) AS l WHERE h.rowid = l.id`,
    append(layout, withExact, `SELECT ${values} FROM ${from} WHERE ${isNew} ORDER BY staged.entry`),
  ];
}

/** A row without a key. */
export function appendTruncateSql(
  layout: TableLayout,
  version: bigint,
  record: { readonly index: number; readonly commitTimeUs: bigint } | undefined,
): string {
  const offset = record?.index ?? READ_OFFSET;
  const time = record === undefined ? "now()" : `make_timestamptz(${record.commitTimeUs})`;
  return (
    `INSERT INTO ${layout.sqlName} AS millrace_row (${[OP, OFFSET, VERSION, TIME].join(", ")}) SELECT 't', ${offset}, ${version}, ${time} ` +
    `WHERE NOT EXISTS (SELECT 1 FROM ${layout.sqlName} WHERE ${OP} = 't' AND ${VERSION} = ${version} AND ${OFFSET} = ${offset})`
  );
}

/** Appends a delete for each existing key that no read from `below` on has seen. */
export function appendSweepSql(layout: TableLayout, below: bigint): string {
  const names = layout.key.map(({ name }) => quoteIdentifier(name));
  const keys = names.join(", ");
  const latest = `SELECT ${keys}, ${OP} AS op, ${VERSION} AS v, ${OFFSET} AS o, ${SEEN} AS seen FROM ${layout.sqlName} WHERE ${OP} <> 't' QUALIFY row_number() OVER (PARTITION BY ${keys} ORDER BY ${VERSION} DESC, ${OFFSET} DESC) = 1`;
  const select =
    `SELECT ${keys}, 'd', ${READ_OFFSET}, ${below}, now() FROM (${latest}) AS found ` +
    `WHERE NOT (${isOver(layout)}) AND greatest(found.v, coalesce(found.seen, 0)) < ${below}`;
  return insertNew(layout.form, keyed(layout, [...names, OP, OFFSET, VERSION, TIME]), select);
}

/** Appends the rows of `select`, but no change that is there. */
function append(layout: TableLayout, withExact: boolean, select: string): string {
  const own = [OP, OFFSET, UNCHANGED, VERSION, TIME, ...(withExact ? [EXACT] : [])];
  const columns = [...layout.columns.map(({ name }) => quoteIdentifier(name)), ...own];
  return insertNew(layout.form, keyed(layout, columns), select);
}

function keyed({ sqlName, key }: TableLayout, columns: readonly string[]) {
  return { sqlName, columns, key: [...key.map(({ name }) => quoteIdentifier(name)), VERSION, OFFSET] };
}

function tail(withExact: boolean, unknown: string, exact: string): string[] {
  return ["staged.op", "staged.place", unknown, "staged.version", COMMIT_TIME, ...(withExact ? [exact] : [])];
}

/** The key has no row any more. */
function isOver(layout: TableLayout): string {
  return `found.op = 'd' OR coalesce((found.v, found.o) < ${truncated(layout)}, false)`;
}

/** Where the last truncate is. */
function truncated({ sqlName }: TableLayout): string {
  return `(SELECT max((${VERSION}, ${OFFSET})) FROM ${sqlName} WHERE ${OP} = 't')`;
}

/** The latest row of the key equals the row that was read. */
function isHeld(layout: TableLayout): string {
  const cells = layout.columns.map((_, i) => `found.${field(i)} IS NOT DISTINCT FROM staged.${field(i)}`);
  cells.push("found.exact::VARCHAR IS NOT DISTINCT FROM staged.exact", "found.unchanged IS NULL");
  return `CASE WHEN ${isOver(layout)} THEN staged.op = 'd' ELSE staged.op = 'r' AND ${cells.join(" AND ")} END`;
}
