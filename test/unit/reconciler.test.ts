/** Which comparison is one that nothing was left out of. */
import { expect, test } from "vitest";
import { abortOf, systemClock } from "../../src/core/clock.ts";
import type { ComparePort, Inspection } from "../../src/core/contracts/comparing.ts";
import { requestOf } from "../../src/core/contracts/reconciliation.ts";
import type { Bond } from "../../src/core/checkpoint.ts";
import type { ProofStore, StateStore } from "../../src/core/contracts/state-store.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { News } from "../../src/core/waiting.ts";
import { Reconciler, type ReconcilerParts } from "../../src/reconcile/reconciler.ts";
import { verdictOf } from "../../src/core/comparison-verdict.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { eventually } from "../support/run/waiting.ts";

const orders = tableVersion({ table: "orders", columns: { id: "integer" } });
const NEVER = new AbortController().signal;
const NO_PROOFS = {
  know: async () => undefined,
  ofTable: async () => [],
  save: async () => true,
  stands: async () => false,
};

/** Over these tables; nothing is read. */
function reconcilerOf(
  tables: readonly TableVersion[],
  port: Partial<ComparePort> = {},
  proofs: Pick<ProofStore, "know" | "ofTable" | "save" | "stands"> = NO_PROOFS,
): Reconciler {
  let stored: readonly [id: string, text: string] | null = null;
  const kept = {
    get: async (id: string) => (stored?.[0] === id ? stored[1] : null),
    save: async (id: string, text: string) => void (stored = [id, text]),
  };
  const parts: Partial<ReconcilerParts> = {
    clock: systemClock,
    news: new News(),
    name: "shop",
    version: "0",
    config: "",
    driftMax: () => 0,
    lag: async () => "it is far behind",
    report: async () => undefined,
    deep: null,
    logger: SILENT,
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    proofs: proofs as ReconcilerParts["proofs"],
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    kept: kept as unknown as ReconcilerParts["kept"],
    port: () =>
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
      ({
        sinks: ["search", "warehouse"],
        tables,
        suspended: new Map(),
        besides: new Map(),
        takes: (sink: string) => sink === "warehouse",
        isComparable: () => true,
        ...port,
      }) as unknown as ComparePort,
  };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of them
  return new Reconciler(parts as ReconcilerParts);
}

test.each([
  ["all tables, of which there is none", [], {}, { table: null, reason: "there was no table to compare" }],
  ["a table that is gone", [], { tables: ["public.gone"] }, { table: "public.gone", reason: "it is not captured now" }],
  [
    "a sink that has no table",
    [orders],
    { sinks: ["search"] },
    { sink: "search", table: null, reason: "it takes none of these tables" },
  ],
  [
    "a table in a sink that does not take it",
    [orders],
    { sinks: ["search"], tables: [orders.id] },
    { sink: "search", table: orders.id, reason: "the sink does not take it" },
  ],
] as const)("who asks for %s is told that nothing was compared", async (_, tables, asked, told) => {
  const found = await reconcilerOf(tables).run(requestOf(asked), NEVER);
  expect(found.notComparable).toContainEqual(expect.objectContaining(told));
  expect(verdictOf(found).kind).toBe("incomplete");
});

test("where all tables are suspended, that is why nothing was compared", async () => {
  const suspended = new Map([[orders.id, { code: "MR1315", message: "it waits" }]]);
  const found = await reconcilerOf([orders], { suspended }).run(requestOf({ sinks: ["search"] }), NEVER);
  const reason = "all of these tables are suspended";
  expect(found.notComparable).toEqual([{ sink: "search", table: null, reason }]);
});

test("a table that only a wildcard meant may be gone", async () => {
  const tables = ["public.gone"];
  const found = await reconcilerOf([]).run(requestOf({ tables, mayLack: tables }), NEVER);
  expect(found.notComparable).toEqual(
    ["search", "warehouse"].map((sink) => ({ sink, table: null, reason: "there was no table to compare" })),
  );
});

test("one that is resumed compares the tables that were passed over because their sink did not answer", async () => {
  const tables = ["first", "second", "alone", "held"].map((table) =>
    tableVersion({ table, columns: { id: "integer" } }),
  );
  const stop = new AbortController();
  let isBack = false;
  const asked = new Set<string>();
  const reconciler = reconcilerOf(tables, {
    takes: (sink, { id }) => sink === "warehouse" || id !== "public.alone",
    unready: async (sink, { id }) => {
      if (isBack) asked.add(`${id} in ${sink}`);
      else if (id === "public.held") await abortOf(stop.signal);
      const isWhole = sink === "search" && !isBack;
      return { reason: isWhole ? "the sink is retrying" : "it is being read", isWhole, isFinal: true };
    },
  });
  const { id, ended } = reconciler.begin(requestOf({}), stop.signal);
  await eventually(() => expect(reconciler.look().running).toMatchObject({ tablesDone: 3 }));
  stop.abort();
  isBack = true;
  await expect(ended).rejects.toThrow();
  const found = await reconciler.run(requestOf({ resume: id }), NEVER);
  expect([...asked].filter((one) => one.endsWith("search"))).toHaveLength(3);
  expect(found.notComparable).toHaveLength(7);
});

