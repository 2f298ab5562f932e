/** Rows of the staging table from entry `from` up to, not including, `to`. */
export interface EntryRange {
  readonly from: number;
  readonly to: number;
}

export function within(range: EntryRange | undefined): string {
  return range === undefined ? "" : ` AND s._ord >= ${range.from} AND s._ord < ${range.to}`;
}

/** Exact: microseconds do not go through a floating point number. */
export function timeOf(unixUs: bigint): string {
  return `(timestamptz '1970-01-01 00:00:00+00' + ${unixUs / 1_000_000n} * interval '1 second' + ${unixUs % 1_000_000n} * interval '1 microsecond')`;
}
