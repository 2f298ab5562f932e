/** Reads rows beside the stream, in one transaction together with the snapshot under which they are read. */
import { setTimeout as delay } from "node:timers/promises";
import type { Block } from "../../../../src/core/model/block.ts";
import { byHalves } from "../../../../src/core/each-of.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import {
  type Chunk,
  type KeyText,
  type RowRange,
  SCAN_ROW_COUNT_MAX,
  AmbiguousKey,
} from "../../../../src/core/contracts/row-reads.ts";
import { CELL_TEXT } from "../../../../src/core/model/tuple.ts";
import { CHUNK_ROWS_MAX, ChunkPace, isTooMuch } from "../../../kit/chunk-pace.ts";
import { aliasesOf, arraysOf, quoteIdentifier, quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import { holdersOf } from "../../blocking-transactions.ts";
import { isNoKey, withHolders } from "../errors.ts";
import { selectTables } from "../catalog/selection.ts";
import { leavesOf, treesOf } from "../catalog/unlogged-changes.ts";
import { BUILT_IN, expectKnownLeaves, findTable, type LiveColumn, type LiveTable } from "./live-table.ts";
import type { SourceContext } from "../wire/context.ts";
import { RowBlock } from "./row-blocks.ts";
import { EVERYTHING_VISIBLE, snapshotSees } from "../../../../src/core/contracts/watermarks.ts";
import { onlyCell, type RowReader, RowSession } from "../wire/row-session.ts";
import { joinedKey, keyText } from "../../../../src/core/model/row-id.ts";

const LOCK_TIMEOUT = "5s";
/** The server ends a statement after this time, in case its client no longer exists. */
const STATEMENT_TIMEOUT = "5min";
/** Indexes into LiveColumn.operators. */
const EQUAL = 0;
const AT_LEAST = 1;
const GREATER = 2;

export async function readRange(
  context: SourceContext,
  table: TableVersion,
  { after, where, scanRowCountMax = SCAN_ROW_COUNT_MAX, rest }: RowRange,
  signal: AbortSignal,
): Promise<Chunk> {
  using session = await RowSession.open(context.database, signal);
  // Without an index for the key, or with a filter, the first row may take some time.
  const isQuick = where === null && table.unenforcedKey !== true;
  const read = await begin(context, session, { table, isQuick }, signal);
  const { columns, key, sql } = read.live;
  const isTried = scanRowCountMax === 0;
  if (table.unenforcedKey === true && !isTried) {
    if (after === null) await expectNoNulls(read, signal);
    else await expectOne(read, alike(key, after), signal);
  }
  const isScanned = where !== null && table.unenforcedKey !== true && !isTried;
  const end = isScanned ? await endOfScan(read, after, scanRowCountMax, signal) : null;
  const conditions = [
    where === null ? "" : `(${where}\n)`,
    after === null ? "" : behind(key, after),
    end === null ? "" : upTo(key, end),
  ];
  const filter = conditions.filter((condition) => condition !== "").join(" and ");
  const query = `SELECT ${names(columns)} FROM ${sql}${filter === "" ? "" : ` WHERE ${filter}`} ORDER BY ${names(key)} LIMIT ${isTried ? 0 : CHUNK_ROWS_MAX}`;
  // `where` comes from an operator: it must not end this transaction, which is read-only.
  await session.single(`reading ${table.id}`, `DECLARE chunk NO SCROLL CURSOR FOR ${query}`, signal);
  await expectKnownLeaves(read, signal);
  const { finished, last } = await fetchChunk(read, rest, signal);
  return { block: blockOf(read), last: finished ? end : last, ...read.seen };
}

/**
 * The key up to which rows are looked at, in the order of the key; null: up to the last one. A condition without an index
 * may match none of millions of rows, and meanwhile a window has to keep what the stream brings.
 */
async function endOfScan(
  { session, table, live: { key, sql } }: TableRead,
  after: KeyText | null,
  rowCount: number,
  signal: AbortSignal,
): Promise<KeyText | null> {
  const from = after === null ? "" : ` WHERE ${behind(key, after)}`;
  const query = `SELECT ${names(key)} FROM ${sql}${from} ORDER BY ${names(key)} OFFSET ${rowCount - 1} LIMIT 1`;
  const [row] = await session.rows(`reading keys of ${table.id}`, query, signal);
  return row === undefined ? null : key.map((_, i) => row[i] ?? "");
}

export async function readKeys(
  context: SourceContext,
  table: TableVersion,
  keys: readonly KeyText[],
  signal: AbortSignal,
): Promise<Chunk> {
  using session = await RowSession.open(context.database, signal);
  const read = await begin(context, session, { table, isQuick: table.unenforcedKey !== true }, signal);
  await selectKnown(read, read.live.key, keys, signal);
  return { block: blockOf(read), last: null, ...read.seen };
}

/** Rows whose columns `by`, ordinals of the table's, have one of these values. */
export async function readMatching(
  context: SourceContext,
  table: TableVersion,
  by: readonly number[],
  values: readonly KeyText[],
  signal: AbortSignal,
): Promise<Chunk> {
  using session = await RowSession.open(context.database, signal);
  // Without an index for these columns the first row may take some time.
  const read = await begin(context, session, { table, isQuick: false }, signal);
  const columns = by.map((ordinal) => read.live.columns[ordinal]!);
  await selectKnown(read, columns, values, signal);
  return { block: blockOf(read), last: null, ...read.seen };
}

/** A value that the column can't have has no rows. */
async function selectKnown(
  read: TableRead,
  by: readonly LiveColumn[],
  values: readonly KeyText[],
  signal: AbortSignal,
): Promise<void> {
  let isRefused = false;
  await byHalves(values, isNoKey, async (some) => {
    if (isRefused) await read.session.rows("reading keys", "ROLLBACK TO SAVEPOINT begun", signal);
    isRefused = true;
    await selectWhere(read, by, some, signal);
    isRefused = false;
  });
}

/** A commit is in the log a moment before a snapshot sees it. Waits between two looks, at first and at last. */
const UNSEEN_MS = 2;
const UNSEEN_MS_MAX = 32;

/** The rows under these keys, and who wrote them; `changedBy`: whose changes the stream has brought. */
export async function readWritten(
  context: SourceContext,
  table: TableVersion,
  keys: readonly KeyText[],
  changedBy: readonly number[],
  signal: AbortSignal,
): Promise<{ readonly block: Block | null; readonly writers: readonly (number | null)[] }> {
  for (let waitMs = UNSEEN_MS; ; waitMs *= 4) {
    using session = await RowSession.open(context.database, signal);
    const read = await begin(context, session, { table, isQuick: true }, signal);
    if (waitMs <= UNSEEN_MS_MAX && !changedBy.every(read.seen.sees)) {
      await delay(waitMs, undefined, { signal });
      continue;
    }
    const { key, sql } = read.live;
    await selectWhere(read, key, keys, signal);
    const match = key.map((column, i) => `${equal(column)} k.c${i}::${column.native}`).join(" and ");
    const query = `SELECT k.n, t.xmin FROM unnest(${arraysOf(key.length, keys)}) WITH ORDINALITY AS k(${aliasesOf(key.length)}, n) JOIN ${sql} AS t ON ${match}`;
    const writers: (number | null)[] = keys.map(() => null);
    for (const [n, xid] of await session.rows(`reading writers of ${table.id}`, query, signal))
      writers[Number(n) - 1] = Number(xid);
    return { block: blockOf(read), writers };
  }
}

async function selectWhere(
  read: TableRead,
  by: readonly LiveColumn[],
  values: readonly KeyText[],
  signal: AbortSignal,
): Promise<void> {
  const { session, table, rows } = read;
  const { columns, sql } = read.live;
  const casts = by.map((column, i) => `k.c${i}::${column.native}`).join(", ");
  const list = columns.map((column) => `t.${quoteIdentifier(column.name)}`).join(", ");
  const match = by.map((column, i) => `${equal(column)} w.c${i}`).join(" and ");
  const aliases = aliasesOf(by.length);
  const wanted = `SELECT DISTINCT ${casts} FROM unnest(${arraysOf(by.length, values)}) AS k(${aliases})`;
  const query = `SELECT ${list} FROM (${wanted}) AS w(${aliases}) JOIN ${sql} AS t ON ${match}`;
  const onRow: RowReader = (bytes, start, end) => {
    rows.append(bytes, start, end);
    return true;
  };
  await session.run(`reading keys of ${table.id}`, query, onRow, signal);
  await expectKnownLeaves(read, signal);
}

function equal({ name, operators }: LiveColumn): string {
  return `t.${quoteIdentifier(name)} ${operators[EQUAL]}`;
}

function blockOf({ table, rows }: TableRead): Block | null {
  if (rows.count === 0) return null;
  const block = rows.finish({ epoch: 1, commit: 0n, index: 0 });
  if (table.unenforcedKey === true) expectApart(table, block);
  return block;
}

/** A read whose transaction has begun. */
interface TableRead {
  readonly session: RowSession;
  readonly table: TableVersion;
  readonly live: LiveTable;
  readonly context: SourceContext;
  readonly seen: Pick<Chunk, "sees" | "snapshot">;
  /** The rows that were read. */
  readonly rows: RowBlock;
}

/**
 * Begins the transaction. The lock comes before the snapshot: under a snapshot older than a rewrite the table would be
 * empty. Everything after the first SELECT sees the same state.
 */
export async function begin(
  context: SourceContext,
  session: RowSession,
  { table, isQuick }: { readonly table: TableVersion; readonly isQuick: boolean },
  signal: AbortSignal,
): Promise<TableRead> {
  await knowLeaves(context, signal);
  const name = quoteTable(table.schema, table.table);
  // The planner prefers the key's index if the query asks only for the first rows.
  const timeout = isQuick ? ` SET LOCAL statement_timeout = '${STATEMENT_TIMEOUT}';` : "";
  const enter = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;${timeout} SET LOCAL idle_in_transaction_session_timeout = '${STATEMENT_TIMEOUT}'; SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'; SET LOCAL cursor_tuple_fraction = 0.0001; LOCK TABLE ${name} IN ACCESS SHARE MODE`;
  try {
    await session.rows(`locking ${table.id}`, enter, signal);
  } catch (error) {
    throw await withHolders(error, context, holdersOf(name, "read"), signal);
  }
  const doing = "taking a snapshot";
  const sql = "SELECT case when not pg_is_in_recovery() then pg_current_snapshot()::text else '' end; SAVEPOINT begun";
  const snapshot = onlyCell(await session.rows(doing, sql, signal), doing);
  const live = await findTable(session, table, context.leaves, signal);
  const kinds = new Uint8Array(table.columns.length).fill(CELL_TEXT);
  const rows = new RowBlock(table, kinds, 1, true);
  return { session, table, live, context, seen: seenBy(snapshot), rows };
}

/** Invariant: no read takes the rows of a root alone for those of its tree, because no look has ended yet. */
async function knowLeaves(context: SourceContext, signal: AbortSignal): Promise<void> {
  if (context.leaves.areKnown) return;
  const { captured, catalog } = await selectTables(context, false, signal);
  if (!context.leaves.areKnown) context.leaves.take(leavesOf(captured, catalog), treesOf(captured));
}

/** Empty on a standby, whose snapshots do not list who is running: see `DecoderOptions`. */
function seenBy(snapshot: string): TableRead["seen"] {
  return snapshot === "" ? { sees: EVERYTHING_VISIBLE.sees } : { sees: snapshotSees(snapshot), snapshot };
}

interface Fetched {
  readonly finished: boolean;
  readonly last: KeyText | null;
}

async function fetchChunk({ session, rows }: TableRead, rest: RowRange["rest"], signal: AbortSignal): Promise<Fetched> {
  const pace = new ChunkPace(rest);
  for (;;) {
    const before = rows.count;
    const wanted = pace.ask();
    const isWhole = await fetchRows(session, rows, wanted, signal);
    const got = rows.count - before;
    if (isWhole && got < wanted && rows.count < CHUNK_ROWS_MAX) return { finished: true, last: null };
    if (!isWhole || !(await pace.goesOn(rows))) return { finished: false, last: rows.lastKey() };
  }
}

/** False: the rows that came were too much, and the session was closed over the others. */
async function fetchRows(session: RowSession, rows: RowBlock, count: number, signal: AbortSignal): Promise<boolean> {
  const enough = new AbortController();
  const onRow: RowReader = (bytes, start, end) => {
    rows.append(bytes, start, end);
    if (isTooMuch(rows)) enough.abort();
    return true;
  };
  try {
    const until = AbortSignal.any([signal, enough.signal]);
    await session.run(`reading ${rows.table.id}`, `FETCH ${count} FROM chunk`, onRow, until);
    return true;
  } catch (error) {
    signal.throwIfAborted();
    if (!enough.signal.aborted) throw error;
    return false;
  }
}

function names(columns: readonly LiveColumn[]): string {
  return columns.map((column) => quoteIdentifier(column.name)).join(", ");
}

/**
 * The rows after a key, in the order of the key's index. With an extension's type in the key, the comparison is spelt out,
 * because a row comparison takes its operators from one schema; its first part is for the index.
 */
function behind(columns: readonly LiveColumn[], values: KeyText): string {
  const texts = columns.map((column, i) => literal(column, values[i] ?? ""));
  if (columns.every((column) => column.operators === BUILT_IN)) return `(${names(columns)}) > (${texts.join(", ")})`;
  const compare = (i: number, which: number): string =>
    `${quoteIdentifier(columns[i]!.name)} ${columns[i]!.operators[which]} ${texts[i]}`;
  const from = (i: number): string =>
    i === columns.length - 1
      ? compare(i, GREATER)
      : `(${compare(i, GREATER)} or ${compare(i, EQUAL)} and ${from(i + 1)})`;
  return columns.length === 1 ? from(0) : `${compare(0, AT_LEAST)} and ${from(0)}`;
}

/** The rows up to a key, including it. */
function upTo(columns: readonly LiveColumn[], values: KeyText): string {
  const texts = columns.map((column, i) => literal(column, values[i] ?? ""));
  if (columns.some((column) => column.operators !== BUILT_IN)) return `not (${behind(columns, values)})`;
  return `(${names(columns)}) <= (${texts.join(", ")})`;
}

/** The rows with this key. */
function alike(columns: readonly LiveColumn[], values: KeyText): string {
  const parts = columns.map(
    (column, i) => `${quoteIdentifier(column.name)} ${column.operators[EQUAL]} ${literal(column, values[i] ?? "")}`,
  );
  return parts.join(" and ");
}

/** The column keeps its own collation: a cast text has the default one, which has lower priority. */
function literal(column: LiveColumn, value: string): string {
  return `${quoteLiteral(value)}::text::${column.native}`;
}

/*
 * Keys that no constraint enforces: reads find the rows that such a key does not tell apart.
 */

/** Rows that no key range contains, because a column of the key is null. */
async function expectNoNulls({ session, table, live }: TableRead, signal: AbortSignal): Promise<void> {
  const nullable = live.key.filter((_, i) => table.columns[table.key[i]!]!.nullable);
  if (nullable.length === 0) return;
  const isNull = nullable.map(({ name }) => `${quoteIdentifier(name)} IS NULL`).join(" or ");
  const query = `SELECT 1 FROM ${live.sql} WHERE ${isNull} LIMIT 1`;
  const found = await session.rows(`looking for nulls in the key of ${table.id}`, query, signal);
  if (found.length > 0) throw new AmbiguousKey("null");
}

/** `condition`: rows with the last key of the previous chunk, which had one of them. */
async function expectOne({ session, table, live }: TableRead, condition: string, signal: AbortSignal): Promise<void> {
  const query = `SELECT 1 FROM ${live.sql} WHERE ${condition} LIMIT 2`;
  const found = await session.rows(`looking for rows of one key of ${table.id}`, query, signal);
  if (found.length > 1) throw new AmbiguousKey("twice");
}

function expectApart(table: TableVersion, { bytes, after, count }: Block): void {
  const seen = new Set<string>();
  for (let row = 0; row < count; row++) {
    const key = joinedKey(keyText(table, bytes, after[row]!));
    if (seen.has(key)) throw new AmbiguousKey("twice");
    seen.add(key);
  }
}
