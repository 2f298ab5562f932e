/** A planned comparison that does not end is something that `status` tells. */
import { expect, test } from "vitest";
import { Comparing, type ComparingParts } from "../../src/daemon/comparing.ts";
import type { Config } from "../../src/config/config.ts";
import { systemClock } from "../../src/core/clock.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { News } from "../../src/core/news.ts";
import { eventually } from "../support/run/waiting.ts";

test("why the newest planned comparison failed is in status until a later one ends", async () => {
  const stop = new AbortController();
  const reports: object[] = [];
  const broken = new Proxy({}, { get: () => () => Promise.reject(new Error("the disk is gone")) });
  const parts = {
    clock: systemClock,
    news: new News(),
    port: broken,
    lag: () => Promise.resolve(""),
    kept: broken,
    reports: { list: () => Promise.resolve(reports) },
    folder: null,
    redact: (json: string) => json,
    logger: SILENT,
  };
  const schedule = { cron: "* * * * * *", timeZone: null, repairs: false, patienceMs: 0, mode: "full" };
  const config = { name: "shop", rules: { tables: [], maskKey: null }, reconcile: { schedule, continuous: null } };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what planned comparisons look at
  const comparing = new Comparing(config as unknown as Config, parts as unknown as ComparingParts, stop.signal);
  const planned = comparing.planned().catch(() => undefined);
  await eventually(async () =>
    expect((await comparing.status()).failure).toMatchObject({ code: "MR1402", message: expect.any(String) }),
  );
  stop.abort();
  await planned;
  reports.push({ finishedAt: new Date(Date.now() + 60_000).toISOString() });
  expect((await comparing.status()).failure).toBeNull();
});
