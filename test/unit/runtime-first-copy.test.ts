/** When the stream begins beside sinks that are still being filled. */
import { expect, test } from "vitest";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import type { FirstCopy } from "../../src/core/contracts/log-admin.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { News } from "../../src/core/waiting.ts";
import type { SinkWorker } from "../../src/runtime/sink/sink-worker.ts";
import { InitialSnapshot } from "../../src/runtime/snapshot/first-copy.ts";
import { SinkQueue } from "../../src/runtime/stream/sink-queue.ts";
import { complete } from "../support/daemon/complete.ts";
import { blockOf, tableVersion } from "../support/model/blocks.ts";

const NEVER = new AbortController().signal;
const LIMITS = { rowCountMax: 1_000, byteCountMax: 1 << 20 };
const table = tableVersion({ table: "bulk", columns: { id: "int4" } });

/** `writtenMs`: how long the sink has been writing. */
function workerOf(name: string, writtenMs: () => number = () => 0): SinkWorker {
  const writer = {
    get ofRows() {
      return { doneMs: writtenMs(), presentMs: 0 };
    },
  };
  const worker = {
    name,
    queue: new SinkQueue(),
    limits: LIMITS,
    writer,
    sink: {},
    get idle() {
      return worker.queue.length === 0;
    },
  };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what a copy asks of it
  return worker as unknown as SinkWorker;
}

test("the stream does not wait for a sink that reads by itself", async () => {
  let nowMs = 0;
  const clock: Clock = {
    ...systemClock,
    elapsed: () => nowMs,
    // Time passes as it is waited for.
    after: (ms, work) => {
      const passing = setImmediate(() => {
        nowMs += ms;
        work();
      });
      return () => clearImmediate(passing);
    },
  };
  const news = new News();
  const [fast, slow] = [workerOf("fast"), workerOf("slow")];
  const write = ({ queue }: SinkWorker): void => {
    while (queue.length > 0) queue.done(queue.take(LIMITS), "durable");
    news.tell();
  };
  fast.queue.onPush = () => queueMicrotask(() => write(fast));
  const catchesUp = Promise.withResolvers<void>();
  let readCount = 0;
  const copy: FirstCopy = {
    tables: [],
    generations: new Map(),
    async *read() {
      if (++readCount === 2) await catchesUp.promise;
      const block = blockOf([{ table, op: "r", after: ["1"] }]);
      // More than waits in memory for a sink.
      block.byteCount = 100 * 1024 * 1024;
      yield block;
    },
    close: async () => undefined,
  };
  const snapshot = new InitialSnapshot({
    clock,
    news,
    copy,
    wants: () => true,
    othersRows: async () => [],
    completeness: () => complete({ [table.id]: "whole" })[table.id]!,
    sweeps: () => false,
    version: 1n,
    logger: SILENT,
  });
  const filled = [fast, slow].map((worker) => snapshot.fill(worker, NEVER));
  const filledMs = filled[0]!.then(() => nowMs);
  await snapshot.run([table], { tableIds: [table.id], tablesDone: 0, rowsRead: 0, rowsDurable: 0 }, NEVER);
  expect(nowMs).toBe(await filledMs);
  slow.queue.onPush = () => queueMicrotask(() => write(slow));
  catchesUp.resolve();
  await filled[1];
  await snapshot.end();
});

const MEGABYTE = 1024 * 1024;
const BLOCKS = 100;

interface Copied {
  /** How often the tables were read. */
  readonly readCount: number;
  /** When each sink had all, and when the slow one began to read by itself. */
  readonly filledMs: readonly number[];
  readonly secondReadMs: number;
}

