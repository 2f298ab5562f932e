/** Whose turn it is in the continuous comparison: nothing that can't be compared now stops what can. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { ComparePort } from "../../src/core/contracts/comparing.ts";
import { NO_PROGRESS, type SinkStatus, type SnapshotStatus } from "../../src/core/contracts/status.ts";
import type { StoredError } from "../../src/core/contracts/state-store.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { holdsOf } from "../../src/reconcile/proof/proof-status.ts";
import { Proving } from "../../src/reconcile/proof/proving.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { sinkStatus, statusDocument } from "../support/daemon/status-document.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { eventually } from "../support/run/waiting.ts";

const AT = "2026-01-01T00:00:00.000Z";
const error: StoredError = { code: "MR2008", message: "it may not be read", hint: null, at: AT };
const read: SnapshotStatus = {
  ...NO_PROGRESS,
  id: 1,
  tableId: "public.t",
  sink: "search",
  scope: { kind: "table" },
  reason: "asked",
  needed: false,
  state: "running",
  rowsDone: 1,
  chunksDone: 1,
  resumedCount: 0,
  restartedCount: 0,
  createdAt: AT,
  startedAt: AT,
  endedAt: null,
  error: null,
};

test("it waits for rows that are being read, and not for those that nobody reads", () => {
  const allWith = (snapshot: SnapshotStatus, state: SinkStatus["state"] = "streaming", catchingUp = false) =>
    holdsOf(
      statusDocument({
        sinks: [sinkStatus("warehouse"), sinkStatus("search", { state, catchingUp })],
        snapshots: [snapshot],
      }),
    ).all;
  expect(allWith(read)).toBe("rows are being read beside the stream");
  for (const state of ["paused", "failed", "retrying"] as const) expect(allWith(read, state)).toBeNull();
  expect(allWith(read, "streaming", true)).toBeNull();
  expect(allWith({ ...read, error })).toBeNull();
  expect(allWith({ ...read, scope: { kind: "differences" } })).toBeNull();
});

test("tables that are suspended, however many, keep no other from its turn", async () => {
  const state = openMemory(systemClock);
  await state.lease.acquire("test", 60_000);
  const flowing = tableVersion({ table: "zz", columns: { id: "integer" } });
  const suspended = new Map(
    Array.from({ length: 70 }, (_, i) => [`public.s${i}`, { code: "MR1315", message: "it waits" }] as const),
  );
  const sinks = ["search", "warehouse"];
  await state.proofs.know(
    [...suspended.keys(), flowing.id].flatMap((table) => sinks.map((sink) => ({ table, sink }))),
    [],
  );
  const asked = new Set<string>();
  const port: Partial<ComparePort> = {
    sinks,
    tables: [flowing],
    suspended,
    isComparable: () => true,
    takes: () => true,
    unready: async (sink, { id }) => {
      asked.add(`${id} in ${sink}`);
      return { reason: "it is being read", isWhole: false };
    },
  };
  const stop = new AbortController();
  const proving = new Proving({
    maxAgeMs: 1_000,
    share: 1,
    repairs: false,
    clock: systemClock,
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    port: () => port as ComparePort,
    proofs: state.proofs,
    reconciler: { isRunning: false },
    holds: async () => ({ all: null, sinks: new Set() }),
    lag: async () => "",
    logger: SILENT,
  });
  const running = proving.run(stop.signal);
  await Promise.all([
    expect(running).rejects.toThrow(),
    eventually(() => expect(asked).toEqual(new Set(sinks.map((sink) => `${flowing.id} in ${sink}`)))).finally(() =>
      stop.abort(),
    ),
  ]);
});
