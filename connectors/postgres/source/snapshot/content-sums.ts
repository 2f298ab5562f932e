/** What a table's rows add up to, computed by the server: two tables of equal rows have equal sums. */
import type { ContentSums, Hashed } from "../../../../src/core/contracts/row-reads.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import type { SourceContext } from "../wire/context.ts";
import { onlyCell, RowSession } from "../wire/row-session.ts";
import { begin } from "./chunks.ts";
import { oidOf, oids } from "./live-table.ts";

/** So few that the server keeps them in its memory. */
const BUCKETS = 16_384;
/** Of 8 KB. Each piece is a transaction of its own, so that none is long. */
const PIECE_PAGES = 131_072;

export async function contentSums(
  context: SourceContext,
  table: TableVersion,
  hashed: Hashed,
  signal: AbortSignal,
): Promise<ContentSums> {
  const sums = { counts: new Int32Array(BUCKETS), hashes: new BigInt64Array(BUCKETS) };
  const doing = `adding up ${table.id}`;
  const name = quoteLiteral(quoteTable(table.schema, table.table));
  for (let from = 0, pages = 1; from < pages; from += PIECE_PAGES) {
    using session = await RowSession.open(context.database, signal);
    const { live } = await begin(context, session, { table, isQuick: true }, signal);
    // A piece has these pages of each table that holds rows.
    const held = oids(context.leaves.of(oidOf(table)) ?? []);
    const size = `SELECT greatest(pg_relation_size(${name}::regclass), (SELECT max(pg_relation_size(relid)) FROM unnest(${held}) AS t(relid))) / current_setting('block_size')::int`;
    pages = Number(onlyCell(await session.rows(doing, size, signal), doing));
    const to = from + PIECE_PAGES < pages ? ` AND ctid < '(${from + PIECE_PAGES},0)'::tid` : "";
    // OFFSET keeps the planner from computing the hash twice.
    const rows = `SELECT ${hashOf(table, hashed)} AS h FROM ${live.sql} WHERE ctid >= '(${from},0)'::tid${to} OFFSET 0`;
    const query = `SELECT h & ${BUCKETS - 1}, count(*), bit_xor(h) FROM (${rows}) AS s GROUP BY 1`;
    for (const [bucket, count, xor] of await session.rows(doing, query, signal)) {
      const i = Number(bucket);
      sums.counts[i]! += Number(count);
      sums.hashes[i]! ^= BigInt(xor ?? 0);
    }
  }
  return sums;
}

/** A condition: rows of these buckets. */
export function inBuckets(table: TableVersion, hashed: Hashed, buckets: readonly number[]): string {
  return `${hashOf(table, hashed)} & ${BUCKETS - 1} = ANY ('{${buckets.join()}}'::bigint[])`;
}

const TEXTS = "postgres";
/**
 * Types whose own hash says what their text says, in every database. Others have no hash, hash a number of this database
 * (enums), or hash different texts alike (an interval of a month and one of 30 days, arrays of other dimensions).
 */
const HASHED =
  /^(boolean|smallint|integer|bigint|numeric|real|double precision|text|character varying|character|uuid|bytea|date|jsonb|inet|cidr|macaddr|(time|timestamp) with(out)? time zone)$/;
const COLLATED = /^(text|character)/;

/** By the values, which the server has at hand, if all types allow it; and by their texts. */
export function hashForms({ columns }: TableVersion, ordinals: readonly number[]): readonly string[] {
  const types = ordinals.map((ordinal) => baseOf(columns[ordinal]!.native));
  return types.every((type) => HASHED.test(type)) ? [`${TEXTS} ${types.join()}`, TEXTS] : [TEXTS];
}

/** Without a length or a precision. */
function baseOf(native: string): string {
  return native.replace(/\([\d,-]+\)/, "");
}

/** A collation does not decide equality, and one that is not deterministic would. */
function hashOf({ columns: all }: TableVersion, { columns, form }: Hashed): string {
  const values = columns.map((ordinal) => {
    const { name, native } = all[ordinal]!;
    return `${quoteIdentifier(name)}${form !== TEXTS && COLLATED.test(native) ? ' COLLATE "C"' : ""}`;
  });
  const row = `ROW(${values.join(", ")})`;
  return form === TEXTS ? `hashtextextended(${row}::text COLLATE "C", 0)` : `hash_record_extended(${row}, 0)`;
}
