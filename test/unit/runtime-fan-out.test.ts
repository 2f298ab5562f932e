import { expect, test } from "vitest";
import type { LogMessage } from "../../src/core/model/block.ts";
import type { Chunk } from "../../src/core/contracts/row-reads.ts";
import { type Closed, encodeMark, FanOut, type Mark } from "../../src/runtime/stream/fan-out.ts";
import { Receipts, SinkQueue } from "../../src/runtime/stream/sink-queue.ts";
import type { SinkWorker } from "../../src/runtime/sink/sink-worker.ts";
import { ApplyWindow } from "../../src/runtime/snapshot/windows.ts";
import { blockOf, type BlockSpec, type Change, tableVersion } from "../support/model/blocks.ts";
import { versionOf } from "../support/model/log-model.ts";
import { realState, ScriptedSink, ScriptedStream, workerOf, type WorkerOptions } from "../support/model/scripted.ts";
import { eventually } from "../support/run/waiting.ts";
import { checkpointOf } from "../support/daemon/complete.ts";

const users = tableVersion({ table: "users", columns: { id: "int4" } });
const START = { epoch: 1, commit: 100n, index: 0 };
const put = (id: number, more: Partial<Change> = {}): Change => ({
  table: users,
  op: "c",
  after: [String(id)],
  ...more,
});
const mark = (at: number, what: Mark, position: bigint): LogMessage => ({
  at,
  prefix: "m",
  content: Buffer.from(encodeMark(what)),
  position,
  transactional: true,
});

/** A fan-out with sinks that nobody works: what they get is looked at in their queues. */
async function fanOutWith(count: number, options: WorkerOptions = {}) {
  const opened = await realState();
  const workers = Array.from({ length: count }, (_, i) => workerOf(new ScriptedSink(`s${i}`), opened.state, options));
  const fanOut = new FanOut(START, "m");
  const stream = new ScriptedStream();
  const stopping = new AbortController();
  for (const worker of workers) {
    worker.begin(checkpointOf(START), START);
    fanOut.attach(worker);
  }
  let released = 0;
  let blockCount = 0;
  const push = (changes: readonly Change[], spec: BlockSpec = {}) => {
    blockCount++;
    stream.push(blockOf(changes, { ...spec, onRelease: () => released++ }));
  };
  const running = fanOut.run(stream, stopping.signal).catch(() => undefined);
  return {
    fanOut,
    workers,
    push,
    leaked: () => blockCount - released,
    reached: (commit: bigint) => eventually(() => fanOut.position.commit >= commit),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await running;
      for (const worker of workers) fanOut.detach(worker);
      await opened[Symbol.asyncDispose]();
    },
  };
}

/** What waits in a queue, as text: ranges of rows, truncates, chunks. */
function drained(queue: SinkQueue): string[] {
  const seen: string[] = [];
  while (queue.length > 0) {
    const taken = queue.take({ rowCountMax: 2, byteCountMax: 1 << 20 });
    if (taken.kind !== "rows") seen.push(taken.kind);
    else for (const work of taken.works) if (work.kind === "rows") seen.push(`${work.from}-${work.to}`);
    queue.done(taken, "durable");
  }
  return seen;
}

/** Two works fill a batch. */
const TWO_ROWS = { limits: { rowCountMax: 2, byteCountMax: 1 << 20 } };

const one = (workers: readonly SinkWorker[], i = 0): SinkWorker => workers[i]!;

test("every sink gets every work in the order of the log, and blocks are let go when the last is done", async () => {
  await using scene = await fanOutWith(2, TWO_ROWS);
  scene.push([put(1), put(2), { table: users, op: "t" }, put(3)]);
  scene.push([put(4, { commit: 2000n })]);
  await scene.reached(1001n);
  expect(drained(one(scene.workers).queue)).toEqual(["0-2", "truncate", "3-4"]);
  await scene.reached(2001n);
  expect(scene.leaked()).toBe(2);
  expect(drained(one(scene.workers).queue)).toEqual(["0-1"]);
  expect(drained(one(scene.workers, 1).queue)).toEqual(["0-2", "truncate", "3-4", "0-1"]);
  expect(scene.leaked()).toBe(0);
});

