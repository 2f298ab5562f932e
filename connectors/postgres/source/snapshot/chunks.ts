/** Reads rows beside the stream, in one transaction together with the snapshot under which they are read. */
import type { Block } from "../../../../src/core/model/block.ts";
import { byHalves } from "../../../../src/core/by-halves.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import {
  type Chunk,
  type KeyText,
  type RowRange,
  SCAN_ROW_COUNT_MAX,
} from "../../../../src/core/contracts/row-reads.ts";
import { CELL_TEXT } from "../../../../src/core/model/tuple.ts";
import { CHUNK_ROWS_MAX, ChunkPace, isTooMuch } from "../../../kit/chunk-pace.ts";
import { quoteIdentifier, quoteLiteral, quoteTable, quoteTextArray } from "../../../../src/postgres/quote.ts";
import { holdersOf } from "../../lock-waits.ts";
import { isNoKey, withHolders } from "../errors.ts";
import { BUILT_IN, findTable, type LiveColumn, type LiveTable } from "../catalog/columns.ts";
import type { SourceContext } from "../context.ts";
import { RowBlock } from "./row-blocks.ts";
import { expectApart, expectNoNulls, expectOne } from "../catalog/unguarded-keys.ts";
import { snapshotSees } from "../../../../src/core/contracts/watermarks.ts";
import { onlyCell, type RowReader, Wire } from "./wire.ts";

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
  { after, where, scanRowCountMax = SCAN_ROW_COUNT_MAX }: RowRange,
  signal: AbortSignal,
): Promise<Chunk> {
  using wire = await Wire.open(context.database, signal);
  // Without an index for the key, or with a filter, the first row may take some time.
  const isQuick = where === null && table.unenforcedKey !== true;
  const { seen, live } = await begin({ context, wire, table, isQuick }, signal);
  const key = table.key.map((ordinal) => live.columns[ordinal]!);
  if (table.unenforcedKey === true) {
    if (after === null) await expectNoNulls(wire, table, live, signal);
    else await expectOne(wire, table, live, alike(key, after), signal);
  }
  const list = live.columns.map((column) => quoteIdentifier(column.name)).join(", ");
  const isScanned = where !== null && table.unenforcedKey !== true;
  const end = isScanned ? await endOfScan({ wire, table, live }, after, scanRowCountMax, signal) : null;
  const conditions = [
    where === null ? "" : `(${where}\n)`,
    after === null ? "" : behind(key, after),
    end === null ? "" : upTo(key, end),
  ];
  const filter = conditions.filter((condition) => condition !== "").join(" and ");
  const query = `SELECT ${list} FROM ${live.sql}${filter === "" ? "" : ` WHERE ${filter}`} ORDER BY ${names(key)} LIMIT ${CHUNK_ROWS_MAX}`;
  // `where` comes from an operator: it must not end this transaction, which is read-only.
  await wire.single(`reading ${table.id}`, `DECLARE chunk NO SCROLL CURSOR FOR ${query}`, signal);
  const rows = new RowBlock(table, textKinds(table), 1, true);
  const { finished, last } = await fetchChunk(wire, rows, signal);
  return { block: blockOf(table, rows), last: finished ? end : last, ...seen };
}

/**
 * The key up to which rows are looked at, in the order of the key; null: up to the last one. A condition without an index
 * may match none of millions of rows, and meanwhile a window has to keep what the stream brings.
 */
async function endOfScan(
  { wire, table, live }: LiveRead,
  after: KeyText | null,
  rowCount: number,
  signal: AbortSignal,
): Promise<KeyText | null> {
  const key = table.key.map((ordinal) => live.columns[ordinal]!);
  const from = after === null ? "" : ` WHERE ${behind(key, after)}`;
  const query = `SELECT ${names(key)} FROM ${live.sql}${from} ORDER BY ${names(key)} OFFSET ${rowCount - 1} LIMIT 1`;
  const [row] = await wire.rows(`reading keys of ${table.id}`, query, signal);
  return row === undefined ? null : key.map((_, i) => row[i] ?? "");
}

export async function readKeys(
  context: SourceContext,
  table: TableVersion,
  keys: readonly KeyText[],
  signal: AbortSignal,
): Promise<Chunk> {
  using wire = await Wire.open(context.database, signal);
  const { seen, live } = await begin({ context, wire, table, isQuick: table.unenforcedKey !== true }, signal);
  const rows = new RowBlock(table, textKinds(table), 1, true);
  let isRefused = false;
  await byHalves(keys, isNoKey, async (some) => {
    if (isRefused) await wire.rows("reading keys", "ROLLBACK TO SAVEPOINT begun", signal);
    isRefused = true;
    await selectKeys({ wire, table, live }, some, rows, signal);
    isRefused = false;
  });
  return { block: blockOf(table, rows), last: null, ...seen };
}

