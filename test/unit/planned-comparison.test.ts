/** What the daemon knows of its comparisons: a planned one that does not end is told, a broken-off one proves nothing. */
import { expect, test } from "vitest";
import { Comparing, type ComparingParts } from "../../src/daemon/comparing.ts";
import type { Config } from "../../src/config/config.ts";
import { systemClock } from "../../src/core/clock.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { News } from "../../src/core/waiting.ts";
import { reportOf, tableFound } from "../support/model/reports.ts";
import { eventually } from "../support/run/waiting.ts";

/** Where nothing can be compared, and `reports` are kept. */
function comparingWith(reports: object, signal: AbortSignal): Comparing {
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
  };
  const schedule = { cron: "* * * * * *", timeZone: null, repairs: false, patienceMs: 0, mode: "full" };
  const config = { name: "shop", rules: { tables: [], maskKey: null }, reconcile: { schedule, continuous: null } };
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
