/** Cuts the keys of a table into ranges that have about the same number of rows, by the server's estimates. */

/** Keys from `from` (inclusive) to `to` (exclusive); null: no bound. */
export interface KeyRange {
  readonly from: bigint | null;
  readonly to: bigint | null;
}

/** The server's estimate of the rows in each range. */
export type RowsOf = (ranges: readonly KeyRange[]) => Promise<readonly number[]>;

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
 * Together the ranges hold every key, also keys below `low` and above `high`, and each key is in one of them, however
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
