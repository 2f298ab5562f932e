/** The report of what is proven: each range as the ledger has it, and nothing that was never proven as equal. */
import { expect, test } from "vitest";
import { summaryOf, verdictOf } from "../../src/core/comparison-verdict.ts";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { type Ledger, NOTHING_PROVEN, withKeys, withRange, withTable } from "../../src/reconcile/proof/ledger.ts";
import { proofReport } from "../../src/reconcile/proof/proof-report.ts";
import { storeLedger, turnOf } from "../../src/reconcile/proof/proof-turn.ts";
import { htmlReport } from "../../src/reconcile/report/page.ts";
import { comparisonsIn, lastEqual, pastOf } from "../../src/reconcile/report/past.ts";
import { markdownReport } from "../../src/reconcile/report/text.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { reportOf } from "../support/model/reports.ts";

const DAY_MS = 86_400_000;
const NOW = Date.UTC(2026, 10, 20, 12);
const clock: Clock = { ...systemClock, now: () => NOW, unique: () => "x1" };
const PLACES = ["a", "b"].map((sink) => ({ table: "public.t", sink }));

function at(hour: number): string {
  return new Date(Date.UTC(2026, 10, 20, hour)).toISOString();
}

/** Of two ranges, and a listing. */
function walked(): Ledger {
  const range = { hasMet: () => false, missing: 0, different: 0 };
  const [first, second, third] = [3, 5, 4].map((hour) => ({ at: at(hour), position: `0/${hour}` }));
  const one = withRange(NOTHING_PROVEN, { ...range, last: ["40"], lookedAt: at(3), proven: first!, rows: 40 });
  const two = withRange(one, { ...range, last: null, lookedAt: at(5), proven: second!, rows: 7 });
  const page = withKeys(two, { next: "p", isNew: true, began: third!, rows: 30, extra: 0, isDecided: true });
  return withKeys(page, { next: null, isNew: false, began: third!, rows: 17, extra: 0, isDecided: true });
}

async function stateWith(ledgers: Readonly<Record<string, Ledger>>): Promise<StateStore> {
  const state = openMemory(systemClock);
  await state.lease.acquire("test", 60_000);
  await state.schemas.resolve([tableVersion({ table: "t", columns: { id: "int4" } })], {
    epoch: 1,
    commit: 1n,
    index: 0,
  });
  await state.proofs.know(PLACES, []);
  for (const stored of await state.proofs.ofTable("public.t")) {
    const ledger = ledgers[stored.sink];
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    const turn = turnOf(stored, { batch: () => 1 } as never);
    if (ledger !== undefined) expect(await storeLedger(state.proofs, turn, ledger)).toBe(true);
  }
  return state;
}

async function reportWith(ledgers: Readonly<Record<string, Ledger>>, maxAgeMs = DAY_MS) {
  const state = await stateWith(ledgers);
  const sinks = ["a", "b", "stream"];
  return await proofReport({
    state,
    clock,
    name: "shop",
    version: "1",
    config: "c",
    driftMax: () => 0,
    maxAgeMs,
    sinks,
  });
}

const began = { at: at(2), position: "0/2" };
const WHOLE = withTable(NOTHING_PROVEN, {
  began,
  sourceRows: 47,
  sinkRows: 47,
  missing: 0,
  different: 0,
  extra: 0,
  isDecided: true,
});

test("it names each range with its proof, both row counts, and the listing; from the oldest proof on", async () => {
  const found = await reportWith({ a: walked(), b: WHOLE });
  expect(found).toMatchObject({ kind: "proof", startedAt: at(2), finishedAt: at(12), drift: false, alarm: false });
  expect(found.tables.map(({ sink }) => sink)).toEqual(["a", "b"]);
  expect(found.tables[0]).toMatchObject({
    sourceRows: 47,
    sinkRows: 47,
    compared: 47,
    positions: { from: "0/3", to: "0/5" },
    coverage: [
      { upTo: { id: "40" }, rows: 40, at: at(3), position: "0/3" },
      { upTo: null, rows: 7, at: at(5), position: "0/5" },
    ],
    listing: { at: at(4), position: "0/4" },
  });
  expect(found.tables[1]).toMatchObject({
    coverage: [{ upTo: null, rows: 47, ...began }],
    listing: began,
    sinkRows: 47,
  });
  // A sink that only passes changes on is no failure, and is named.
  expect(found.notComparable).toEqual([expect.objectContaining({ sink: "stream", isExpected: true })]);
  const page = htmlReport(found, []);
  expect(page).toContain("The oldest proof is of 2026-11-20 02:00 UTC");
  expect(page).not.toMatch(/Past runs|read in the sink/);
  expect(page).toMatch(/all keys of the sink<.*>47<.*2026-11-20T04:00:00\.000Z<.*0\/4</);
  expect(markdownReport(found)).toContain(`Report ${found.id} of what is proven at ${at(12)}`);
});

test("what was never proven, or too long ago, is no proof; what differs is drift", async () => {
  const never = await reportWith({ a: walked() });
  expect(never.notComparable).toContainEqual(
    expect.objectContaining({ sink: "b", reason: expect.stringContaining("not all of it was ever proven") }),
  );
  expect(never.tables[1]!.coverage).toEqual([{ upTo: null, rows: null, at: null, position: null }]);
  expect(verdictOf(never).kind).toBe("incomplete");
  const old = await reportWith({ a: walked(), b: WHOLE }, DAY_MS / 24);
  expect(old.notComparable.filter(({ isExpected }) => isExpected !== true)).toHaveLength(2);
  expect(old.notComparable[0]!.reason).toContain(`its oldest proof is of ${at(3)}`);
  const lost = withTable(walked(), {
    began,
    sourceRows: 47,
    sinkRows: 46,
    missing: 1,
    different: 0,
    extra: 0,
    isDecided: true,
  });
  expect(await reportWith({ a: lost, b: WHOLE })).toMatchObject({ drift: true, alarm: true });
});

test("rows of a range that is walked again in other pieces count once", () => {
  const range = { hasMet: () => false, missing: 0, different: 0, lookedAt: at(6), proven: null };
  const again = withRange(walked(), { ...range, last: ["25"], rows: 25 });
  expect(again.ranges.map(({ rows }) => rows)).toEqual([25, 15, 7]);
  const passed = withRange(again, { ...range, last: ["42"], hasMet: ([key]) => key === "40", rows: 17 });
  expect(passed.ranges.map(({ rows }) => rows)).toEqual([25, 17, 5]);
});

test("it is no comparison: neither the last one, nor what says when all was equal", async () => {
  const comparison = summaryOf(reportOf({ id: "a", missing: 1 }));
  const proof = summaryOf(await reportWith({ a: walked(), b: WHOLE }));
  expect(proof.kind).toBe("proof");
  expect(comparisonsIn([proof, comparison])).toEqual([comparison]);
  expect(pastOf([proof, comparison])).toEqual({ last: comparison, drift: comparison });
  expect(lastEqual([proof])).toBeNull();
});
