/** Whose turn it is in the continuous comparison: nothing that can't be compared now stops what can. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { ComparedPlace, ComparePlace, ComparePort, Inspection } from "../../src/core/contracts/comparing.ts";
import { NO_PROGRESS, type SinkStatus, type SnapshotStatus } from "../../src/core/contracts/status.ts";
import type { ProofStore, StoredError } from "../../src/core/contracts/state-store.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { NOTHING_PROVEN } from "../../src/reconcile/proof/ledger.ts";
import { holdsOf } from "../../src/reconcile/proof/proof-status.ts";
import { Proving } from "../../src/reconcile/proof/proving.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { sinkStatus, statusDocument } from "../support/daemon/status-document.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { eventually } from "../support/run/waiting.ts";

const AT = "2026-01-01T00:00:00.000Z";
const MAX_AGE_MS = 3_600_000;
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
      MAX_AGE_MS,
    ).all;
  expect(allWith(read)).toBe("rows are being read beside the stream");
  for (const state of ["paused", "failed", "retrying"] as const) expect(allWith(read, state)).toBeNull();
  expect(allWith(read, "streaming", true)).toBeNull();
  expect(allWith({ ...read, error })).toBeNull();
  expect(allWith({ ...read, scope: { kind: "differences" } })).toBeNull();
});

test("it waits for a long transaction, for at most half of the time in which it must prove everything", () => {
  const whyAt = (oldestTransactionSeconds: number | null) =>
    holdsOf(statusDocument({ source: { oldestTransactionSeconds } }), MAX_AGE_MS).all;
  expect(whyAt(90)).toBe("a transaction is open for 90 s");
  for (const seconds of [null, 0, 30, 1_900]) expect(whyAt(seconds)).toBeNull();
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
  const unready = async () => ({ reason: "it is being read", isWhole: false });
  await expectAsked(state.proofs, { sinks, tables: [flowing], suspended, unready }, [flowing.id]);
});

test("a table of which a question fails keeps no other from its turn", async () => {
  const state = openMemory(systemClock);
  await state.lease.acquire("test", 60_000);
  const tables = ["bad", "good"].map((table) => tableVersion({ table, columns: { id: "integer" } }));
  const ids = tables.map(({ id }) => id);
  await state.proofs.know(
    ids.map((table) => ({ table, sink: "warehouse" })),
    [],
  );
  const unready = () => Promise.reject(new Error("the state does not answer"));
  await expectAsked(state.proofs, { sinks: ["warehouse"], tables, unready }, ids);
});

test("a table whose first walk never ends keeps none that was proven before from its turn", async () => {
  const state = openMemory(systemClock);
  await state.lease.acquire("test", 60_000);
  const [large, small] = ["large", "small"].map((table) => tableVersion({ table, columns: { id: "integer" } }));
  await state.proofs.know(
    [large!, small!].map(({ id }) => ({ table: id, sink: "warehouse" })),
    [],
  );
  const [stored] = await state.proofs.ofTable(small!.id);
  const facts = { lookedAt: AT, provenAt: AT, position: null, ranges: 1, missing: 0, extra: 0, different: 0 };
  await state.proofs.save(stored!, { ...stored!, ...facts }, 0, JSON.stringify(NOTHING_PROVEN));
  let rowCount = 0;
  const at = async ({ sinks }: ComparePlace): Promise<ComparedPlace> => ({
    last: [String(++rowCount)],
    at: "0/1",
    byteCount: 0,
    readMs: 1,
    unsettled: [],
    outcomes: new Map(sinks.map((sink) => [sink, { kind: "compared" }])),
  });
  const inspection: Partial<Inspection> = { id: (_, key) => key.join() };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
  const inspect = async () => inspection as Inspection;
  const known = { sinks: ["warehouse"], tables: [large!, small!], unready: async () => null, at, inspect };
  await expectAsked(state.proofs, known, [large!.id, small!.id]);
});

async function expectAsked(
  proofs: ProofStore,
  { unready, ...known }: Pick<ComparePort, "sinks" | "tables" | "unready"> & Partial<ComparePort>,
  tables: readonly string[],
): Promise<void> {
  const asked = new Set<string>();
  const port: Partial<ComparePort> = {
    suspended: new Map(),
    batch: () => 1,
    ...known,
    isComparable: () => true,
    takes: () => true,
    unready: async (sink, table) => {
      asked.add(`${table.id} in ${sink}`);
      return await unready(sink, table);
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
    proofs,
    reconciler: { isRunning: false },
    holds: async () => ({ all: null, sinks: new Set() }),
    lag: async () => "",
    logger: SILENT,
  });
  const running = proving.run(stop.signal);
  await Promise.all([
    expect(running).rejects.toThrow(),
    eventually(() =>
      expect(asked).toEqual(new Set(known.sinks.flatMap((sink) => tables.map((id) => `${id} in ${sink}`)))),
    ).finally(() => stop.abort()),
  ]);
}
