import { expect, test } from "vitest";
import { equalIn, equalOf, summaryOf, verdictOf } from "../../src/core/comparison-verdict.ts";
import type { ReconcileDocument } from "../../src/core/contracts/reconciliation.ts";
import { htmlReport } from "../../src/reconcile/report/page.ts";
import { markdownReport, reportText } from "../../src/reconcile/report/text.ts";
import { reportOf, tableFound } from "../support/model/reports.ts";

const equal = reportOf({ id: "20261120T020000Z-x1" });

test("says what was compared, and that it is equal", () => {
  expect(markdownReport(equal)).toBe(
    [
      "# shop: equal",
      "",
      "Comparison 20261120T020000Z-x1, from 2026-11-20T02:00:00.000Z to 2026-11-20T02:01:30.500Z (90.5 s).",
      "",
      "```text",
      reportText(equal),
      "```",
      "",
    ].join("\n"),
  );
});

test("with a table suspended, what was compared is equal, and no more than that", () => {
  const suspended = [{ table: "public.t", code: "MR1309", message: "it has no usable key any more" }];
  expect(markdownReport({ ...equal, suspended })).toMatch(/^# shop: what was compared is equal$/m);
  expect(reportText({ ...equal, suspended })).toMatch(
    /suspended: MR1309.*\nwhat was compared is equal: 1 table is suspended$/,
  );
});

test("equal is said of all of it alone; else what was compared is", () => {
  const [row] = equal.tables;
  const text = (changed: object, whole = true) => reportText({ ...equal, whole, tables: [{ ...row!, ...changed }] });
  expect(text({})).toMatch(/\nthe sinks are equal to the source$/);
  expect(text({ compared: 1 })).toMatch(/\nwhat was compared is equal: 1 of 10 rows was compared$/);
  expect(text({ compared: 9 })).toMatch(/\nwhat was compared is equal: 9 of 10 rows were compared$/);
  const movingSample = [{ key: { id: "1" }, equalAt: "0/123" }];
  const moving = text({ compared: 9, moving: 1, movingSample });
  expect(moving).toMatch(/moving: 1 row of public\.orders .*warehouse had what the log says.* last at 0\/123/);
  expect(moving).toMatch(/\nwhat was compared is equal: 9 of 10 rows were compared; 1 row never rested/);
  expect(text({}, false)).toMatch(/\nwhat was compared is equal: only some tables or sinks were asked for$/);
});

const stream = { sink: "stream", table: null, reason: "it only passes changes on", isExpected: true } as const;
const onItsWay = { sink: "warehouse", table: "public.orders", rows: 1, reason: "1 row was on the way at each look" };

test.each<[string, Partial<ReconcileDocument>, isOfRows: boolean]>([
  ["some tables or sinks alone", { whole: false }, false],
  ["a part of the values", { part: { number: 1, of: 7 } }, true],
  ["fewer rows than the source has", { tables: [tableFound({ compared: 9 })] }, true],
  ["no row that moved at each look", { tables: [tableFound({ moving: 1 })] }, true],
  ["no row that was on its way at each look", { notComparable: [onItsWay] }, true],
  ["no suspended table", { suspended: [{ table: "public.t", code: "MR1309", message: "it has no key" }] }, false],
  ["no sink that only passes changes on", { notComparable: [stream] }, false],
])("of %s a list says no more than the comparison's own report", (_, changed, isOfRows) => {
  const found = { ...equal, ...changed };
  expect(verdictOf(found)).toMatchObject({ kind: "incomplete", text: "what was compared is equal" });
  expect(equalIn(summaryOf(found))).toBe("what was compared is equal");
  expect(equalOf(found.tables[0]!, found)).toBe(isOfRows ? "what was compared is equal" : "equal");
});

test("a row that waits as a dead letter differs: every form of a report excepts it from what is equal, in one way", () => {
  const [row] = equal.tables;
  const refused = (deadLetters: number) => ({ ...equal, tables: [{ ...row!, deadLetters }] });
  expect(reportText(refused(1))).toMatch(
    /\nknown: 1 row of public\.orders waits as a dead letter of warehouse\nthe sinks are equal to the source except for 1 dead letter$/,
  );
  const two = refused(2);
  expect(markdownReport(two)).toMatch(/^# shop: equal except for 2 dead letters$/m);
  expect(htmlReport(two, [])).toContain(`<span class="verdict incomplete">equal except for 2 dead letters</span>`);
  expect(equalIn(summaryOf(two))).toBe("equal except for 2 dead letters");
  const some = { ...two, whole: false };
  expect(reportText(some)).toMatch(
    /\nwhat was compared is equal except for 2 dead letters: only some tables or sinks were asked for$/,
  );
  expect(equalIn(summaryOf(some))).toBe("what was compared is equal except for 2 dead letters");
});

test("one row is told as one", () => {
  const [row] = equal.tables;
  const text = reportText({ ...equal, tables: [{ ...row!, different: 2, unrepairable: 1, beyondLog: 1 }] }, true);
  expect(text).toMatch(/: 1 row would be read again from the source, 1 be left: no repair changes it$/m);
  expect(text).toMatch(/^MR1405 beyond the log: 1 row of public\.orders in warehouse/m);
});

test("names of the source are text in it, and no markup", () => {
  const hostile = "x|<script>alert(1)</script>\n```\n# `a` [b](javascript:c)";
  const [row] = equal.tables;
  const sample = [{ kind: "different", key: { id: hostile }, columns: [hostile], why: "unknown" } as const];
  const text = markdownReport({
    ...equal,
    drift: true,
    alarm: true,
    tables: [{ ...row!, table: hostile, different: 30, repaired: 1, sample }],
    notComparable: [{ sink: "cache", table: null, reason: hostile }],
    suspended: [{ table: "public.t", code: "MR1309", message: hostile }],
  });
  const [head = "", body = "", end] = text.split(/^````(?:text)?$/m);
  expect(head).toContain("# shop: 29 rows differ");
  expect(head + end!).not.toMatch(/script|javascript/);
  expect(body).toMatch(/and 29 more/);
  expect(body).toContain("millrace reconcile --sink warehouse --repair");
});
