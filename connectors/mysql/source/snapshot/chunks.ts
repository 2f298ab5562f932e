/** Reads rows beside the stream. */
import type { Column, TableVersion } from "../../../../src/core/model/schema.ts";
import { byHalves } from "../../../../src/core/each-of.ts";
import {
  type Chunk,
  type KeyText,
  type RowRange,
  SCAN_ROW_COUNT_MAX,
} from "../../../../src/core/contracts/row-reads.ts";
import { EVERYTHING_VISIBLE } from "../../../../src/core/contracts/watermarks.ts";
import { ChunkPace, isTooMuch } from "../../../kit/chunk-pace.ts";
import { literalLists } from "../../../kit/literal-lists.ts";
import { quoteName, quoteTable, quoteText } from "../../quote.ts";
import { answered } from "../wire/server.ts";
import type { Session, OnRow } from "../wire/driver.ts";
import { isNoKey } from "../errors.ts";
import type { TableReadings } from "./reading.ts";
import { RowBlock, selectList, selectPlan } from "./selected-rows.ts";
import { packetBytesMax, type ServerFacts } from "../wire/server-facts.ts";
import type { SourceRules } from "../catalog/source-tables.ts";

/** The server ends a statement after this time, in case its client no longer exists. */
const STATEMENT_SECONDS_MAX = 300;
/** Each piece of a chunk with rests is a query of its own. */
const RESTED_QUERY_MS = 3;
const OR = " OR ";
/** What stands around the list of columns and the keys. */
const FRAME_BYTES = 128;
const NOWHERE = { epoch: 1, commit: 0n, index: 0 };

/** The snapshot was taken when everything before the low mark was visible. */
const { sees } = EVERYTHING_VISIBLE;

export async function readRange(
  readings: TableReadings,
  table: TableVersion,
  { after, where, scanRowCountMax = SCAN_ROW_COUNT_MAX, rest }: RowRange,
  signal: AbortSignal,
): Promise<Chunk> {
  const { server, tables } = readings;
  const facts = await server.facts(signal);
  const session = await readings.begin(table, signal);
  try {
    const rows = new RowBlock(table, 1, tables.rules);
    const pace = new ChunkPace(rest, RESTED_QUERY_MS);
    let from = after;
    let isFinished = false;
    let isCut = false;
    const isTried = scanRowCountMax === 0;
    const isScanned = where !== null && table.unenforcedKey !== true && !isTried;
    const all = selectAll(table, tables.rules);
    const scan = `${rangeSql(all, table, after, null, 1)} OFFSET ${scanRowCountMax - 1}`;
    const end = isScanned ? await endOfScan(session, new RowBlock(table, 1, tables.rules), scan, signal) : null;
    const upTo = end === null ? where : `(${where}\n) AND NOT (${behindKey(table, end)})`;
    for (;;) {
      const before = rows.count;
      const wanted = isTried ? 0 : pace.ask();
      const sql = rangeSql(all, table, from, upTo, wanted);
      // With a filter the first row may take some time.
      const isWhole = await selectSome(session, rows, where === null ? bounded(sql, facts) : sql, signal);
      if (from === after) await readings.checkShape(table, signal);
      isCut = !isWhole;
      isFinished = isTried || (isWhole && rows.count - before < wanted);
      if (isFinished) break;
      from = rows.lastKey();
      if (isCut || !(await pace.goesOn(rows))) break;
    }
    if (isCut) session.destroy();
    else readings.end(session);
    return { block: rows.count === 0 ? null : rows.finish(NOWHERE), last: isFinished ? end : from, sees };
  } catch (error) {
    readings.fail(session);
    throw error;
  }
}

/**
 * The key up to which rows are looked at, in the order of the key; null: up to the last one. A condition without an index
 * may match none of millions of rows, and meanwhile a window has to keep what the stream brings.
 */
async function endOfScan(session: Session, row: RowBlock, sql: string, signal: AbortSignal): Promise<KeyText | null> {
  await select(session, row, sql, signal);
  return row.count === 0 ? null : row.lastKey();
}

/** Rows whose columns `by`, ordinals of the table's, have one of these values. */
export async function matchingRows(
  readings: TableReadings,
  table: TableVersion,
  by: readonly number[],
  values: readonly KeyText[],
  signal: AbortSignal,
): Promise<Chunk> {
  const { server, tables } = readings;
  const facts = await server.facts(signal);
  const session = await readings.begin(table, signal);
  try {
    const rows = new RowBlock(table, 1, tables.rules);
    const all = selectAll(table, tables.rules);
    const byteCountMax = packetBytesMax(facts) - Buffer.byteLength(all) - FRAME_BYTES;
    let isChecked = false;
    const columns = by.map((ordinal) => table.columns[ordinal]!);
    const conditions = values.map((texts) => areEqual(columns, texts));
    for (const list of literalLists(conditions, byteCountMax, OR)) {
      await byHalves(list, isNoKey, (some) =>
        select(session, rows, bounded(`${all} WHERE ${some.join(OR)}`, facts), signal),
      );
      if (!isChecked) await readings.checkShape(table, signal);
      isChecked = true;
    }
    readings.end(session);
    return { block: rows.count === 0 ? null : rows.finish(NOWHERE), last: null, sees };
  } catch (error) {
    readings.fail(session);
    throw error;
  }
}

