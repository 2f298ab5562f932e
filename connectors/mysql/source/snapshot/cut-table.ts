/** Whether several sessions read a table, and the ranges of its primary key that they take in turns. */
import type { Column, TableVersion } from "../../../../src/core/model/schema.ts";
import { quoteName, quoteTable, quoteText } from "../../quote.ts";
import { answered } from "../wire/server.ts";
import type { Session } from "../wire/driver.ts";
import { freshStatistics } from "../catalog/catalog.ts";
import type { TableReadings } from "./reading.ts";
import type { Flavour } from "../wire/event-header.ts";

/** A smaller table is read faster than further sessions are opened, over a slow network. */
const TABLE_BYTES_MIN = 32 * 1024 * 1024;
/** So that sessions end at about the same time. */
const RANGES_PER_SESSION = 8;
/** Of a key of bytes the first ones are a number. */
const PREFIX_BYTES = 8;

/** The first column of a primary key whose values are numbers, or bytes that begin with one. */
interface CutColumn {
  readonly name: string;
  /** For MIN(…) and MAX(…). */
  readonly expression: (aggregate: string) => string;
  readonly parse: (text: string) => bigint;
  readonly literal: (value: bigint) => string;
}

/** The column by which the table is cut; null: one session reads it, because it is small or has another key. */
export async function cutColumnOf(
  { server, sessionCount }: TableReadings,
  table: TableVersion,
  signal: AbortSignal,
): Promise<CutColumn | null> {
  const [ordinal] = table.key;
  const column = ordinal === undefined ? undefined : table.columns[ordinal];
  const cut = column === undefined ? null : cutColumn(column);
  if (cut === null || sessionCount === 1) return null;
  await freshStatistics(server, (await server.facts(signal)).flavour, signal);
  const [found] = await server.rows(`looking at the size of ${table.id}`, sizeSql(table), signal);
  const [engine, bytes, first] = found ?? [];
  // The rows of other engines are not in the order of the primary key, or in no transaction.
  const isCut = engine?.toLowerCase() === "innodb" && first === cut.name && Number(bytes) >= TABLE_BYTES_MIN;
  return isCut ? cut : null;
}

function sizeSql({ schema, table }: TableVersion): string {
  const one = (alias: string): string =>
    `${alias}.table_schema = ${quoteText(schema)} AND ${alias}.table_name = ${quoteText(table)}`;
  return `SELECT t.engine, t.data_length, s.column_name FROM information_schema.tables t, information_schema.statistics s WHERE ${one("t")} AND ${one("s")} AND s.index_name = 'PRIMARY' AND s.seq_in_index = 1`;
}

