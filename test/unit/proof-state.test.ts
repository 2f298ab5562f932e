/** A proof is void from the moment at which the state knows why, also one that is under way. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { ProofFacts, StateStore } from "../../src/core/contracts/state-store.ts";
import { NOTHING_PROVEN, withTable } from "../../src/reconcile/proof/ledger.ts";
import { type ProofTurn, storeLedger, storeWhole } from "../../src/reconcile/proof/proof-turn.ts";
import { Findings } from "../../src/reconcile/rows/findings.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { tableVersion } from "../support/model/blocks.ts";

const AT = "2026-01-01T00:00:00.000Z";
const FACTS: Omit<ProofFacts, "table" | "sink"> = {
  lookedAt: AT,
  provenAt: AT,
  position: "0/1",
  ranges: 1,
  missing: 0,
  extra: 0,
  different: 0,
};
const SINKS = ["a", "b"];
const TABLES = ["public.t", "public.u"];
const BOND = { state: "00", session: "01", batch: 5, obligation: 0, resets: [] };
const DIFFERENCES = { scope: { kind: "differences" }, reason: "asked" } as const;
const TABLE = tableVersion({ table: "t", columns: { id: "int4" } });
const POSITION = { epoch: 1, commit: 9n, index: 0 };

/** Each table is proven in each sink at batch 5. */
async function proven(): Promise<StateStore> {
  const state = openMemory(systemClock);
  const { number } = (await state.lease.acquire("test", 60_000)).lease;
  expect(number).toBeGreaterThan(0);
  await state.proofs.know(
    TABLES.flatMap((table) => SINKS.map((sink) => ({ table, sink }))),
    [],
  );
  for (const table of TABLES)
    for (const ledger of await state.proofs.ofTable(table))
      expect(await state.proofs.save(ledger, { ...ledger, ...FACTS }, 5, "{}")).toBe(true);
  return state;
}

async function left({ proofs }: StateStore): Promise<readonly string[]> {
  return (await proofs.list()).flatMap(({ table, sink, provenAt }) => (provenAt === null ? [] : [`${table} ${sink}`]));
}

const ALL = ["public.t a", "public.t b", "public.u a", "public.u b"];
const OF_B = ["public.t b", "public.u b"];

test.for<readonly [why: string, cause: (state: StateStore) => Promise<unknown>, left: readonly string[]]>([
  ["nothing happens", async () => undefined, ALL],
  [
    "a table is read again for a sink",
    async ({ snapshots }) => snapshots.add({ ...DIFFERENCES, tableId: "public.t", sink: "a" }),
    ["public.t b", "public.u a", "public.u b"],
  ],
  ["single rows are", async ({ snapshots }) => snapshots.addKeys("a", "public.t", [["1"]]), ALL],
  ["a sink opens where it was", async ({ bonds }) => bonds.enter("a", { own: BOND, owed: [], reason: "" }), ALL],
  ["a sink is empty", async ({ bonds }) => bonds.enter("a", { own: undefined, owed: [], reason: "" }), OF_B],
  [
    "a sink is an earlier copy",
    async ({ bonds }) => bonds.enter("a", { own: { ...BOND, batch: 4 }, owed: [], reason: "" }),
    OF_B,
  ],
  [
    "a sink owes a table",
    async ({ bonds }) => bonds.enter("a", { own: BOND, owed: ["public.u"], reason: "" }),
    ["public.t a", "public.t b", "public.u b"],
  ],
  [
    "a sink is reset",
    async ({ source }) => {
      await source.announce(1);
      await source.created({ system: "7", slot: "s" }, POSITION);
      await source.reset(new Map([["a", { to: POSITION, anew: true }]]));
    },
    OF_B,
  ],
  [
    "a table has another shape",
    async ({ schemas }) =>
      schemas.resolve(
        [
          {
            id: "public.t",
            schema: "public",
            table: "t",
            columns: [],
            key: [],
            fingerprint: "f",
            dialect: "postgres",
            relation: 1,
            deferrableKey: false,
          },
        ],
        POSITION,
      ),
    ["public.u a", "public.u b"],
  ],
  ["a sink leaves the configuration", async ({ sinks }) => sinks.remove("a"), OF_B],
])("what is proven when %s", async ([, cause, expected]) => {
  await using state = Object.assign(await proven(), { [Symbol.asyncDispose]: async () => undefined });
  const underWay = (await Promise.all(TABLES.map(async (table) => state.proofs.ofTable(table)))).flat();
  await cause(state);
  expect(await left(state)).toEqual(expected);
  // What began before is stored only where nothing became void.
  for (const ledger of underWay) {
    const isStored = await state.proofs.save(ledger, { ...ledger, ...FACTS }, 5, "{}");
    expect([`${ledger.table} ${ledger.sink}`, isStored]).toEqual([
      `${ledger.table} ${ledger.sink}`,
      expected.includes(`${ledger.table} ${ledger.sink}`),
    ]);
  }
  expect(await left(state)).toEqual(expected);
});

