/** The repair of listed tables waits for what can be compared, and for nothing else. */
import { expect, test, vi } from "vitest";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import type { ComparePort } from "../../src/core/contracts/comparing.ts";
import type { ReconcileRequest } from "../../src/core/contracts/reconciliation.ts";
import type { SnapshotStore, TableSnapshot } from "../../src/core/contracts/state-store.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import type { Reconciler } from "../../src/reconcile/reconciler.ts";
import { repairDifferences } from "../../src/reconcile/recovery.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { reportOf } from "../support/model/reports.ts";

const PASSES = 10;
const differences = (id: number, tableId: string, sink: string): TableSnapshot =>
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
  ({ id, tableId, sink, scope: { kind: "differences" }, rowsDone: 0, chunksDone: 0 }) as unknown as TableSnapshot;

test("a sink that is away and a table that is suspended hold up no other, and are told once", async () => {
  let open = [
    differences(1, "public.suspended", "warehouse"),
    differences(2, "public.orders", "search"),
    differences(3, "public.orders", "warehouse"),
    differences(4, "public.items", "search"),
    differences(5, "public.orders", "stream"),
  ];
  const requests: Pick<ReconcileRequest, "tables" | "sinks">[] = [];
  const said: object[] = [];
  let isBack = false;
  const over = new AbortController();
  let passes = 0;
  const clock: Clock = {
    ...systemClock,
    sleep: async () => {
      passes++;
      if (passes === PASSES) isBack = true;
      if (passes === 2 * PASSES) over.abort();
      over.signal.throwIfAborted();
    },
  };
  const port: Partial<ComparePort> = {
    sinks: ["search", "warehouse", "stream"],
    tables: ["orders", "items"].map((table) => tableVersion({ table, columns: { id: "integer" } })),
    suspended: new Map([["public.suspended", { code: "MR1315", message: "it waits" }]]),
    isComparable: (sink) => sink !== "stream",
    unready: async (sink) =>
      sink === "search" && !isBack ? { reason: `the sink is away (${passes % 2})`, isWhole: true } : null,
  };
  const snapshots: Partial<SnapshotStore> = {
    differences: async () => open,
    finish: async ({ id }) => {
      open = open.filter((one) => one.id !== id);
      return true;
    },
  };
  const reconciler: Partial<Reconciler> = {
    idle: async () => undefined,
    run: async ({ tables, sinks }) => {
      requests.push({ tables, sinks });
      const found = reportOf({ id: "a" });
      return { ...found, tables: sinks.map((sink) => ({ ...found.tables[0]!, table: tables[0]!, sink })) };
    },
  };
  await expect(
    repairDifferences(
      {
        clock,
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
        port: () => (passes === 0 ? null : (port as ComparePort)),
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
        reconciler: reconciler as Reconciler,
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
        snapshots: snapshots as SnapshotStore,
        logger: { ...SILENT, info: (fields, message) => void said.push({ ...fields, message }) },
      },
      over.signal,
    ),
  ).rejects.toThrow();
  expect(requests).toEqual([
    { tables: ["public.orders"], sinks: ["warehouse"] },
    { tables: ["public.orders"], sinks: ["search"] },
    { tables: ["public.items"], sinks: ["search"] },
  ]);
  const waits = said.filter((one) => "reason" in one);
  expect(waits).toEqual([
    expect.objectContaining({ table: "public.suspended", reason: "MR1315 it waits" }),
    expect.objectContaining({ sink: "search", reason: "the sink is away (1)" }),
    expect.objectContaining({ sink: "search", reason: "the sink is away (0)" }),
  ]);
  expect(open).toHaveLength(2);
});

test("of thousands of tables of a sink that is away, a pass asks once, and does not look through all tables for each", async () => {
  const [asked, looked] = [vi.fn<() => void>(), vi.fn<() => void>()];
  const tables = Array.from({ length: 2_000 }, (_, i) => tableVersion({ table: `t${i}`, columns: { id: "integer" } }));
  const port: Partial<ComparePort> = {
    sinks: ["search"],
    get tables() {
      looked();
      return [...tables];
    },
    suspended: new Map(),
    isComparable: () => true,
    unready: async () => {
      asked();
      return { reason: "the sink is paused", isWhole: true };
    },
  };
  const over = new AbortController();
  const clock: Clock = {
    ...systemClock,
    // No time passes within a pass.
    elapsed: () => 0,
    sleep: async () => {
      over.abort();
      over.signal.throwIfAborted();
    },
  };
  const snapshots: Partial<SnapshotStore> = {
    differences: async () => tables.map(({ id }, i) => differences(i, id, "search")),
  };
  const reconciler: Partial<Reconciler> = { idle: async () => undefined };
  const parts = { clock, port: () => port, reconciler, snapshots, logger: SILENT };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of them
  const passing = repairDifferences(parts as unknown as Parameters<typeof repairDifferences>[0], over.signal);
  await expect(passing).rejects.toThrow();
  expect([asked.mock.calls.length, looked.mock.calls.length]).toEqual([1, 1]);
});
