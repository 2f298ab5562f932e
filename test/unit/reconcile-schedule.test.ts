import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { followSchedule, overdueSince } from "../../src/reconcile/schedule.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { eventually } from "../support/run/waiting.ts";

test("comes again and again, one at a time, whatever one of them throws, until it is stopped", async () => {
  const stopping = new AbortController();
  const begun: number[] = [];
  const told: object[] = [];
  let running = 0;
  let most = 0;
  const run = async (): Promise<void> => {
    begun.push(Date.now());
    most = Math.max(most, ++running);
    try {
      // Longer than the time to the next one.
      await new Promise((resolve) => setTimeout(resolve, 1_100));
      if (begun.length === 1) throw new Error("the first one fails");
    } finally {
      running--;
    }
  };
  const followed = followSchedule(
    {
      cron: "* * * * * *",
      timeZone: "Asia/Kolkata",
      run,
      clock: systemClock,
      logger: { ...quietLog, info: (fields: object) => void told.push(fields) },
    },
    stopping.signal,
  );
  await eventually(() => begun.length === 3);
  stopping.abort();
  await expect(followed).rejects.toMatchObject({ name: "AbortError" });
  expect(most).toBe(1);
  // Never before its time.
  for (const [i, at] of begun.entries()) {
    const time = "at" in told[i]! ? Date.parse(String(told[i].at)) : Number.NaN;
    expect({ at, time, isFull: time % 1000 === 0 }).toSatisfy(({ isFull }) => isFull && at >= time);
  }
});

test("after the clock was set back, the next time that it shows counts", async () => {
  const stopping = new AbortController();
  const begun: string[] = [];
  let nowMs = Date.parse("2026-11-20T12:10:00Z");
  let isSet = false;
  const clock = {
    now: () => nowMs,
    sleep: async (ms: number) => {
      nowMs += ms;
      if (!isSet) nowMs -= 3 * 3_600_000;
      isSet = true;
    },
  };
  const run = async (): Promise<void> => {
    begun.push(new Date(nowMs).toISOString());
    if (begun.length === 2) stopping.abort();
    stopping.signal.throwIfAborted();
  };
  const schedule = { cron: "0 * * * *", timeZone: "UTC", run, clock, logger: quietLog };
  await expect(followSchedule(schedule, stopping.signal)).rejects.toMatchObject({ name: "AbortError" });
  expect(begun).toEqual(["2026-11-20T10:00:00.000Z", "2026-11-20T11:00:00.000Z"]);
});

test.each([
  ["the last one began at its time", "2026-11-20T02:00:01Z", "2026-11-21T12:00:00Z", null],
  ["the next one has only just begun", "2026-11-20T02:00:01Z", "2026-11-22T02:00:00Z", null],
  ["two times have passed", "2026-11-20T02:00:01Z", "2026-11-22T02:00:01Z", "2026-11-21T02:00:00.000Z"],
  ["many have", "2026-11-20T01:59:59Z", "2026-12-20T00:00:00Z", "2026-11-20T02:00:00.000Z"],
])("a comparison is overdue: %s", (_, began, now, due) => {
  const schedule = { cron: "0 2 * * *", timeZone: "UTC" };
  expect(overdueSince(schedule, new Date(began), Date.parse(now))?.toISOString() ?? null).toBe(due);
});

test("comparisons each second are not overdue after seconds", () => {
  const [began, schedule] = [new Date("2026-11-20T02:00:00Z"), { cron: "* * * * * *", timeZone: "UTC" }];
  expect(overdueSince(schedule, began, began.getTime() + 60_000)).toBeNull();
  expect(overdueSince(schedule, began, began.getTime() + 180_000)).not.toBeNull();
});
