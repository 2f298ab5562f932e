/**
 * What is proven of one table in one sink: by ranges of the source's keys, in the order of the walk, which goes round and
 * round. Nothing here compares keys: a range of an earlier round is passed when the row at its end is met.
 */
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { ProofFacts, ProofPlace } from "../../core/contracts/state-store.ts";

export interface Proven {
  /** When the comparison began that found every row equal. */
  readonly at: string;
  /** The position of the source's log; null: there was no row. */
  readonly position: string | null;
}

/** The rows after the range before, up to and with this key (null: to the end). */
interface ProofRange {
  readonly upTo: KeyText | null;
  readonly lookedAt: string | null;
  readonly proven: Proven | null;
  /** Of the source, when it was looked at; null: not known. */
  readonly rows: number | null;
  readonly missing: number;
  readonly different: number;
}

/** Keys that only the sink has: of its whole listing, page after page. */
interface ProofKeys {
  /** Where the next page begins; null: at the start. */
  readonly cursor: string | null;
  /** When the listing that is under way began, and where the log was then. */
  readonly began: Proven | null;
  /** When the one before began. */
  readonly lookedAt: string | null;
  readonly proven: Proven | null;
  /** Rows of the last whole listing that the source lacks, and of the one that is under way. */
  readonly extra: number;
  readonly extraNow: number;
  /** The same of all rows that it listed; null: not known. */
  readonly rows: number | null;
  readonly rowsNow: number | null;
  /** See `Left`. Of the one that is under way. */
  readonly isDecided: boolean;
}

export interface Ledger {
  readonly ranges: readonly ProofRange[];
  /** The range that the walk comes to next. */
  readonly next: number;
  readonly keys: ProofKeys;
}

/** What was found of the rows after the walk's place, up to and with `last` (null: the last row of the table). */
export interface LookedRange {
  readonly last: KeyText | null;
  /** Whether the row with this key was among them. */
  readonly hasMet: (key: KeyText) => boolean;
  readonly lookedAt: string;
  /** Null: not every row is equal now. */
  readonly proven: Proven | null;
  readonly rows: number;
  readonly missing: number;
  readonly different: number;
}

interface LookedKeys {
  readonly next: string | null;
  /** The listing began again. */
  readonly isNew: boolean;
  readonly began: Proven;
  readonly rows: number | null;
  readonly extra: number;
  readonly isDecided: boolean;
}

/** With more ranges than this, neighbours become one, with the older proof of both. */
export const RANGES_MAX = 256;

const UNPROVEN = { lookedAt: null, proven: null };
const NO_KEYS: ProofKeys = {
  cursor: null,
  began: null,
  ...UNPROVEN,
  extra: 0,
  extraNow: 0,
  rows: null,
  rowsNow: null,
  isDecided: true,
};
export const NOTHING_PROVEN: Ledger = {
  ranges: [{ upTo: null, ...UNPROVEN, rows: null, missing: 0, different: 0 }],
  next: 0,
  keys: NO_KEYS,
};

export function ledgerOf(content: string | null): Ledger {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by this folder, into its own state
  return content === null ? NOTHING_PROVEN : (JSON.parse(content) as Ledger);
}

/** The walk's place: it goes on after this key. */
export function cursorOf({ ranges, next }: Ledger): KeyText | null {
  return next === 0 ? null : ranges[next - 1]!.upTo;
}

/** Keys of rows whose passing says which ranges of the earlier round are behind. */
export function marksOf({ ranges, next }: Ledger): readonly KeyText[] {
  return ranges.slice(next).flatMap(({ upTo }) => (upTo === null ? [] : [upTo]));
}

export function withRange(ledger: Ledger, looked: LookedRange): Ledger {
  const { last, hasMet, lookedAt, proven, rows, missing, different } = looked;
  const { ranges, next } = ledger;
  const ahead = ranges.slice(next);
  const passed = last === null ? ahead.length : ahead.findLastIndex(({ upTo }) => upTo !== null && hasMet(upTo)) + 1;
  const range: ProofRange = {
    upTo: last,
    lookedAt,
    // What was proven before counts for rows that are not equal now, or not decided: any of those ahead may have had them, as the
    // row at a range's end may be gone.
    proven: proven ?? oldest(ahead.map((one) => one.proven)),
    rows,
    missing,
    different,
  };
  const [cut, ...rest] = ahead.slice(passed);
  // Of the one that is not passed, the rows before `last` count no more.
  const counted = sumOf(ahead.slice(0, passed).map((one) => one.rows));
  const left = cut?.rows == null || counted === null ? null : Math.max(0, cut.rows - Math.max(0, rows - counted));
  const after = cut === undefined ? [] : [{ ...cut, rows: left }, ...rest];
  const all = [...ranges.slice(0, next), range, ...after];
  return merged({ ...ledger, ranges: all, next: last === null ? 0 : next + 1 });
}

