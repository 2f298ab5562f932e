/** What the daemon knows of its comparisons: a planned one that does not end is told, a broken-off one proves nothing. */
import { expect, test } from "vitest";
import { Comparing, type ComparingParts } from "../../src/daemon/comparing.ts";
import type { Config } from "../../src/config/config.ts";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { News } from "../../src/core/waiting.ts";
import { openMemory } from "../../src/state/sqlite/open.ts";
import { reportOf, tableFound } from "../support/model/reports.ts";
import { eventually } from "../support/run/waiting.ts";

const HOUR_MS = 3_600_000;
const NEVER = new AbortController().signal;

/** Where nothing can be compared, and `reports` are kept. */
function comparingWith(reports: object, signal: AbortSignal, others: object = {}): Comparing {
  const broken = new Proxy({}, { get: () => () => Promise.reject(new Error("the disk is gone")) });
  const parts = {
    clock: systemClock,
    news: new News(),
    port: broken,
    lag: () => Promise.resolve(""),
    kept: broken,
    reports,
    folder: null,
    redact: (json: string) => json,
    logger: SILENT,
    ...others,
  };
  const schedule = { cron: "* * * * * *", timeZone: null, repairs: false, patienceMs: 0, mode: "full" };
  const continuous = "state" in others ? { maxAgeMs: 3_600_000, share: 1, repairs: false } : null;
  const planned = continuous === null ? { schedule, continuous } : { schedule: null, continuous, sign: null };
  const rules = { tables: [], maskKey: null };
  const config = { name: "shop", digest: "00", sinks: [{ name: "cache" }], rules, reconcile: planned };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what comparisons look at
  return new Comparing(config as unknown as Config, parts as unknown as ComparingParts, signal);
}

test.each([
  ["planned", (comparing: Comparing) => void comparing.planned().catch(() => undefined)],
  ["for a repair", (comparing: Comparing) => void comparing.repair([], [])],
])("why the newest comparison, %s, failed is in status until a later one ends", async (_, begin) => {
  const stop = new AbortController();
  const reports: object[] = [];
  const comparing = comparingWith({ list: () => Promise.resolve(reports) }, stop.signal);
  begin(comparing);
  await eventually(async () =>
    expect((await comparing.status()).failure).toMatchObject({ code: "MR1402", message: expect.any(String) }),
  );
  stop.abort();
  reports.push({ finishedAt: new Date(Date.now() + 60_000).toISOString() });
  expect((await comparing.status()).failure).toBeNull();
});

test("a table whose comparison was broken off is not shown as compared", async () => {
  const report = {
    ...reportOf({ id: "a", table: "public.whole" }),
    tables: [tableFound({ table: "public.whole" }), tableFound({ table: "public.broken" })],
    notComparable: [{ sink: "warehouse", table: "public.broken", reason: "its shape changed while it was compared" }],
  };
  const kept = { list: () => Promise.resolve([{ id: "a", whole: true }]), get: () => Promise.resolve(report) };
  const comparing = comparingWith(kept, new AbortController().signal);
  await comparing.recall();
  expect(comparing.counted.map(({ table }) => table)).toEqual(["public.whole"]);
});

test("what is proven is reported once a day, also when midnight has passed while no process ran", async () => {
  const stop = new AbortController();
  let nowMs = Date.UTC(2026, 10, 20, 22);
  const clock: Clock = { ...systemClock, now: () => nowMs, sleep: (_ms, signal) => systemClock.sleep(1, signal) };
  const state = openMemory(clock);
  await state.lease.acquire("test", 60_000);
  const { reports, proofs } = state;
  const days = async () => (await reports.list()).map(({ kind, finishedAt }) => `${kind} ${finishedAt.slice(8, 10)}`);
  const others = { clock, state, proofs, port: () => null, holds: async () => ({ all: "test", sinks: new Set() }) };
  const runs = (signal: AbortSignal) => {
    const ended = comparingWith(reports, signal, others).planned();
    ended.catch(() => undefined);
  };
  runs(stop.signal);
  await systemClock.sleep(50, NEVER);
  expect(await days()).toEqual([]);
  nowMs += 3 * HOUR_MS;
  await eventually(async () => expect(await days()).toEqual(["proof 21"]));
  nowMs += 20 * HOUR_MS;
  stop.abort();
  nowMs += 30 * HOUR_MS;
  const second = new AbortController();
  runs(second.signal);
  await eventually(async () => expect(await days()).toEqual(["proof 23", "proof 21"]));
  second.abort();
});