async function select(session: Session, rows: RowBlock, sql: string, signal: AbortSignal): Promise<void> {
  const reading = session.readRows(sql, (bytes, start, end) => rows.append(bytes, start, end));
  await answered(reading, `reading ${rows.table.id}`, signal);
}

/** False: the rows that came were too much, and others would follow. The session can't be used any more. */
async function selectSome(session: Session, rows: RowBlock, sql: string, signal: AbortSignal): Promise<boolean> {
  const enough = Promise.withResolvers<boolean>();
  let isCut = false;
  const onRow: OnRow = (bytes, start, end) => {
    if (isCut) return;
    rows.append(bytes, start, end);
    if (!isTooMuch(rows)) return;
    isCut = true;
    session.pause();
    enough.resolve(false);
  };
  const reading = session.readRows(sql, onRow).then(() => !isCut);
  return await answered(Promise.race([reading, enough.promise]), `reading ${rows.table.id}`, signal);
}

/** SELECT … FROM … with all columns, in the form of the log's rows. */
export function selectAll(table: TableVersion, rules: SourceRules): string {
  return `SELECT ${selectList(table, selectPlan(table, rules))} FROM ${quoteTable(table.schema, table.table)}`;
}

function bounded(sql: string, { flavour }: ServerFacts): string {
  if (flavour === "mariadb") return `SET STATEMENT max_statement_time = ${STATEMENT_SECONDS_MAX} FOR ${sql}`;
  return sql.replace(/^SELECT /, `SELECT /*+ MAX_EXECUTION_TIME(${STATEMENT_SECONDS_MAX * 1000}) */ `);
}

function rangeSql(
  all: string,
  table: TableVersion,
  after: KeyText | null,
  where: string | null,
  limit: number,
): string {
  const key = table.key.map((ordinal) => table.columns[ordinal]!);
  const conditions = [...(where === null ? [] : [`(${where}\n)`]), ...(after === null ? [] : [behind(key, after)])];
  const filter = conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`;
  const order = key.map(ordered).join(", ");
  return `${all}${filter} ORDER BY ${order} LIMIT ${limit}`;
}

function areEqual(columns: readonly Column[], texts: KeyText): string {
  const parts = columns.map((column, i) => `${ordered(column)} = ${literal(column, texts[i] ?? "")}`);
  return `(${parts.join(" AND ")})`;
}

function behindKey(table: TableVersion, key: KeyText): string {
  return behind(
    table.key.map((ordinal) => table.columns[ordinal]!),
    key,
  );
}

/** The rows after a key, in the order of the key's index; the first part is for the index. */
function behind(columns: readonly Column[], values: KeyText): string {
  const compare = (i: number, operator: string): string =>
    `${ordered(columns[i]!)} ${operator} ${literal(columns[i]!, values[i] ?? "")}`;
  const from = (i: number): string =>
    i === columns.length - 1 ? compare(i, ">") : `(${compare(i, ">")} OR ${compare(i, "=")} AND ${from(i + 1)})`;
  return columns.length === 1 ? from(0) : `${compare(0, ">=")} AND ${from(0)}`;
}

/** ENUM and SET are ordered by number but compared as text: here both are done as text. */
function ordered({ name, type, native }: Column): string {
  const column = quoteName(name);
  if (type.kind === "enum" || native.startsWith("set(")) return `CONVERT(${column} USING utf8mb4) COLLATE utf8mb4_bin`;
  return column;
}

const NUMBER = /^-?[0-9.]+(e[+-]?[0-9]+)?$/i;

function literal({ type }: Column, text: string): string {
  switch (type.kind) {
    case "float":
      // The shortest digits of a float give another number if they are read as a double, and the comparison does that.
      if (type.bits === 32 && NUMBER.test(text)) return `${Math.fround(Number(text))}`;
      return NUMBER.test(text) ? text : quoteText(text);
    case "int":
    case "decimal":
      return NUMBER.test(text) ? text : quoteText(text);
    case "bool":
      return text === "t" || text === "true" || text === "1" ? "1" : "0";
    case "bytes":
      return text === "\\x" ? "_binary ''" : `0x${text.replace(/^\\x/, "")}`;
    case "timestamp":
    case "date":
      // A text in quotes takes the column's type; a hexadecimal one would not.
      return `'${serverDate(text)
        .replace(/\+00$/, "")
        .replaceAll(/[^0-9:. -]/g, "")}'`;
    case "text":
    case "time":
    case "uuid":
    case "json":
    case "enum":
    case "array":
    case "vector":
    case "opaque":
      return quoteText(text);
    default:
      return type satisfies never;
  }
}

/** The server calls the year before 1 0000, its first year; keys call it 1 BC. */
function serverDate(text: string): string {
  return text.endsWith(" BC") ? text.replace(/^0001(.*) BC$/, "0000$1") : text;
}
