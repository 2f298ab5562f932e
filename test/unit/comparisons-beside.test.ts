/** What a comparison beside the stream reads of a sink at a time, and when. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { News } from "../../src/core/waiting.ts";
import { calm, SlicePace } from "../../src/runtime/comparisons.ts";

const ROW_MS = 0.003;

/** How long slices take in the end, and their rows, where a request takes so long beside its rows. */
function walked(requestMs: number, isBusy: (slice: number) => boolean = () => false): { ms: number; rows: number } {
  const pace = new SlicePace();
  let last = { ms: 0, rows: 0 };
  for (let walk = 0, slice = 0; walk < 20; walk++) {
    for (let i = 0; i < 25; i++, slice++) {
      const rows = pace.rowCount(i === 0);
      const ms = requestMs + rows * ROW_MS;
      pace.took(isBusy(slice) ? ms + 15 : ms, i === 0);
      if (i > 0) last = { ms, rows };
    }
  }
  return last;
}

test("a slice takes a millisecond or some more", () => {
  const { ms, rows } = walked(0.4);
  expect(ms).toBeGreaterThan(0.9);
  expect(ms).toBeLessThan(1.4);
  expect(rows).toBeGreaterThan(150);
});

test("one of a sink that is far away does at least as much as its way costs", () => {
  expect(walked(4).ms).toBeGreaterThan(7);
  expect(walked(20).rows).toBe(2_000);
});

test("a moment in which the machine has other work changes little", () => {
  const { rows } = walked(0.4, (slice) => slice % 7 === 3);
  expect(rows).toBeGreaterThan(80);
  expect(rows).toBeLessThan(500);
});

const NEVER = new AbortController().signal;

/** With a timer that never rings, unless it is said to. */
function still() {
  let ring: (() => void) | null = null;
  let atMs = 0;
  const clock = {
    ...systemClock,
    elapsed: () => atMs,
    after: (ms: number, work: () => void) => {
      ring = () => {
        atMs += ms;
        work();
      };
      return () => undefined;
    },
  };
  return { clock, ring: () => ring!() };
}

test("it begins as soon as all its sinks have nothing to apply", async () => {
  const news = new News();
  const workers = [{ idle: false }, { idle: false }];
  const { clock } = still();
  let hasBegun = false;
  const begun = calm(workers, news, clock, NEVER).then(() => (hasBegun = true));
  for (const worker of workers) {
    news.tell();
    await nextTurn();
    expect(hasBegun).toBe(false);
    worker.idle = true;
  }
  news.tell();
  await begun;
});

test("it waits no longer for a sink that has work all the time", async () => {
  const { clock, ring } = still();
  const begun = calm([{ idle: false }], new News(), clock, NEVER);
  ring();
  await begun;
});

test("it waits no longer once it is stopped", async () => {
  const stop = new AbortController();
  const begun = calm([{ idle: false }], new News(), still().clock, stop.signal);
  stop.abort();
  await expect(begun).rejects.toThrow("aborted");
});
