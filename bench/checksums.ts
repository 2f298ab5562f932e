/**
 * The method of data-diff (https://github.com/datafold/data-diff), written again as a peer. Both servers count the rows of
 * a key range and add up parts of their MD5 sums. A range that differs is divided, and fetched when it is small. Only for
 * rows that do not change. The number of parts and the size are data-diff's defaults.
 */
import type { Client } from "pg";

/** `bisection_factor` and `bisection_threshold`. */
const PARTS = 32;
const ROWS_FETCHED_MAX = 16_384;
/** Of the 32 hexadecimal digits, the last ones from here on: 60 bits. */
const DIGITS_FROM = 18;

interface Range {
  readonly from: number;
  /** Exclusive. */
  readonly to: number;
}

/** How many rows of `orders` differ; only the source's columns are compared. */
export async function differingByChecksums(source: Client, target: Client): Promise<number> {
  const { rows } = await source.query<{ name: string }>(
    "select quote_ident(attname) as name from pg_attribute where attrelid = 'orders'::regclass and attnum > 0 and not attisdropped order by attnum",
  );
  const row = `concat_ws('|', ${rows.map(({ name }) => `coalesce(${name}::text, '<null>')`).join(", ")})`;
  const both = async <T>(ask: (side: Client) => Promise<T>): Promise<readonly [T, T]> =>
    await Promise.all([ask(source), ask(target)]);
  const differingIn = async (range: Range): Promise<number> => {
    const sums = await both((side) => sumOf(side, row, range));
    if (sums[0].text === sums[1].text) return 0;
    if (Math.max(sums[0].count, sums[1].count) < ROWS_FETCHED_MAX) {
      const [ours, theirs] = await both((side) => rowsIn(side, row, range));
      const ids = new Set([...ours.keys(), ...theirs.keys()]);
      return [...ids].filter((id) => ours.get(id) !== theirs.get(id)).length;
    }
    return await differingInParts(range);
  };
  const differingInParts = async ({ from, to }: Range): Promise<number> => {
    const step = Math.ceil((to - from) / PARTS);
    let count = 0;
    for (let at = from; at < to; at += step) count += await differingIn({ from: at, to: Math.min(at + step, to) });
    return count;
  };
  return await differingInParts(await endsOf(source));
}

async function endsOf(side: Client): Promise<Range> {
  const { rows } = await side.query<Range>(`select min(id)::float8 as "from", max(id)::float8 + 1 as "to" from orders`);
  return rows[0]!;
}

async function sumOf(side: Client, row: string, { from, to }: Range): Promise<{ count: number; text: string }> {
  const digits = `('x' || substring(md5(${row}), ${DIGITS_FROM}))::bit(60)::bigint`;
  const { rows } = await side.query<{ count: string; sum: string | null }>(
    `select count(*)::text as count, sum(${digits})::text as sum from orders where id >= $1 and id < $2`,
    [from, to],
  );
  const { count, sum } = rows[0]!;
  return { count: Number(count), text: `${count} ${sum}` };
}

async function rowsIn(side: Client, row: string, { from, to }: Range): Promise<ReadonlyMap<string, string>> {
  const { rows } = await side.query<[string, string]>({
    text: `select id::text, ${row} from orders where id >= $1 and id < $2`,
    values: [from, to],
    rowMode: "array",
  });
  return new Map(rows);
}