/** Null: one of them is not known. Ledgers of earlier versions have none. */
function sumOf(all: readonly (number | null | undefined)[]): number | null {
  let sum = 0;
  for (const one of all) {
    if (one == null) return null;
    sum += one;
  }
  return sum;
}

export function withKeys(ledger: Ledger, { next, isNew, began, rows, extra, isDecided }: LookedKeys): Ledger {
  const { keys } = ledger;
  const isFirst = isNew || keys.began === null;
  const [start, sum] = isFirst ? [began, extra] : [keys.began, keys.extraNow + extra];
  const listed = isFirst ? rows : sumOf([keys.rowsNow, rows]);
  const decided = isDecided && (isFirst || keys.isDecided);
  if (next !== null)
    return {
      ...ledger,
      keys: { ...keys, cursor: next, began: start, extraNow: sum, rowsNow: listed, isDecided: decided },
    };
  return {
    ...ledger,
    keys: {
      cursor: null,
      began: null,
      lookedAt: start.at,
      proven: sum === 0 && decided ? start : keys.proven,
      extra: sum,
      extraNow: 0,
      rows: listed,
      rowsNow: null,
      isDecided: true,
    },
  };
}

/** What a comparison of all rows and all keys found; `began`: when it did. */
interface LookedTable {
  readonly began: Proven;
  readonly sourceRows: number;
  readonly sinkRows: number;
  readonly missing: number;
  readonly different: number;
  readonly extra: number;
  readonly isDecided: boolean;
}

export function withTable(ledger: Ledger, looked: LookedTable): Ledger {
  const { began, sourceRows, sinkRows, missing, different, extra, isDecided } = looked;
  const isEqual = isDecided && missing + different === 0;
  const rows = withRange(
    { ...ledger, next: 0 },
    {
      last: null,
      hasMet: () => true,
      lookedAt: began.at,
      proven: isEqual ? began : null,
      rows: sourceRows,
      missing,
      different,
    },
  );
  return withKeys(rows, { next: null, isNew: true, began, rows: sinkRows, extra, isDecided });
}

/** Which of the two waits longer. */
export function dueOf({ ranges, next, keys }: Ledger): "rows" | "keys" {
  const [rows, listing] = [ranges[next]!.lookedAt ?? "", keys.lookedAt ?? ""];
  return rows <= listing ? "rows" : "keys";
}

export function recordOf(place: ProofPlace, { ranges, next, keys }: Ledger): ProofFacts {
  const proven = oldest([...ranges.map((range) => range.proven), keys.proven]);
  const [rows, listing] = [ranges[next]!.lookedAt, keys.lookedAt];
  return {
    table: place.table,
    sink: place.sink,
    lookedAt: rows === null || listing === null ? null : rows <= listing ? rows : listing,
    provenAt: proven?.at ?? null,
    position: proven?.position ?? null,
    ranges: ranges.length,
    missing: ranges.reduce((sum, { missing }) => sum + missing, 0),
    extra: Math.max(keys.extra, keys.extraNow),
    different: ranges.reduce((sum, { different }) => sum + different, 0),
  };
}

/** Null: one of them was never proven. */
function oldest(all: readonly (Proven | null)[]): Proven | null {
  let first: Proven | null = null;
  for (const one of all) {
    if (one === null) return null;
    if (first === null || one.at < first.at) first = one;
  }
  return first;
}

/** The walk's place stays the end of a range. */
function merged(ledger: Ledger): Ledger {
  const { ranges, next } = ledger;
  if (ranges.length <= RANGES_MAX) return ledger;
  const times = ranges.map(({ proven }) => (proven === null ? 0 : Date.parse(proven.at)));
  const gap = (i: number): number => (i + 1 === next ? Infinity : Math.abs(times[i]! - times[i + 1]!));
  let at = -1;
  for (let i = 0; i + 1 < ranges.length; i++) if (at < 0 || gap(i) < gap(at)) at = i;
  const [a, b] = [ranges[at]!, ranges[at + 1]!];
  const both: ProofRange = {
    upTo: b.upTo,
    lookedAt: a.lookedAt === null || b.lookedAt === null ? null : [a.lookedAt, b.lookedAt].toSorted()[0]!,
    proven: oldest([a.proven, b.proven]),
    rows: sumOf([a.rows, b.rows]),
    missing: a.missing + b.missing,
    different: a.different + b.different,
  };
  return { ...ledger, ranges: ranges.toSpliced(at, 2, both), next: at < next ? next - 1 : next };
}
