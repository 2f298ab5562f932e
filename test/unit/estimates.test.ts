/** How far reads are, by how many rows the source's statistics say there are. */
import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { NO_PROGRESS, type SnapshotStatus } from "../../src/core/contracts/status.ts";
import { Estimates } from "../../src/runtime/control/estimates.ts";
import { quietLog } from "../support/run/quiet-log.ts";

const READ: SnapshotStatus = {
  id: 1,
  tableId: "public.t",
  sink: "cache",
  scope: { kind: "table" },
  reason: "asked for by an operator",
  needed: false,
  state: "running",
  error: null,
  ...NO_PROGRESS,
  rowsDone: 0,
  chunksDone: 0,
  resumedCount: 0,
  restartedCount: 0,
  createdAt: "2026-01-01T00:00:00.000Z",
  startedAt: "2026-01-01T00:00:00.000Z",
  endedAt: null,
};

/** With one look at the statistics; `at` moves the time. */
async function looked(counts: Readonly<Record<string, number>>) {
  let nowMs = 0;
  const end = new AbortController();
  const clock = { ...systemClock, elapsed: () => nowMs, sleep: async () => end.signal.throwIfAborted() };
  const estimates = new Estimates(clock, quietLog);
  const asked: string[][] = [];
  const tables = Object.keys(counts).map((id) => ({ id }));
  const catalog = {
    estimates: async (named: readonly { readonly id: string }[]) => {
      asked.push(named.map(({ id }) => id));
      end.abort();
      return new Map(Object.entries(counts));
    },
  };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only these members are looked at
  const pipeline = { source: { catalog }, gate: { tables } } as unknown as Parameters<Estimates["run"]>[0];
  await estimates.run(pipeline, end.signal).catch(() => undefined);
  const at = (ms: number, read: Partial<SnapshotStatus>) => {
    nowMs = ms;
    return estimates.ofReads([{ ...READ, ...read }])[0];
  };
  return { estimates, asked, at };
}

test("the end is estimated from the pace that this process saw", async () => {
  const { at, asked } = await looked({ "public.t": 1000 });
  expect(asked).toEqual([["public.t"]]);
  expect(at(0, { rowsDone: 100 })).toMatchObject({ rowsEstimated: 1000, share: 0.1, secondsLeft: null });
  expect(at(10_000, { rowsDone: 200 })).toMatchObject({ share: 0.2, secondsLeft: 80 });
  expect(at(20_000, { rowsDone: 600 })).toMatchObject({ share: 0.6, secondsLeft: 16 });
});

test("a read that starts again has a new pace, and one with more rows than estimated no end", async () => {
  const { at } = await looked({ "public.t": 1000 });
  at(0, { rowsDone: 0 });
  at(10_000, { rowsDone: 500 });
  expect(at(20_000, { rowsDone: 10 })).toMatchObject({ share: 0.01, secondsLeft: null });
  expect(at(30_000, { rowsDone: 1500 })).toMatchObject({ share: 0.99, secondsLeft: null });
});

test("nothing is said of a part of a table, of one without statistics, and of a read that has ended", async () => {
  const { at } = await looked({ "public.t": 1000 });
  const nothing = { rowsEstimated: null, share: null, secondsLeft: null };
  expect(at(0, { rowsDone: 5, scope: { kind: "where", where: "true" } })).toMatchObject(nothing);
  expect(at(0, { rowsDone: 5, tableId: "public.u" })).toMatchObject(nothing);
  expect(at(0, { state: "waiting" })).toMatchObject({ rowsEstimated: 1000, share: null });
  expect(at(0, { rowsDone: 5, state: "done" })).toMatchObject({ share: null });
});

test("of the first copy counts what is durable, and each table beside its rows", async () => {
  const { estimates } = await looked({ "public.t": 1000, "public.u": 2998 });
  const copy = { tableIds: ["public.t", "public.u"], tablesDone: 0, rowsRead: 3998, rowsDurable: 0 };
  const status = { tableCount: 2, tablesDone: 0, rowsRead: 3998, rowsEstimated: 3998, share: 0, secondsLeft: null };
  expect(estimates.ofCopy(copy)).toEqual(status);
  expect(estimates.ofCopy({ ...copy, rowsDurable: 999, tablesDone: 1 })).toMatchObject({ tablesDone: 1, share: 0.25 });
  expect(estimates.ofCopy({ ...copy, tableIds: ["public.t", "public.unknown"] })?.share).toBeNull();
});