/** The rows under these keys, and who wrote them. */
export async function readWritten(
  context: SourceContext,
  table: TableVersion,
  keys: readonly KeyText[],
  signal: AbortSignal,
): Promise<{ readonly block: Block | null; readonly writers: readonly (number | null)[] }> {
  using wire = await Wire.open(context.database, signal);
  const { live } = await begin({ context, wire, table, isQuick: true }, signal);
  const rows = new RowBlock(table, textKinds(table), 1, true);
  await selectKeys({ wire, table, live }, keys, rows, signal);
  const key = table.key.map((ordinal) => live.columns[ordinal]!);
  const arrays = key.map((_, i) => quoteTextArray(keys.map((values) => values[i] ?? "")));
  const match = key.map(
    (column, i) => `t.${quoteIdentifier(column.name)} ${column.operators[EQUAL]} k.c${i}::${column.native}`,
  );
  const aliases = key.map((_, i) => `c${i}`).join(", ");
  const query = `SELECT k.n, t.xmin FROM unnest(${arrays.join(", ")}) WITH ORDINALITY AS k(${aliases}, n) JOIN ${live.sql} AS t ON ${match.join(" and ")}`;
  const writers: (number | null)[] = keys.map(() => null);
  for (const [n, xid] of await wire.rows(`reading writers of ${table.id}`, query, signal))
    writers[Number(n) - 1] = Number(xid);
  return { block: blockOf(table, rows), writers };
}

/** A read whose transaction has begun. */
interface LiveRead {
  readonly wire: Wire;
  readonly table: TableVersion;
  readonly live: LiveTable;
}

async function selectKeys(
  { wire, table, live }: LiveRead,
  keys: readonly KeyText[],
  rows: RowBlock,
  signal: AbortSignal,
): Promise<void> {
  const key = table.key.map((ordinal) => live.columns[ordinal]!);
  const arrays = key.map((_, i) => quoteTextArray(keys.map((values) => values[i] ?? "")));
  const aliases = key.map((_, i) => `c${i}`).join(", ");
  const casts = key.map((column, i) => `k.c${i}::${column.native}`).join(", ");
  const list = live.columns.map((column) => `t.${quoteIdentifier(column.name)}`).join(", ");
  const match = key
    .map((column, i) => `t.${quoteIdentifier(column.name)} ${column.operators[EQUAL]} w.c${i}`)
    .join(" and ");
  const wanted = `SELECT DISTINCT ${casts} FROM unnest(${arrays.join(", ")}) AS k(${aliases})`;
  const query = `SELECT ${list} FROM (${wanted}) AS w(${aliases}) JOIN ${live.sql} AS t ON ${match}`;
  await wire.run(
    `reading keys of ${table.id}`,
    query,
    (bytes, start, end) => {
      rows.append(bytes, start, end);
      return true;
    },
    signal,
  );
}

function blockOf(table: TableVersion, rows: RowBlock): Block | null {
  if (rows.count === 0) return null;
  const block = rows.finish({ epoch: 1, commit: 0n, index: 0 });
  if (table.unenforcedKey === true) expectApart(table, block);
  return block;
}

interface Beginning {
  readonly context: SourceContext;
  readonly wire: Wire;
  readonly table: TableVersion;
  readonly isQuick: boolean;
}

interface Begun {
  readonly seen: Pick<Chunk, "sees" | "snapshot">;
  readonly live: LiveTable;
}

/**
 * Begins the transaction. The lock comes before the snapshot: under a snapshot older than a rewrite the table would be
 * empty. Everything after the first SELECT sees the same state.
 */
async function begin({ context, wire, table, isQuick }: Beginning, signal: AbortSignal): Promise<Begun> {
  const name = quoteTable(table.schema, table.table);
  // The planner prefers the key's index if the query asks only for the first rows.
  const timeout = isQuick ? ` SET LOCAL statement_timeout = '${STATEMENT_TIMEOUT}';` : "";
  const enter = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;${timeout} SET LOCAL idle_in_transaction_session_timeout = '${STATEMENT_TIMEOUT}'; SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'; SET LOCAL cursor_tuple_fraction = 0.0001; LOCK TABLE ${name} IN ACCESS SHARE MODE`;
  try {
    await wire.rows(`locking ${table.id}`, enter, signal);
  } catch (error) {
    throw await withHolders(error, context, holdersOf(name, "read"), signal);
  }
  const snapshot = onlyCell(
    await wire.rows("taking a snapshot", "SELECT pg_current_snapshot(); SAVEPOINT begun", signal),
    "taking a snapshot",
  );
  return { seen: { sees: snapshotSees(snapshot), snapshot }, live: await findTable(wire, table, signal) };
}

interface Fetched {
  readonly finished: boolean;
  readonly last: KeyText | null;
}

async function fetchChunk(wire: Wire, rows: RowBlock, signal: AbortSignal): Promise<Fetched> {
  const pace = new ChunkPace();
  for (;;) {
    const before = rows.count;
    const wanted = pace.ask();
    const isWhole = await fetchRows(wire, rows, wanted, signal);
    const got = rows.count - before;
    if (isWhole && got < wanted && rows.count < CHUNK_ROWS_MAX) return { finished: true, last: null };
    if (!isWhole || !pace.goesOn(rows)) return { finished: false, last: rows.lastKey() };
  }
}

/** False: the rows that came were too much, and the session was closed over the others. */
async function fetchRows(wire: Wire, rows: RowBlock, count: number, signal: AbortSignal): Promise<boolean> {
  const enough = new AbortController();
  const onRow: RowReader = (bytes, start, end) => {
    rows.append(bytes, start, end);
    if (isTooMuch(rows)) enough.abort();
    return true;
  };
  try {
    const until = AbortSignal.any([signal, enough.signal]);
    await wire.run(`reading ${rows.table.id}`, `FETCH ${count} FROM chunk`, onRow, until);
    return true;
  } catch (error) {
    signal.throwIfAborted();
    if (!enough.signal.aborted) throw error;
    return false;
  }
}

function textKinds(table: TableVersion): Uint8Array {
  return new Uint8Array(table.columns.length).fill(CELL_TEXT);
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