test("of two comparisons at one table the one that stores first counts; what proved the whole table is stored behind it", async () => {
  const { proofs } = await proven();
  const turn = await turnAtT(proofs);
  const began = { at: "2026-01-01T01:00:00.000Z", position: "0/2" };
  const looked = { began, sourceRows: 1, sinkRows: 1, missing: 0, different: 0, extra: 0, isDecided: true };
  expect(await storeLedger(proofs, turn, withTable(NOTHING_PROVEN, looked))).toBe(true);
  expect(await storeLedger(proofs, turn, NOTHING_PROVEN)).toBe(false);
  const whole = "2026-01-01T02:00:00.000Z";
  const findings = new Findings(TABLE, "a", 0);
  findings.comparedAt("0/3");
  await storeWhole(proofs, turn, whole, findings);
  const [now] = await proofs.list();
  expect(now).toMatchObject({ provenAt: whole, lookedAt: whole, position: "0/3", missing: 0, ranges: 1 });
  // With a row that differs the older proof counts.
  findings.add(["1"], { kind: "missing", columns: [], why: "unknown" });
  const later = "2026-01-01T03:00:00.000Z";
  await storeWhole(proofs, turn, later, findings);
  expect((await proofs.list())[0]).toMatchObject({ provenAt: whole, lookedAt: later, missing: 1 });
});

test.each(["deadLetters", "unsettled"] as const)(
  "with rows that are counted as %s the older proof counts",
  async (kind) => {
    const { proofs } = await proven();
    const [first, second, third] = ["01", "02", "03"].map((hour) => `2026-01-01T${hour}:00:00.000Z`);
    const began = { at: first!, position: "0/2" };
    const looked = { began, sourceRows: 1, sinkRows: 1, missing: 0, different: 0, extra: 0, isDecided: true };
    await storeLedger(proofs, await turnAtT(proofs), withTable(NOTHING_PROVEN, looked));
    const [equal, left] = [new Findings(TABLE, "a", 0), new Findings(TABLE, "a", 0)];
    left.counts[kind]++;
    await storeWhole(proofs, await turnAtT(proofs), second!, left);
    expect((await proofs.list())[0]).toMatchObject({ provenAt: first, lookedAt: second, missing: 0, different: 0 });
    await storeWhole(proofs, await turnAtT(proofs), third!, equal);
    expect((await proofs.list())[0]).toMatchObject({ provenAt: third });
  },
);

test("what was compared before an older copy of the sink was opened is not stored, although nothing of it was before", async () => {
  const { proofs, bonds } = await proven();
  const saved = async (sink: string, copy: number) => {
    const ledger = (await proofs.ofTable("public.t")).find((one) => one.sink === sink)!;
    await bonds.enter(sink, { own: { ...BOND, batch: copy }, owed: [], reason: "" });
    return await proofs.save(ledger, { ...ledger, ...FACTS }, 7, "{}");
  };
  expect(await saved("a", 6)).toBe(false);
  expect(await saved("b", 7)).toBe(true);
  // The copy is the sink from now on.
  expect(await saved("a", 7)).toBe(true);
});

test("what was compared stands for the sink that was compared, and for no earlier copy of it", async () => {
  const { proofs, bonds } = await proven();
  const { since, voided, opening, ...place } = (await proofs.ofTable("public.t"))[0]!;
  const stands = async (step: number) => await proofs.stands(place, { since, voided, opening, step });
  await bonds.enter("a", { own: { ...BOND, batch: 6 }, owed: [], reason: "" });
  expect([await stands(6), await stands(7)]).toEqual([true, false]);
  // It went on.
  await bonds.enter("a", { own: { ...BOND, batch: 9 }, owed: [], reason: "" });
  expect([await stands(6), await stands(7)]).toEqual([true, false]);
});

test("what a comparison of a whole table found is not stored if the proof became void meanwhile", async () => {
  const { proofs, bonds } = await proven();
  const turn = await turnAtT(proofs);
  await bonds.enter("a", { own: undefined, owed: [], reason: "" });
  await storeWhole(proofs, turn, "2026-01-01T02:00:00.000Z", new Findings(TABLE, "a", 0));
  expect((await proofs.list())[0]).toMatchObject({ table: "public.t", sink: "a", provenAt: null, lookedAt: null });
});

async function turnAtT(proofs: StateStore["proofs"]): Promise<ProofTurn> {
  return { stored: (await proofs.ofTable("public.t"))[0]!, ledger: NOTHING_PROVEN, step: 5 };
}

test("tables and sinks that left are forgotten, but for tables that do not flow now; those that wait longest are next", async () => {
  const { proofs } = await proven();
  await proofs.know(
    [
      { table: "public.t", sink: "a" },
      { table: "public.v", sink: "a" },
    ],
    ["public.u"],
  );
  expect((await proofs.list()).map(({ table, sink }) => `${table} ${sink}`)).toEqual([
    "public.t a",
    "public.u a",
    "public.u b",
    "public.v a",
  ]);
  expect(await proofs.next(["a"], "2026-01-02", 9)).toEqual([
    { table: "public.t", sink: "a" },
    { table: "public.u", sink: "a" },
  ]);
  expect(await proofs.next(["a"], AT, 9)).toEqual([]);
  expect(await proofs.next(["a"], null, 9)).toEqual([{ table: "public.v", sink: "a" }]);
});