/** A table of 100 MB goes into sinks that take so long for a megabyte; `slow` begins so much later. `stuckMs`: then the first stops. */
async function copied(
  msPerMegabyte: readonly number[],
  { begunMs = 0, stuckMs = Infinity }: { begunMs?: number; stuckMs?: number } = {},
): Promise<Copied> {
  let nowMs = 0;
  const timers = new Set<{ atMs: number; work: () => void }>();
  const clock: Clock = {
    ...systemClock,
    elapsed: () => nowMs,
    after: (ms, work) => {
      const timer = { atMs: nowMs + ms, work };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
  };
  const news = new News();
  const writtenMs = msPerMegabyte.map(() => 0);
  const ended = new AbortController();
  const write = async (worker: SinkWorker, at: number): Promise<void> => {
    if (at > 0) await new Promise<void>((resolve) => clock.after(begunMs, resolve));
    for (;;) {
      await worker.queue.wait(ended.signal);
      if (at === 0 && nowMs >= stuckMs) return;
      const taken = worker.queue.take({ ...LIMITS, byteCountMax: 2 * MEGABYTE });
      const bytes = taken.kind === "rows" ? taken.works.length * MEGABYTE : 0;
      const ms = (msPerMegabyte[at]! * bytes) / MEGABYTE;
      if (ms > 0) await new Promise<void>((resolve) => clock.after(ms, resolve));
      writtenMs[at]! += ms;
      worker.queue.done(taken, "durable");
      news.tell();
    }
  };
  const workers = msPerMegabyte.map((_, at) => workerOf(`sink${at}`, () => writtenMs[at]!));
  const readMs: number[] = [];
  const copy: FirstCopy = {
    tables: [],
    generations: new Map(),
    async *read() {
      readMs.push(nowMs);
      for (let i = 0; i < BLOCKS; i++) {
        const block = blockOf([{ table, op: "r", after: [String(i)] }]);
        block.byteCount = MEGABYTE;
        yield block;
      }
    },
    close: async () => undefined,
  };
  const snapshot = new InitialSnapshot({
    clock,
    news,
    copy,
    wants: () => true,
    othersRows: async () => [],
    completeness: () => complete({ [table.id]: "whole" })[table.id]!,
    sweeps: () => false,
    version: 1n,
    logger: SILENT,
  });
  const filledMs: number[] = [];
  const filled = workers.map((worker, at) =>
    snapshot.fill(worker, ended.signal).then(() => void (filledMs[at] = nowMs)),
  );
  for (const [at, worker] of workers.entries()) write(worker, at).catch(() => undefined);
  const progress = { tableIds: [table.id], tablesDone: 0, rowsRead: 0, rowsDurable: 0 };
  const running = snapshot.run([table], progress, ended.signal);
  for (const one of [running, ...filled]) one.catch(() => undefined);
  const last = Promise.all(stuckMs === Infinity ? [...filled, running] : filled.slice(1)).then(() => ended.abort());
  for (; !ended.signal.aborted && nowMs < 600_000;) {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
    const next = [...timers].toSorted((a, b) => a.atMs - b.atMs)[0];
    if (next === undefined) break;
    timers.delete(next);
    nowMs = Math.max(nowMs, next.atMs);
    next.work();
  }
  await last;
  await Promise.allSettled([running, ...filled]);
  return { readCount: readMs.length, filledMs, secondReadMs: readMs[1] ?? NaN };
}

test("a sink is hardly held up by one that is much slower, which begins by itself when the other has all", async () => {
  const [fast, slow] = [20, 200];
  const { readCount, filledMs, secondReadMs } = await copied([fast, slow]);
  expect(readCount).toBe(2);
  expect(filledMs[0]).toBeLessThan(1.2 * fast * BLOCKS);
  expect(secondReadMs).toBe(filledMs[0]);
  // Alone it takes `slow * BLOCKS`.
  expect(filledMs[1]).toBeLessThan(1.2 * slow * BLOCKS);
});

test("one that is two times slower waits a fifth of its own time", async () => {
  const { filledMs, secondReadMs } = await copied([40, 80]);
  expect(filledMs[0]).toBeLessThan(1.2 * 40 * BLOCKS);
  expect(secondReadMs).toBeLessThan(filledMs[0]!);
  expect(filledMs[1]).toBeLessThan(1.5 * 80 * BLOCKS);
});

test("it begins although the faster one never ends", async () => {
  const { secondReadMs } = await copied([20, 200], { stuckMs: 1_500 });
  expect(secondReadMs).toBeLessThan(6_000);
});

test.each([
  [20, 24, 0],
  [10, 10, 1_000],
])("sinks of about the same pace share one reading: %i and %i ms, begun %i ms later", async (one, other, begunMs) => {
  expect(await copied([one, other], { begunMs })).toMatchObject({ readCount: 1 });
});
