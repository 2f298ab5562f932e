/** What counts as proven, range by range: an age never claims more than was compared. */
import { expect, test } from "vitest";
import {
  cursorOf,
  dueOf,
  type Ledger,
  ledgerOf,
  type LookedRange,
  marksOf,
  NOTHING_PROVEN,
  RANGES_MAX,
  recordOf,
  withKeys,
  withRange,
} from "../../src/reconcile/proof/ledger.ts";

const PLACE = { table: "public.t", sink: "pg" };

function at(minute: number): string {
  return new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString();
}

/** Rows up to `last` (null: the end), compared at this minute; `met`: keys of rows that were among them. */
function looked(ledger: Ledger, last: number | null, minute: number, how: Partial<LookedRange> = {}): Ledger {
  return withRange(ledger, {
    last: last === null ? null : [String(last)],
    hasMet: () => false,
    lookedAt: at(minute),
    proven: { at: at(minute), position: String(minute) },
    rows: 10,
    missing: 0,
    different: 0,
    ...how,
  });
}

function meets(...keys: readonly number[]): Pick<LookedRange, "hasMet"> {
  return { hasMet: ([key]) => keys.includes(Number(key)) };
}

function listed(ledger: Ledger, minute: number, next: string | null = null, extra = 0): Ledger {
  const began = { at: at(minute), position: String(minute) };
  return withKeys(ledger, { next, isNew: ledger.keys.cursor === null, began, rows: 10, extra, isDecided: true });
}

const provenAt = (ledger: Ledger): string | null => recordOf(PLACE, ledger).provenAt;

test("nothing is proven before all rows and all keys were compared", () => {
  let ledger = looked(NOTHING_PROVEN, 10, 1);
  expect(cursorOf(ledger)).toEqual(["10"]);
  expect(provenAt(listed(ledger, 2))).toBeNull();
  ledger = looked(ledger, null, 3);
  expect(cursorOf(ledger)).toBeNull();
  expect(provenAt(ledger)).toBeNull();
  ledger = listed(ledger, 4, "page 2");
  expect(provenAt(ledger)).toBeNull();
  ledger = listed(ledger, 5);
  // The first rows are the oldest.
  expect(recordOf(PLACE, ledger)).toMatchObject({ provenAt: at(1), position: "1", ranges: 2 });
});

test("where the row at a range's end is gone, what comes after it may have been passed too", () => {
  let ledger = looked(NOTHING_PROVEN, 10, 1);
  ledger = listed(looked(ledger, null, 2, { proven: null }), 3);
  expect(provenAt(ledger)).toBeNull();
  // Up to 20, without the row 10: one that differs was among those behind it.
  ledger = looked(ledger, 20, 11, { proven: null });
  ledger = listed(looked(ledger, null, 12), 13);
  expect(provenAt(ledger)).toBeNull();
  for (const last of [20, null]) ledger = looked(ledger, last, 21, meets(20));
  expect(provenAt(ledger)).toBe(at(13));
});

test("in the next round a range counts until its last row is passed, however the new ranges are cut", () => {
  let ledger = NOTHING_PROVEN;
  for (const [last, minute] of [
    [10, 1],
    [20, 2],
    [30, 3],
    [null, 4],
  ] as const)
    ledger = looked(ledger, last, minute);
  ledger = listed(ledger, 9);
  expect(marksOf(ledger)).toEqual([["10"], ["20"], ["30"]]);
  // Up to 25: the first two are behind, the rest of the third is not.
  ledger = looked(ledger, 25, 11, meets(10, 20));
  expect(ledger.ranges.map(({ upTo, proven }) => [upTo?.[0] ?? null, proven?.position])).toEqual([
    ["25", "11"],
    ["30", "3"],
    [null, "4"],
  ]);
  // Row 30 is gone: its range is passed only with one after it.
  ledger = looked(ledger, 40, 12);
  expect(provenAt(ledger)).toBe(at(3));
  ledger = looked(ledger, null, 13);
  expect(provenAt(ledger)).toBe(at(9));
});

test("a range whose rows differ, or were not decided, keeps what was proven before", () => {
  let ledger = listed(looked(looked(NOTHING_PROVEN, 10, 1), null, 2), 3);
  ledger = looked(ledger, 10, 11, { ...meets(10), proven: null, missing: 2, different: 1 });
  expect(recordOf(PLACE, ledger)).toMatchObject({ provenAt: at(1), missing: 2, different: 1, lookedAt: at(2) });
  expect(provenAt(looked(ledger, null, 12))).toBe(at(1));
  const never = looked(NOTHING_PROVEN, null, 1, { proven: null, missing: 1 });
  expect(provenAt(listed(never, 2))).toBeNull();
});

test("keys that only the sink has keep a listing from being proven; one that begins anew counts from there", () => {
  let ledger = looked(NOTHING_PROVEN, null, 1);
  ledger = listed(listed(ledger, 2, "b", 1), 3);
  expect(recordOf(PLACE, ledger)).toMatchObject({ provenAt: null, extra: 1 });
  ledger = listed(ledger, 4, "b");
  const began = { at: at(6), position: "6" };
  ledger = withKeys(ledger, { next: null, isNew: true, began, rows: 1, extra: 0, isDecided: true });
  expect(ledger.keys.proven).toEqual(began);
  const undecided = withKeys(listed(ledger, 7, "b"), {
    next: null,
    isNew: false,
    began,
    rows: 1,
    extra: 0,
    isDecided: false,
  });
  expect(undecided.keys.proven).toEqual(began);
});

test("what waits longest comes first", () => {
  expect(dueOf(NOTHING_PROVEN)).toBe("rows");
  const walked = looked(looked(NOTHING_PROVEN, 10, 1), null, 2);
  expect(dueOf(walked)).toBe("keys");
  expect(dueOf(listed(walked, 3))).toBe("rows");
});

test("there are never more ranges than some hundred, and merged ones have the older proof", () => {
  let ledger = NOTHING_PROVEN;
  const wrong: string[] = [];
  for (let round = 0; round < 3; round++) {
    for (let i = 1; i <= 400; i++) {
      const end = i === 400 ? Infinity : i * 10 + round;
      ledger = looked(ledger, i === 400 ? null : end, round * 1000 + i, { hasMet: ([key]) => Number(key) <= end });
      if (ledger.ranges.length > RANGES_MAX || (i < 400 && cursorOf(ledger)?.[0] !== String(end)))
        wrong.push(`${round}/${i}: ${ledger.ranges.length} ranges, at ${cursorOf(ledger)?.join()}`);
      // No range claims a later proof than the rows at its start have.
      let first = 0;
      for (const { upTo, proven } of ledger.ranges) {
        const isNow = first < end;
        const latest = (isNow ? round : round - 1) * 1000 + Math.ceil((first + 11) / 10);
        const isRight = proven === null ? round === 0 && !isNow : Number(proven.position) <= latest;
        if (!isRight) wrong.push(`${round}/${i}: from ${first} at ${proven?.position}`);
        first = Number(upTo?.[0] ?? 0);
      }
    }
  }
  expect(wrong).toEqual([]);
  expect(ledgerOf(JSON.stringify(ledger))).toEqual(ledger);
  expect(ledgerOf(null)).toBe(NOTHING_PROVEN);
});
