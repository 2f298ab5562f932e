/** What kept reports say of now: when everything was equal last, and which drift nobody has found gone. */
import { expect, test } from "vitest";
import { summaryOf } from "../../src/core/comparison-verdict.ts";
import type { ReconcileDocument, ReportSummary } from "../../src/core/contracts/reconciliation.ts";
import { lastEqual, openDrift } from "../../src/reconcile/report/past.ts";

let count = 0;

/** Each a minute after the one before. */
function report(changed: Partial<ReportSummary> = {}): ReportSummary {
  const finishedAt = new Date(Date.UTC(2026, 0, 1) + ++count * 60_000).toISOString();
  return {
    id: `r${count}`,
    name: "shop",
    startedAt: new Date(Date.parse(finishedAt) - 40_000).toISOString(),
    finishedAt,
    drift: false,
    alarm: false,
    tables: 1,
    notComparable: 0,
    compared: 1,
    whole: true,
    complete: true,
    part: null,
    suspended: 0,
    deadLetters: 0,
    missing: 0,
    extra: 0,
    different: 0,
    repaired: 0,
    ...changed,
  };
}

const DRIFT = { drift: true, alarm: true, missing: 1 } as const;
const newestFirst = (...reports: readonly ReportSummary[]): readonly ReportSummary[] => reports.toReversed();
const fast = (number: number): ReportSummary => report({ part: { number, of: 7 } });

test("a sink that only passes changes on, which nobody can compare, keeps no comparison from being of everything", () => {
  const stream = { sink: "stream", table: null, reason: "it only passes changes on", isExpected: true } as const;
  const away = { sink: "cache", table: null, reason: "it is away" };
  const summary = (notComparable: ReconcileDocument["notComparable"]): ReportSummary =>
    summaryOf({
      ...report(),
      part: null,
      tables: [],
      notComparable,
      suspended: [],
      besides: [],
      version: "0.1.0",
      config: "",
    });
  expect(lastEqual([summary([stream])])).not.toBeNull();
  expect(lastEqual([summary([stream, away])])).toBeNull();
});

test("only a comparison of everything in which all is equal counts as a success", () => {
  const complete = report();
  for (const partial of [
    report({ whole: false }),
    report({ notComparable: 1 }),
    report({ deadLetters: 1 }),
    report({ suspended: 1 }),
    report(DRIFT),
    fast(1),
  ]) {
    expect(lastEqual([partial])).toBeNull();
    expect(lastEqual(newestFirst(complete, partial))?.toISOString()).toBe(complete.startedAt);
  }
});

test("fast comparisons that make a whole together count when the comparison of the last part began", () => {
  const week = [1, 2, 3, 4, 5, 6, 7].map(fast);
  expect(lastEqual(newestFirst(...week.slice(1)))).toBeNull();
  expect(lastEqual(newestFirst(...week))?.toISOString()).toBe(week[6]!.startedAt);
  expect(lastEqual(newestFirst(...week.slice(0, 4), report(DRIFT), ...week.slice(4)))).toBeNull();
});

test("drift stays until a comparison of everything has found none", () => {
  const found = report({ ...DRIFT, repaired: 1 });
  expect(openDrift([])).toBeNull();
  expect(openDrift(newestFirst(report(), found))).toBe(found);
  expect(openDrift(newestFirst(found, report({ whole: false })))).toBe(found);
  expect(openDrift(newestFirst(found, report({ notComparable: 1 })))).toBe(found);
  expect(openDrift(newestFirst(found, report()))).toBeNull();
  expect(openDrift(newestFirst(report({ drift: true, missing: 1 })))).toBeNull();
});

test("rows that were left as they were are not hidden by a later repair of others", () => {
  const left = report(DRIFT);
  const repaired = { ...DRIFT, repaired: 1 };
  expect(openDrift(newestFirst(left, report({ ...repaired, whole: false })))).toBe(left);
  const all = report(repaired);
  expect(openDrift(newestFirst(left, all))).toBe(all);
});
