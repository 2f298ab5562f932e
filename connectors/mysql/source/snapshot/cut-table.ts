/** Whether several sessions read a table, and the ranges of its primary key that they take in turns. */
import type { Column, TableVersion } from "../../../../src/core/model/schema.ts";
import { quoteName, quoteTable, quoteText } from "../../quote.ts";
import { answered } from "../database.ts";
import type { Session } from "../driver.ts";
import { classify } from "../errors.ts";
import { cutKeys, type KeyRange } from "./key-ranges.ts";
import type { At } from "./reading.ts";

/** A smaller table is read faster than further sessions are opened, over a slow network. */
const TABLE_BYTES_MIN = 32 * 1024 * 1024;
/** So that sessions end at about the same time. */
const RANGES_PER_SESSION = 8;
/** Of a key of bytes the first ones are a number. */
const PREFIX_BYTES = 8;

/** The first column of a primary key whose values are numbers, or bytes that begin with one. */
export interface CutColumn {
  readonly name: string;
  /** For MIN(…) and MAX(…). */
  readonly expression: (aggregate: string) => string;
  readonly parse: (text: string) => bigint;
  readonly literal: (value: bigint) => string;
}

/** The column by which the table is cut; null: one session reads it, because it is small or has another key. */
export async function cutColumnOf(
  { context, facts }: At,
  table: TableVersion,
  signal: AbortSignal,
): Promise<CutColumn | null> {
  const [ordinal] = table.key;
  const column = ordinal === undefined ? undefined : table.columns[ordinal];
  const cut = column === undefined ? null : cutColumn(column);
  if (cut === null || context.copySessions === 1) return null;
  const { database } = context;
  const doing = `looking at the size of ${table.id}`;
  // MySQL would show the figures of its last look, which may be a day old.
  if (facts.flavour === "mysql") await database.rows(doing, "SET SESSION information_schema_stats_expiry = 0", signal);
  const [found] = await database.rows(doing, sizeSql(table), signal);
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
  { facts }: Pick<At, "facts">,
  { table, column, sessions }: Cut,
  signal: AbortSignal,
): Promise<Parts> {
  const ask = async (session: Session, sql: string): Promise<(string | null)[][]> => {
    const doing = `cutting ${table.id}`;
    try {
      return await answered(session.query(sql), doing, signal);
    } catch (error) {
      throw classify(error, doing);
    }
  };
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
    return plans.map((plan) => Number(plan[ROWS_OF_PLAN[facts.flavour]] ?? 0));
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
