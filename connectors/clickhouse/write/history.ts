/**
 * The statements of a history. A row is one change; (key, version, offset) identifies it and is the sorting key, so a
 * change that is written again takes its own place.
 */
import { READ_OFFSET } from "../../../src/core/targets/history.ts";
import { quoteIdentifier, quoteLiteral } from "../names.ts";
import type { TableLayout } from "../tables/layout.ts";
import { tupleOf } from "./literal.ts";
import { timeSql } from "./removal.ts";
import {
  COMMIT_TIME_COLUMN,
  EXACT_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  SEEN_COLUMN,
  UNCHANGED_COLUMN,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";

const [VERSION, OFFSET, OP, UNCHANGED, SEEN, TIME, EXACT] = [
  VERSION_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  UNCHANGED_COLUMN,
  SEEN_COLUMN,
  COMMIT_TIME_COLUMN,
  EXACT_COLUMN,
].map(quoteIdentifier);

/** A truncate without a record of the log follows the rows that were read under its version. */
const TRUNCATE_OFFSET = READ_OFFSET + 1;

/**
 * For each wanted change, by its index: the latest row of its key up to the change. `wanted`: tuples of index, key,
 * version and offset.
 */
export function basesSql(layout: TableLayout, wanted: readonly string[]): string {
  const { sqlName, key, columns } = layout;
  const types = key.map(({ type }, i) => `k${i} ${type.name}`);
  const structure = quoteLiteral(["e UInt32", ...types, "v UInt64", "o UInt64"].join(", "));
  const names = key.map(({ name }) => quoteIdentifier(name));
  const asked = key.map((_, i) => `k${i}`);
  const matches = names.map((name, i) => `h.${name} = w.k${i}`);
  return (
    `WITH wanted AS (SELECT * FROM values(${structure}, ${wanted.join(", ")})) ` +
    `SELECT w.e, ${storedColumns(columns, "h.")} ` +
    `FROM (SELECT * FROM ${sqlName} FINAL WHERE ${tupleOf(names)} IN (SELECT ${asked.join(", ")} FROM wanted) AND ${OP} != 't') AS h ` +
    `INNER JOIN wanted AS w ON ${matches.join(" AND ")} WHERE (h.${VERSION}, h.${OFFSET}) <= (w.v, w.o) ` +
    `ORDER BY h.${VERSION} DESC, h.${OFFSET} DESC LIMIT 1 BY w.e FORMAT RowBinary`
  );
}

/** The latest row of each of these keys. */
export function latestSql({ sqlName, key, columns }: TableLayout, literals: readonly string[]): string {
  const names = key.map(({ name }) => quoteIdentifier(name));
  return (
    `SELECT ${storedColumns(columns, "")} FROM ${sqlName} FINAL WHERE ${tupleOf(names)} IN (${literals.join(", ")}) AND ${OP} != 't' ` +
    `ORDER BY ${VERSION} DESC, ${OFFSET} DESC LIMIT 1 BY ${names.join(", ")} FORMAT RowBinary`
  );
}

function storedColumns(columns: TableLayout["columns"], of: string): string {
  const names = columns.map(({ name }) => `${of}${quoteIdentifier(name)}`);
  const own = [OP, OFFSET, VERSION, TIME, EXACT].map((name) => `${of}${name}`);
  return [...names, ...own, `notEmpty(${of}${UNCHANGED})`].join(", ");
}

/** Version and offset of the last truncate; both 0: there is none. */
export function truncatedSql({ sqlName }: TableLayout): string {
  return `SELECT toString(max((${VERSION}, ${OFFSET})).1), toString(max((${VERSION}, ${OFFSET})).2) FROM ${sqlName} WHERE ${OP} = 't'`;
}

/** A row without a key's values. `column`: the fence's. */
export function historyTruncateSql(
  { sqlName }: TableLayout,
  column: string,
  version: bigint,
  record: { readonly index: number; readonly commitTimeUs: bigint } | undefined,
): string {
  const offset = record?.index ?? TRUNCATE_OFFSET;
  return (
    `INSERT INTO ${sqlName} (${[OP, OFFSET, VERSION, TIME, quoteIdentifier(column)].join(", ")}) ` +
    `SELECT 't', ${offset}, ${version}, ${timeSql(record?.commitTimeUs)}, 0`
  );
}

/** Appends a delete for each existing key that no read from `below` on has seen. `column`: the fence's. */
export function historySweepSql(layout: TableLayout, column: string, below: bigint): string {
  const { sqlName, key } = layout;
  const names = key.map(({ name }) => quoteIdentifier(name)).join(", ");
  const latest =
    `SELECT ${names}, ${OP}, ${VERSION}, ${OFFSET}, ${SEEN} FROM ${sqlName} FINAL WHERE ${OP} != 't' ` +
    `ORDER BY ${VERSION} DESC, ${OFFSET} DESC LIMIT 1 BY ${names}`;
  const truncated = `(SELECT max((${VERSION}, ${OFFSET})) FROM ${sqlName} WHERE ${OP} = 't')`;
  return (
    `INSERT INTO ${sqlName} (${names}, ${[OP, OFFSET, VERSION, TIME, quoteIdentifier(column)].join(", ")}) ` +
    `SELECT ${names}, 'd', ${READ_OFFSET}, ${below}, now64(6, 'UTC'), 0 FROM (${latest}) ` +
    `WHERE ${OP} != 'd' AND (${VERSION}, ${OFFSET}) > ${truncated} AND greatest(${VERSION}, ${SEEN}) < ${below}`
  );
}