test("one that is resumed names a table that its sink does not take once", async () => {
  const held = tableVersion({ table: "held", columns: { id: "integer" } });
  const stop = new AbortController();
  const reconciler = reconcilerOf([orders, held], {
    takes: (_, { id }) => id === held.id,
    unready: async () => {
      if (!stop.signal.aborted) await abortOf(stop.signal);
      return { reason: "it is being read", isWhole: false, isFinal: true };
    },
  });
  const asked = { sinks: ["search"], tables: [orders.id, held.id] };
  const { id, ended } = reconciler.begin(requestOf(asked), stop.signal);
  await eventually(() => expect(reconciler.look().running).toMatchObject({ tablesDone: 1 }));
  stop.abort();
  await expect(ended).rejects.toThrow();
  // What the daemon compares by itself meanwhile, also if it is stopped, takes nothing from it.
  const over = new AbortController();
  const step = reconciler.run(requestOf({ tables: [orders.id] }), over.signal, false);
  await expect(step).resolves.toBeDefined();
  over.abort();
  await expect(reconciler.run(requestOf({ tables: [held.id] }), over.signal, false)).rejects.toThrow();
  const found = await reconciler.run(requestOf({ ...asked, resume: id }), NEVER);
  expect(found.notComparable.filter(({ table }) => table === orders.id)).toHaveLength(1);
});

test("a table is compared again whose sink was busy, and not one whose server is lost", async () => {
  const inspected: string[] = [];
  const reasons = { warehouse: "lock", search: "lost" } as const;
  const reconciler = reconcilerOf([orders], {
    takes: () => true,
    unready: async () => null,
    inspect: async (sink) => {
      inspected.push(sink);
      const reason = sink === "search" ? reasons.search : reasons.warehouse;
      throw new MillraceError({ code: "MR2026", kind: "retryable", message: "not now", reason });
    },
  });
  const found = await reconciler.run(requestOf({}), NEVER);
  expect(inspected.toSorted()).toEqual(["search", "warehouse", "warehouse", "warehouse"]);
  expect(found.notComparable.map(({ sink }) => sink).toSorted()).toEqual(["search", "warehouse"]);
});

const ofBatch = (batch: number) => ({ state: "00", session: "01", batch, obligation: 0, resets: [] });

async function enter({ bonds }: StateStore, own: Bond | undefined): Promise<void> {
  await bonds.enter("warehouse", { own, owed: [], reason: "" });
}

test.each([
  ["", "nothing happened", async () => undefined],
  ["", "the sink was opened where it was", async (state: StateStore) => await enter(state, ofBatch(7))],
  ["again", "an older copy of the sink was opened", async (state: StateStore) => await enter(state, ofBatch(6))],
  ["again", "the sink was emptied", async (state: StateStore) => await enter(state, undefined)],
  [
    "again",
    "it was opened so often that the first time is forgotten",
    async (state: StateStore) => {
      await enter(state, ofBatch(6));
      for (let i = 0; i < 102; i++) await enter(state, ofBatch(8));
    },
  ],
] as const)("one that is resumed compares a finished table %s if since then %s", async (again, _, since) => {
  const state = openMemory(systemClock);
  expect((await state.lease.acquire("test", 60_000)).lease.number).toBeGreaterThan(0);
  await enter(state, ofBatch(5));
  let batch = 5;
  const held = tableVersion({ table: "held", columns: { id: "integer" } });
  const stop = new AbortController();
  const looks: string[] = [];
  const inspection = { [Symbol.asyncDispose]: async () => undefined, async *keys() {} };
  const reconciler = reconcilerOf(
    [orders, held],
    {
      batch: () => batch,
      refused: async () => [],
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the table is empty
      inspect: async () => inspection as unknown as Inspection,
      at: async ({ table, sinks, onSent }) => {
        looks.push(table.id);
        batch = 7;
        if (table.id === held.id && !stop.signal.aborted) await abortOf(stop.signal);
        onSent?.({ last: null });
        const outcomes = new Map(sinks.map((sink) => [sink, { kind: "compared" }] as const));
        return { last: null, at: "0/1", byteCount: 0, readMs: 0, unsettled: [], outcomes };
      },
      unready: async () => null,
    },
    state.proofs,
  );
  const { id, ended } = reconciler.begin(requestOf({}), stop.signal);
  await eventually(() => expect(reconciler.look().running).toMatchObject({ tablesDone: 1 }));
  stop.abort();
  await expect(ended).rejects.toThrow();
  looks.length = 0;
  await since(state);
  const found = await reconciler.run(requestOf({ resume: id }), NEVER);
  expect(looks.includes(orders.id)).toBe(again !== "");
  expect(found.tables.map(({ table }) => table).toSorted()).toEqual([held.id, orders.id]);
  await state.close();
});

test("how one ended is told until the next one that somebody asked for", async () => {
  const reconciler = reconcilerOf([]);
  const first = reconciler.start(requestOf({}), NEVER);
  await reconciler.idle(NEVER);
  await reconciler.run(requestOf({}), NEVER, false);
  expect(reconciler.look().last?.id).toBe(first);
  const second = reconciler.start(requestOf({ resume: "no-such" }), NEVER);
  await eventually(() => expect(reconciler.look().failure).toMatchObject({ id: second }));
  await reconciler.run(requestOf({}), NEVER, false);
  expect(reconciler.look().failure).toMatchObject({ id: second, code: "MR1404" });
});
