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

function workerOf(name: string): SinkWorker {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what a copy asks of it
  return { name, queue: new SinkQueue(), limits: LIMITS, idle: false, sink: {} } as unknown as SinkWorker;
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
  expect(readCount).toBe(2);
  expect(nowMs).toBe(await filledMs);
  slow.queue.onPush = () => queueMicrotask(() => write(slow));
  catchesUp.resolve();
  await filled[1];
  await snapshot.end();
});
