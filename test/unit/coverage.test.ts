/** Coverage by range: which rows a comparison has been through, when, and where the log was then. */
import { expect, test } from "vitest";
import { withoutKeys, withoutKeysOf } from "../../src/core/contracts/reconciliation.ts";
import { withCovered, withinReport } from "../../src/reconcile/rows/coverage.ts";
import { htmlReport } from "../../src/reconcile/report/page.ts";
import { reportText } from "../../src/reconcile/report/text.ts";
import type { CoveredRange } from "../../src/core/contracts/reconciliation.ts";
import { reportOf, tableFound } from "../support/model/reports.ts";

const CHUNKS = 500;

function range(n: number, upTo: CoveredRange["upTo"] = { id: String(n * 10) }): CoveredRange {
  return { upTo, rows: 10, at: new Date(Date.UTC(2026, 10, 20, 2, 0, n)).toISOString(), position: `0/${n}` };
}

function walked(chunks: number): readonly CoveredRange[] {
  let ranges: readonly CoveredRange[] = [];
  for (let n = 1; n <= chunks; n++) ranges = withCovered(ranges, range(n, n === chunks ? null : undefined));
  return ranges;
}

test("a table of many chunks has a bounded number of ranges of about one size, each at its oldest position", () => {
  const ranges = walked(CHUNKS);
  expect(ranges.length).toBe(64);
  expect(ranges.at(-1)!.upTo).toBeNull();
  const rows = ranges.map((one) => one.rows!);
  expect(rows.reduce((sum, one) => sum + one, 0)).toBe(CHUNKS * 10);
  expect(Math.max(...rows)).toBeLessThanOrEqual((4 * CHUNKS * 10) / 64);
  // Each begins where the one before ends: the first of its chunks gives time and position.
  let n = 1;
  for (const { at, position, rows: count } of ranges) {
    expect({ at, position }).toEqual({ at: range(n).at, position: `0/${n}` });
    n += count! / 10;
  }
});

test("a report of many tables has as many ranges as fit, and each table one", () => {
  const tables = Array.from({ length: 100 }, (_, i) => tableFound({ table: `public.t${i}`, coverage: walked(CHUNKS) }));
  const kept = withinReport(tables);
  expect(kept.reduce((sum, { coverage }) => sum + coverage!.length, 0)).toBeLessThanOrEqual(1_024);
  for (const { coverage } of kept) expect(coverage!.reduce((sum, { rows }) => sum + rows!, 0)).toBe(CHUNKS * 10);
  const many = Array.from({ length: 5_000 }, (_, i) => tableFound({ table: `public.t${i}`, coverage: walked(3) }));
  expect(new Set(withinReport(many).map(({ coverage }) => coverage!.length))).toEqual(new Set([1]));
  const [few] = withinReport([tableFound({ coverage: walked(3) })]);
  expect(few!.coverage).toEqual(walked(3));
});

test("joined with a range that was never proven, or has no row, a range claims no more than both", () => {
  const never: CoveredRange = { upTo: { id: "5" }, rows: null, at: null, position: null };
  const [joined] = withinReport(
    Array.from({ length: 1_024 }, () => tableFound({ coverage: [never, range(2, null)] })),
  ).map(({ coverage }) => coverage!);
  expect(joined).toEqual([{ upTo: null, rows: null, at: null, position: null }]);
  const empty = { ...range(1), rows: 0, position: null };
  const [other] = withinReport(
    Array.from({ length: 1_024 }, () => tableFound({ coverage: [empty, range(2, null)] })),
  ).map(({ coverage }) => coverage!);
  expect(other).toEqual([{ upTo: null, rows: 10, at: empty.at, position: "0/2" }]);
});

test("keys at the ends of ranges are keys of rows: they go where those go", () => {
  const found = reportOf({ id: "a", coverage: [{ ...range(1), upTo: { id: "canary" } }, range(2, null)] });
  for (const one of [withoutKeys(found), withoutKeysOf("public.orders", found)]) {
    expect(JSON.stringify(one)).not.toContain("canary");
    expect(one.tables[0]!.coverage).toEqual([{ ...range(1), upTo: {} }, range(2, null)]);
  }
  expect(JSON.stringify(withoutKeysOf("public.other", found))).toContain("canary");
});

test("the page lists each range, and every form says where a walk ended before its table", () => {
  const whole = reportOf({ id: "a", coverage: walked(3) });
  expect(reportText(whole)).toContain("\ncovered: 3 ranges of keys; --json and the files name each\n");
  expect(htmlReport(whole, [])).toMatch(/the end<.*>10<.*2026-11-20T02:00:03.000Z<.*>0\/3</);
  expect(reportText(whole)).not.toContain("in part");
  const broken = reportOf({ id: "b", coverage: walked(3).slice(0, 2) });
  const reach = 'the rows after id "20" were not reached';
  expect(reportText(broken)).toContain(`\ncovered in part: public.orders in warehouse: ${reach}\n`);
  expect(htmlReport(broken, [])).toContain("&quot;20&quot; were not reached");
  const earlier = reportOf({ id: "c" });
  expect(reportText(earlier)).not.toContain("covered");
  expect(htmlReport(earlier, [])).not.toContain("Ranges of keys");
});
