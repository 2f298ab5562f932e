/** What a comparison beside the stream reads of a sink at a time, and when. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { News } from "../../src/core/waiting.ts";
import { calm, type ComparisonParts, Comparisons, SlicePace } from "../../src/runtime/comparisons.ts";
import { ChunkReader } from "../../src/runtime/snapshot/chunk-reader.ts";
import { CompareWindow } from "../../src/runtime/snapshot/windows.ts";
import type { CompareWork } from "../../src/runtime/stream/sink-queue.ts";
import { blockOf, tableVersion } from "../support/model/blocks.ts";

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

test("a sink that stands still for listed keys does not wait for itself to have nothing to apply", async () => {
  const table = tableVersion({ table: "t", columns: { id: "integer" } });
  const block = blockOf([{ table, op: "r", after: ["1"] }]);
  const until = { epoch: 1, commit: 5n, index: 0 };
  const worker = { idle: true, position: { covered: until } };
  const parts = {
    clock: still().clock,
    news: new News(),
    fanOut: {
      position: until,
      push: async (_: object, work: CompareWork): Promise<void> => {
        worker.idle = false;
        await work.compare(NEVER);
        worker.idle = true;
        work.receipt.durable();
      },
    },
    readHold: { over: async () => undefined },
    source: {
      log: { tip: async () => 5n },
      positions: { format: () => "0/5" },
      rows: { readKeys: async () => ({ block, last: null, sees: () => true }) },
    },
    lives: [{ name: "cache", worker: { ...worker, sink: { comparison: {} } } }],
  };
  Object.defineProperty(parts.lives[0]!.worker, "idle", { get: () => worker.idle });
  const reads = vi.spyOn(ChunkReader.prototype, "compare").mockImplementation(async (passage, signal) => {
    await passage.read({ signal });
    passage.hand({ block, toldCount: 1, lowVersion: 0n, until });
    return new CompareWindow("w", table.id);
  });
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of them
    const comparisons = new Comparisons(parts as unknown as ComparisonParts);
    let compared = 0;
    const compare = async (): Promise<void> => void compared++;
    const rows = { kind: "keys", keys: [["1"]] } as const;
    const place = { table, sinks: ["cache"], rows, patienceMs: 1_000, share: 0.9, compare };
    const { outcomes } = await comparisons.at(place, NEVER);
    expect([compared, outcomes.get("cache")]).toEqual([1, { kind: "compared" }]);
  } finally {
    reads.mockRestore();
  }
});