test("a rename that a stream tells again, as it was opened again before it passed the position, goes once into the log", async () => {
  await using scene = await fanOutWith(1);
  const [worker] = scene.workers;
  Object.assign(worker!.sink, { form: "log" });
  const renames = [{ from: "public.people", to: users.id, columns: [], how: "renamed" }] as const;
  for (const _ of [1, 2]) scene.fanOut.rename(renames, { ...START, commit: 1000n });
  scene.fanOut.rename(renames, { ...START, commit: 1200n });
  scene.push([put(1, { commit: 1100n }), put(2, { commit: 1300n })]);
  await scene.reached(1301n);
  expect(drained(worker!.queue)).toEqual(["notice", "0-1", "notice", "1-2"]);
});

test.each([
  ["at two blocks, which fill it", 15, 2],
  ["at the block that fills it", 45, 5],
  ["at sixteen blocks, however little they hold", 1_000, 16],
])("with a batch to fill the fan-out rests %s", async (_, rowCountMax, waiting) => {
  await using scene = await fanOutWith(1, { limits: { rowCountMax, byteCountMax: 1 << 20 } });
  for (let block = 0; block < 20; block++) {
    const commit = 1000n + BigInt(block);
    scene.push(Array.from({ length: 10 }, (_row, i) => put(i, { commit })));
  }
  await eventually(() => scene.fanOut.isAtRest);
  expect(one(scene.workers).queue.length).toBe(waiting);
});

test("a chunk stands exactly at the high mark's place, and marks that nobody waits for cut nothing", async () => {
  await using scene = await fanOutWith(1);
  const window = new ApplyWindow("w1", users.id);
  const closed: Closed[] = [];
  scene.fanOut.expect(window, (result) => {
    closed.push(result);
    if ("block" in result && result.block !== null) {
      scene.fanOut.push(one(scene.workers), {
        kind: "chunk",
        block: result.block,
        from: 0,
        to: result.block.count,
        until: result.until,
        receipt: new Receipts(1).one(),
      });
    }
  });
  const block = blockOf([
    put(1, { op: "r", commit: 0n }),
    put(2, { op: "r", commit: 0n }),
    put(3, { op: "r", commit: 0n }),
  ]);
  const chunk: Chunk = { block, last: null, sees: () => true };
  window.fill(users, chunk, null, 0);
  scene.push([put(7), put(2, { commit: 2000n }), put(8, { commit: 3000n }), put(9, { commit: 4000n })], {
    messages: [
      mark(0, { edge: null }, 900n),
      mark(1, { edge: "low", window: "w1" }, 1500n),
      mark(2, { edge: "low", window: "of an earlier run" }, 2500n),
      mark(3, { edge: "high", window: "w1" }, 3500n),
    ],
  });
  await scene.reached(4001n);
  expect(closed).toMatchObject([{ lowVersion: versionOf(1500n), block: { count: 2 } }]);
  expect(drained(one(scene.workers).queue)).toEqual(["0-1", "1-3", "chunks", "3-4"]);
});

test("a window closes spoiled when its read missed a delivered transaction, and is read by the next one", async () => {
  await using scene = await fanOutWith(1);
  const results: Closed[] = [];
  const pass = async (id: string, sees: (xid: number) => boolean, commit: bigint) => {
    const window = new ApplyWindow(id, users.id);
    scene.fanOut.expect(window, (result) => results.push(result));
    window.fill(users, { block: null, last: null, sees }, null, 0);
    scene.push([], {
      messages: [mark(0, { edge: "low", window: id }, commit), mark(0, { edge: "high", window: id }, commit)],
      until: { epoch: 1, commit, index: 0 },
    });
    await scene.reached(commit);
  };
  scene.push([put(1, { xid: 77 })]);
  await pass("a", (xid) => xid !== 77, 2000n);
  await pass("b", () => true, 3000n);
  // Every transaction before was seen once: later snapshots see it too, and are not asked again.
  await pass("c", () => false, 4000n);
  expect(results).toMatchObject([{ spoiled: "not yet visible" }, { block: null }, { block: null }]);
});

