/** The action of an entry in the staging table; see merge.ts. */
export const STAGED_PUT = 0;
export const STAGED_PATCH = 1;
export const STAGED_DELETE = 2;
export const STAGED_MOVE = 3;
/** In a history: a patch without a known base. */
export const STAGED_BASELESS = 4;
/** In a history: a patch that is no change if the row is not there (`isIfHeld`). */
export const STAGED_IF_HELD = 5;

/** Rows of the staging table from entry `from` (inclusive) to `to` (exclusive). */
export interface EntryRange {
  readonly from: number;
  readonly to: number;
}

export function inRange(range: EntryRange | undefined): string {
  return range === undefined ? "" : ` AND s._ord >= ${range.from} AND s._ord < ${range.to}`;
}

/** Exact: microseconds are not converted to a floating point number. */
export function timeOf(unixUs: bigint): string {
  return `(timestamptz '1970-01-01 00:00:00+00' + ${unixUs / 1_000_000n} * interval '1 second' + ${unixUs % 1_000_000n} * interval '1 microsecond')`;
}