export function cutColumn({ name, type, native }: Column): CutColumn | null {
  const quoted = quoteName(name);
  const isNumber = type.kind === "decimal" ? type.scale === 0 : type.kind === "int" && !/^(bit|year)/.test(native);
  if (isNumber)
    return {
      name,
      expression: (aggregate) => `${aggregate}(${quoted})`,
      parse: BigInt,
      literal: (value) => `${value}`,
    };
  if (type.kind !== "bytes" || !/^(var)?binary\(/.test(native)) return null;
  const digits = PREFIX_BYTES * 2;
  return {
    name,
    expression: (aggregate) => `HEX(${aggregate}(${quoted}))`,
    parse: (text) => BigInt(`0x${text.slice(0, digits).padEnd(digits, "0")}`),
    literal: (value) => `0x${value.toString(16).padStart(digits, "0")}`,
  };
}

/** What is behind the table's name in a SELECT: each text stands for a part of the rows, together for all of them. */
export type Parts = readonly string[];

/**
 * From here on the table's shape is locked by the transaction of each session: nobody can alter it before the last of them
 * ends.
 */
export async function cutTable(
  flavour: Flavour,
  { table, column, sessions }: Cut,
  signal: AbortSignal,
): Promise<Parts> {
  const ask = (session: Session, sql: string): Promise<(string | null)[][]> =>
    answered(session.query(sql), `cutting ${table.id}`, signal);
  const name = quoteTable(table.schema, table.table);
  const bounds = `SELECT ${column.expression("MIN")}, ${column.expression("MAX")} FROM ${name}`;
  const answers = await Promise.all(sessions.map((session) => ask(session, bounds)));
  const [session] = sessions;
  const [low, high] = answers[0]?.[0] ?? [];
  if (session === undefined || low == null || high == null) return [""];
  const rowsOf = async (ranges: readonly KeyRange[]): Promise<readonly number[]> => {
    // MySQL does not estimate what it is forced to use.
    const selects = ranges.map((range) => `(SELECT 1 FROM ${name} USE INDEX (PRIMARY)${within(column, range)})`);
    const plans = await ask(session, `EXPLAIN FORMAT=TRADITIONAL ${selects.join(" UNION ALL ")}`);
    return plans.map((plan) => Number(plan[ROWS_OF_PLAN[flavour]] ?? 0));
  };
  const count = sessions.length * RANGES_PER_SESSION;
  const ranges = await cutKeys(column.parse(low), column.parse(high), count, rowsOf);
  return ranges.map((range) => ` FORCE INDEX (PRIMARY)${within(column, range)}`);
}

/** A table that several sessions read. */
interface Cut {
  readonly table: TableVersion;
  readonly column: CutColumn;
  readonly sessions: readonly Session[];
}

/** The place of the estimate among the columns of EXPLAIN. */
const ROWS_OF_PLAN = { mysql: 9, mariadb: 8 } as const;

function within({ name, literal }: CutColumn, { from, to }: KeyRange): string {
  const column = quoteName(name);
  const conditions = [
    ...(from === null ? [] : [`${column} >= ${literal(from)}`]),
    ...(to === null ? [] : [`${column} < ${literal(to)}`]),
  ];
  return conditions.length === 0 ? "" : ` WHERE ${conditions.join(" AND ")}`;
}

/** Keys from `from` (inclusive) to `to` (exclusive); null: no bound. */
export interface KeyRange {
  readonly from: bigint | null;
  readonly to: bigint | null;
}

/** The server's estimate of the rows in each range. */
type RowsOf = (ranges: readonly KeyRange[]) => Promise<readonly number[]>;

interface Span {
  readonly from: bigint;
  readonly to: bigint;
  readonly rows: number;
}

/** A range with more than so many times its share of rows is cut again. */
const UNEVEN = 2;
/** Into so many ranges, 16 times: 64 bits. */
const AGAIN_INTO = 16;
const ROUNDS_MAX = 16;

/**
 * Cuts the keys of a table into ranges that have about the same number of rows, by the server's estimates. Together the
 * ranges hold every key, also keys below `low` and above `high`, and each key is in one of them, however
 * wrong the estimates are.
 */
export async function cutKeys(low: bigint, high: bigint, count: number, rowsOf: RowsOf): Promise<readonly KeyRange[]> {
  const estimated = async (bounds: readonly Bounds[]): Promise<readonly Span[]> => {
    const rows = await rowsOf(bounds);
    return bounds.map(({ from, to }, i) => ({ from, to, rows: rows[i] ?? 0 }));
  };
  let spans = await estimated(evenly({ from: low, to: high + 1n }, count));
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const limit = UNEVEN * shareOf(spans, count);
    const heavy = spans.filter(({ from, to, rows }) => rows > limit && to - from > 1n);
    if (heavy.length === 0) break;
    const smaller = await estimated(heavy.flatMap((span) => evenly(span, AGAIN_INTO)));
    spans = spans
      .filter((span) => !heavy.includes(span))
      .concat(smaller)
      .toSorted((a, b) => (a.from < b.from ? -1 : 1));
  }
  const joined = together(spans, shareOf(spans, count));
  return joined.map(({ from, to }, i) => ({
    from: i === 0 ? null : from,
    to: i === joined.length - 1 ? null : to,
  }));
}

type Bounds = Pick<Span, "from" | "to">;

function shareOf(spans: readonly Span[], count: number): number {
  return spans.reduce((sum, { rows }) => sum + rows, 0) / count;
}

/** At most `count` ranges of the same width. */
function evenly({ from, to }: Bounds, count: number): readonly Bounds[] {
  const width = to - from;
  const parts = width < BigInt(count) ? width : BigInt(count);
  const bound = (i: number): bigint => from + (width * BigInt(i)) / parts;
  return Array.from({ length: Number(parts) }, (_, i) => ({ from: bound(i), to: bound(i + 1) }));
}

/** Joins neighbours that have at most `share` rows together: each range costs a statement. */
function together(spans: readonly Span[], share: number): readonly Span[] {
  const joined: Span[] = [];
  for (const span of spans) {
    const last = joined.at(-1);
    if (last !== undefined && last.rows + span.rows <= share)
      joined[joined.length - 1] = { from: last.from, to: span.to, rows: last.rows + span.rows };
    else joined.push(span);
  }
  return joined;
}