test("an idle sink is covered by what has nothing for it, a busy one is not", async () => {
  await using scene = await fanOutWith(1);
  scene.push([], { until: { epoch: 1, commit: 500n, index: 0 } });
  await scene.reached(500n);
  expect(one(scene.workers).position.covered?.commit).toBe(500n);
  scene.push([put(1)]);
  scene.push([], { until: { epoch: 1, commit: 2000n, index: 0 } });
  await scene.reached(2000n);
  expect(one(scene.workers).position.covered?.commit).toBe(500n);
});

test("a sink that is handed over from a stream of its own is not covered by the main one", async () => {
  await using scene = await fanOutWith(2);
  const late = one(scene.workers, 1);
  const collected = new SinkQueue();
  scene.fanOut.attach(late, collected);
  scene.push([put(1)]);
  scene.push([], { until: { epoch: 1, commit: 2000n, index: 0 } });
  await scene.reached(2000n);
  expect(late.position.covered?.commit).toBe(START.commit);
  expect(scene.fanOut.has(late)).toBe(false);
  expect(drained(collected)).toEqual(["0-1"]);
});

test("a sink that leaves drops what waited for it, and what comes for it later is dropped and let go", async () => {
  await using scene = await fanOutWith(1);
  const worker = one(scene.workers);
  scene.push([put(1)]);
  await scene.reached(1001n);
  const receipts = new Receipts(2);
  let released = 0;
  const chunk = () => blockOf([put(5, { op: "r", commit: 0n })], { onRelease: () => released++ });
  scene.fanOut.push(worker, { kind: "chunk", block: chunk(), from: 0, to: 1, until: START, receipt: receipts.one() });
  scene.fanOut.detach(worker);
  scene.fanOut.push(worker, { kind: "chunk", block: chunk(), from: 0, to: 1, until: START, receipt: receipts.one() });
  expect(await receipts.all).toBe(false);
  expect([released, scene.leaked(), worker.queue.length, worker.queue.heldBytes]).toEqual([2, 0, 0, 0]);
});

test("the stream is asked for more only while some sink is short of work", async () => {
  await using scene = await fanOutWith(2, TWO_ROWS);
  for (let i = 1; i <= 6; i++) scene.push([put(i, { commit: BigInt(i) * 1000n })]);
  await scene.reached(2001n);
  expect(scene.fanOut.position.commit).toBe(2001n);
  // One sink takes its works: it alone is enough for the fan-out to go on.
  await eventually(() => {
    drained(one(scene.workers).queue);
    return scene.fanOut.position.commit === 6001n;
  });
  expect(one(scene.workers, 1).queue.length).toBe(6);
});

test("a chunk whose place a sink has passed brings no deleted row back: it is dropped, to be read again", async () => {
  await using scene = await fanOutWith(0);
  await using opened = await realState();
  const sink = new ScriptedSink("ahead");
  const worker = workerOf(sink, opened.state);
  const further = { ...START, commit: 3001n };
  worker.begin(checkpointOf(further), further);
  scene.fanOut.attach(worker);
  const stopping = new AbortController();
  const working = worker.run(stopping.signal).catch(() => undefined);
  const readAt = async (id: string, low: bigint, high: bigint): Promise<boolean> => {
    const window = new ApplyWindow(id, users.id);
    const receipts = new Receipts(1);
    scene.fanOut.expect(window, (result) => {
      if (!("block" in result) || result.block === null) throw new Error("the chunk has rows");
      const receipt = receipts.one();
      const { block, until } = result;
      scene.fanOut.push(worker, { kind: "chunk", block, from: 0, to: block.count, until, receipt });
    });
    window.fill(users, { block: blockOf([put(2, { op: "r", commit: 0n })]), last: null, sees: () => true }, null, 0);
    scene.push([], {
      messages: [mark(0, { edge: "low", window: id }, low), mark(0, { edge: "high", window: id }, high)],
      until: { ...START, commit: high + 1n },
    });
    return await receipts.all;
  };
  try {
    expect(await readAt("passed", 1500n, 2500n)).toBe(false);
    scene.push([{ table: users, op: "d", before: ["2"], commit: 3000n }]);
    await scene.reached(3001n);
    expect(sink.batches).toEqual([]);
    expect(await readAt("at its place", 3500n, 4500n)).toBe(true);
    expect(sink.rowsOf(users)).toEqual([["2"]]);
  } finally {
    stopping.abort();
    await working;
  }
});
