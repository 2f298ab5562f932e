/** Keys that are looked at again: what comes of them, in a bounded number of looks. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { Findings } from "../../src/reconcile/rows/findings.ts";
import type { Finding } from "../../src/reconcile/rows/judge.ts";
import { Look, suspectOf, Suspects } from "../../src/reconcile/rows/suspects.ts";
import { tableVersion } from "../support/model/blocks.ts";

const table = tableVersion({ table: "t", columns: { id: "integer" } });
const DIFFERENT: Finding = { kind: "different", columns: ["n"], why: "unknown" };

/** Looks at one key until it is settled; `shows` says what each look shows of it. */
function settle(shows: (look: Look, id: string, i: number) => void, repairs = false) {
  const suspects = new Suspects({ clock: systemClock, patienceMs: 1_000, repairs });
  const findings = new Findings(table, "cache", 10);
  suspects.put("1", suspectOf(["1"], { isMet: true }));
  let looks = 0;
  let repairCount = 0;
  while (suspects.size > 0 && looks < 1_000) {
    const look = new Look("settle", "2026-11-20T02:00:00.000Z");
    shows(look, "1", looks++);
    const looked = { look, at: `0/${looks}`, isAwaited: () => false, refused: new Set<string>() };
    repairCount += suspects.looked(suspects.next(10), looked, findings).repair.length;
  }
  const { compared, unsettled } = findings.counts;
  const { moving, movingSample, different, repaired } = findings.result();
  return { looks, repairCount, compared, unsettled, moving, movingSample, different, repaired };
}

test("a row that the source tells is compared, however often it moved before", () => {
  const seen = settle((look, id, i) => void (i < 10 ? undefined : look.equal.add(id)));
  expect(seen).toMatchObject({ compared: 1, moving: 0, unsettled: 0, different: 0 });
});

test("a row that the log alone tells is moving, with the last place at which it was right", () => {
  const seen = settle((look, id) => void look.equalByLog.add(id));
  expect(seen).toMatchObject({ looks: 3, compared: 0, moving: 1, unsettled: 0, different: 0 });
  expect(seen.movingSample).toEqual([{ key: { id: "1" }, equalAt: "0/3" }]);
});

test("one that nothing tells is given up after a bounded number of looks, and named", () => {
  const seen = settle(() => undefined);
  expect(seen).toMatchObject({ compared: 0, moving: 0, unsettled: 1, different: 0 });
  expect(seen.looks).toBeLessThan(50);
  const once = settle((look, id, i) => void (i === 5 && look.equalByLog.add(id)));
  expect(once).toMatchObject({ moving: 1, unsettled: 0, movingSample: [{ equalAt: "0/6" }] });
});

test("what differs the same way at two places is drift, whoever told the row; once is not enough", () => {
  expect(settle((look, id) => void look.judged.set(id, DIFFERENT))).toMatchObject({
    looks: 2,
    different: 1,
    compared: 1,
  });
  const gone = settle((look, id, i) => void (i === 0 ? look.judged.set(id, DIFFERENT) : look.equal.add(id)));
  expect(gone).toMatchObject({ different: 0, compared: 1 });
});

test("a repaired row is right as soon as the sink holds what the log says", () => {
  const shows = (look: Look, id: string, i: number) =>
    void (i < 2 ? look.judged.set(id, DIFFERENT) : look.equalByLog.add(id));
  expect(settle(shows, true)).toMatchObject({ repairCount: 1, different: 1, repaired: 1, moving: 0, compared: 1 });
});
