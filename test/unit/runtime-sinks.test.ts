import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { Block } from "../../src/core/model/block.ts";
import { News } from "../../src/core/news.ts";
import { systemClock } from "../../src/core/clock.ts";
import { MillraceError } from "../../src/core/errors.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { OnLost } from "../../src/core/contracts/sink.ts";
import type { CatchUpParts } from "../../src/runtime/stream/catch-up.ts";
import { Lane } from "../../src/runtime/stream/lane.ts";
import { Rewind } from "../../src/runtime/stream/rewind.ts";
import { SinkRunner } from "../../src/runtime/apply/sink-runner.ts";
import type { WorkerParts } from "../../src/runtime/apply/applier.ts";
import { Receipts } from "../../src/runtime/apply/work.ts";
import { blockOf, type Change, tableVersion, UNCHANGED } from "../support/blocks.ts";
import { quietLog } from "../support/quiet-log.ts";
import { gate, outage, realState, ScriptedSink, ScriptedStream, workerOf } from "../support/scripted.ts";
import { eventually } from "../support/waiting.ts";
import { complete } from "../support/complete.ts";

const COLUMNS = [
  ["id", "int4"],
  ["body", "text"],
] as const;
const users = tableVersion({
  table: "users",
  columns: COLUMNS,
  key: ["id"],
});
const at = (commit: bigint, index = 0): Position => ({ epoch: 1, commit, index });
const put = (id: number, commit: bigint): Change => ({ table: users, op: "c", after: [String(id), "x"], commit });
const idle = (commit: bigint): Block => blockOf([], { until: at(commit) });
const ids = (sink: ScriptedSink) => sink.rowsOf(users).map((row) => Number(row[0]));

/** A main lane with one sink on it, and whatever a source is asked for on its behalf. */
async function stage(parts: Partial<WorkerParts> = {}, onLost: OnLost = "fail") {
  const opened = await realState();
  const { state } = opened;
  const sink = new ScriptedSink();
  sink.progress = { position: at(100n), tables: complete({ [users.id]: `${users.fingerprint}/1` }) };
  await state.sinks.written(sink.name, at(100n), {});
  const worker = workerOf(sink, state, parts);
  const runner = new SinkRunner({
    clock: systemClock,
    worker,
    lease: 1,
    state,
    onLost,
    readsByItself: true,
    acknowledged: () => null,
    tables: () => [],
    parts: async () => new Set(),
    onChange: () => undefined,
    news: new News(),
    inVainMsMax: 60_000,
    rejoin: async () => undefined,
    logger: quietLog,
  });
  const lane = new Lane(at(100n), "m");
  const stream = new ScriptedStream();
  const streams: ScriptedStream[] = [];
  let onStream: (from: Position) => Promise<void> | void = () => undefined;
  let onMark: (signal: AbortSignal) => Promise<void> | void = () => undefined;
  const source: CatchUpParts["source"] = {
    log: {
      tip: async () => 1_000_000n,
      earliest: async () => 0n,
      stream: async (from) => {
        await onStream(from);
        const own = new ScriptedStream();
        streams.push(own);
        return own;
      },
    },
    watermarks: {
      markPrefix: "m",
      mark: async (_content, signal) => await onMark(signal),
      renew: async () => 1_000_000n,
    },
  };
  const main: CatchUpParts = {
    clock: systemClock,
    source,
    main: lane,
    rewind: new Rewind(systemClock, lane),
    secondStreamTriesMax: 2,
    resolve: () => Promise.reject(new Error("no shapes here")),
    isKnown: () => false,
    onUnloggedRows: async () => undefined,
    byteCountMax: 1 << 20,
  };
  const stopping = new AbortController();
  const feeding = lane.run(stream, stopping.signal).catch(() => undefined);
  const running = runner.begin(stopping.signal).then(() => runner.run(main, stopping.signal));
  return {
    sink,
    worker,
    runner,
    lane,
    stream,
    streams,
    state,
    hookStream: (hook: typeof onStream) => (onStream = hook),
    hookMark: (hook: typeof onMark) => (onMark = hook),
    joined: () => eventually(() => lane.has(worker)),
    covered: (commit: bigint) => eventually(() => (worker.covered?.commit ?? 0n) >= commit),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await Promise.all([feeding, running]);
      await opened[Symbol.asyncDispose]();
    },
  };
}

describe("a sink's work", () => {
  test("is applied in order, with progress behind it, and covers what has nothing for the sink", async () => {
    await using it = await stage({ wants: (table) => table.id === users.id });
    await it.joined();
    it.stream.push(blockOf([put(1, 200n), put(2, 300n)]), blockOf([{ table: users, op: "t", commit: 400n }]));
    it.stream.push(blockOf([put(3, 500n)]), idle(900n));
    await it.covered(900n);
    expect(ids(it.sink)).toEqual([3]);
    expect(it.sink.progress?.position).toEqual(at(501n));
  });

  test("that was done before is passed over, also where it ends inside a block", async () => {
    await using it = await stage();
    await it.joined();
    it.worker.begin({ position: at(300n, 1), tables: {} }, at(300n, 1), false);
    it.stream.push(blockOf([put(1, 200n), put(2, 300n), put(3, 300n), put(4, 400n)]));
    await it.covered(401n);
    expect(ids(it.sink)).toEqual([3, 4]);
  });

  test("that fails is not covered by what the log brings next", async () => {
    await using opened = await realState();
    const sink = new ScriptedSink();
    const worker = workerOf(sink, opened.state);
    worker.begin({ position: at(100n), tables: {} }, at(100n), false);
    sink.before = () => {
      throw new MillraceError({ code: "MR3999", kind: "fatal", message: "it can't be" });
    };
    const lane = new Lane(at(100n), "m");
    lane.attach(worker);
    const stream = new ScriptedStream();
    stream.push(blockOf([put(1, 200n)]), idle(900n));
    const run = worker.run(new AbortController().signal);
    await lane.run(stream, new AbortController().signal, () => lane.position.commit === 201n);
    await expect(run).rejects.toThrow("it can't be");
    // Its runner has not taken it off the lane yet when this comes.
    await lane.run(stream, new AbortController().signal, () => lane.position.commit === 900n);
    expect([worker.queue.length, worker.covered]).toEqual([0, at(100n)]);
  });

  test("that comes while a step is in flight is made ready, a whole batch of it", async () => {
    await using it = await stage({ limits: { rowCountMax: 2, byteCountMax: 1 << 20 } });
    await it.joined();
    const answered = gate();
    it.sink.before = async () => await answered.passed;
    it.stream.push(blockOf([put(1, 200n)]));
    await eventually(() => it.worker.queue.length === 0);
    it.stream.push(blockOf([put(2, 300n)]));
    await eventually(() => it.lane.position.commit === 301n);
    await turn();
    expect(it.sink.staged).toEqual([]);
    it.stream.push(...[3, 4, 5, 6].map((id) => blockOf([put(id, BigInt(id) * 1000n)])));
    await eventually(() => it.sink.staged.length > 0);
    expect([it.sink.staged.length, it.worker.idle]).toEqual([1, false]);
    answered.open();
    await it.covered(6001n);
    expect(ids(it.sink)).toEqual([1, 2, 3, 4, 5, 6]);
    const steps = it.sink.steps.flatMap((step) => (step.kind === "rows" ? [step.tables] : []));
    expect(it.sink.staged.every((tables) => steps.includes(tables))).toBe(true);
    expect(steps.map((tables) => tables[0]!.count)).toEqual([1, 2, 2, 1]);
  });

  test("that meets a defect in the rows of one table goes on without that table", async () => {
    const suspended = new Map<string, string>();
    await using it = await stage({
      wants: (table) => !suspended.has(table.id),
      suspend: async (id, error) => void suspended.set(id, error.code),
    });
    await it.joined();
    // No array has so many elements: the key's columns can't be noted.
    const broken = { ...users, id: "public.broken", table: "broken", key: [-5] };
    const change = { table: broken, op: "c", after: ["1", "x"], commit: 200n } as const;
    it.stream.push(blockOf([put(1, 200n), change, put(2, 200n)]), blockOf([put(3, 300n), { ...change, commit: 300n }]));
    await it.covered(301n);
    expect([ids(it.sink), [...suspended]]).toEqual([[1, 2, 3], [["public.broken", "MR1314"]]]);
    expect(it.runner.error).toBeNull();
  });

  test("on a version of a table without a key is passed over", async () => {
    await using it = await stage();
    await it.joined();
    const keyless = { ...users, id: "public.keyless", table: "keyless", key: [] };
    const change = { table: keyless, op: "c", after: ["1", "x"], commit: 200n } as const;
    it.stream.push(blockOf([change, put(1, 200n), change]));
    await it.covered(201n);
    expect(ids(it.sink)).toEqual([1]);
  });

  test("that was made ready is netted again where the table is not wanted any more", async () => {
    const unwanted = new Set<string>();
    await using it = await stage({
      limits: { rowCountMax: 2, byteCountMax: 1 << 20 },
      wants: (table) => !unwanted.has(table.id),
    });
    await it.joined();
    const answered = gate();
    it.sink.before = async () => await answered.passed;
    it.stream.push(blockOf([put(1, 200n)]), blockOf([put(2, 300n), put(3, 300n)]));
    await eventually(() => it.sink.staged.length === 1);
    unwanted.add(users.id);
    answered.open();
    await it.covered(301n);
    expect(ids(it.sink)).toEqual([1]);
  });

  test("that was made ready waits for its turn behind a step that is tried again, and goes with its sink", async () => {
    await using it = await stage({ limits: { rowCountMax: 2, byteCountMax: 1 << 20 } });
    await it.joined();
    let attempts = 0;
    it.sink.before = async () => {
      if (attempts++ > 0) return;
      await eventually(() => it.sink.staged.length === 1);
      throw outage();
    };
    it.stream.push(blockOf([put(1, 200n)]), blockOf([put(2, 300n), put(3, 300n)]));
    await it.covered(301n);
    expect([ids(it.sink), attempts]).toEqual([[1, 2, 3], 3]);

    const held = gate();
    it.sink.before = async () => await held.passed;
    it.stream.push(blockOf([put(4, 400n)]), blockOf([put(5, 500n), put(6, 500n)]));
    await eventually(() => it.sink.staged.length === 2);
    it.lane.detach(it.worker);
    held.open();
    await eventually(() => it.worker.idle);
    expect([it.worker.queue.heldBytes, ids(it.sink)]).toEqual([0, [1, 2, 3, 4]]);
  });

  test("whose answer was lost is not done twice", async () => {
    await using it = await stage();
    await it.joined();
    let lost = 0;
    it.sink.after = () => {
      if (lost++ === 0) throw outage();
    };
    it.stream.push(blockOf([put(1, 200n)]));
    await it.covered(201n);
    expect(it.sink.steps.filter(({ kind }) => kind === "rows")).toHaveLength(1);
  });

  test("goes on from what the sink holds when it was set back between two attempts", async () => {
    await using it = await stage();
    await it.joined();
    it.stream.push(blockOf([put(1, 200n)]));
    await it.covered(201n);
    await it.state.sinks.written(it.sink.name, at(201n), {});
    let failures = 0;
    it.sink.before = () => {
      if (failures++ > 0) return;
      // Emptied and restored to an older copy while it was away.
      it.sink.tables.clear();
      it.sink.progress = { position: at(150n), tables: {} };
      throw outage();
    };
    it.stream.push(blockOf([put(2, 300n)]), idle(400n));
    await eventually(() => it.streams.length > 0);
    it.streams[0]!.push(blockOf([put(1, 200n)]), blockOf([put(2, 300n)]), idle(400n));
    await it.joined();
    expect(ids(it.sink)).toEqual([1, 2]);
  });

  test("of another shape of a table that the sink held: that it holds it is forgotten before the target follows", async () => {
    const added = tableVersion({ table: "users", columns: [...COLUMNS, ["more", "text"]], key: ["id"], version: 2 });
    const voided: string[] = [];
    await using it = await stage({ onVoid: (tableId) => voided.push(tableId) });
    await it.joined();
    const followed: unknown[] = [];
    it.sink.prepare = async ([table]) => void followed.push([table?.version, it.sink.progress?.tables]);
    it.stream.push(blockOf([{ table: added, op: "c", after: ["1", "new", "x"], commit: 200n }]));
    await it.covered(201n);
    expect(followed).toEqual([[2, {}]]);
    expect(voided).toEqual([users.id]);
  });

  test("lists the keys of moved rows while the sink does not hold the whole table", async () => {
    await using it = await stage();
    await it.joined();
    it.worker.begin({ position: at(100n), tables: {} }, at(100n), false);
    it.stream.push(
      blockOf([
        { table: users, op: "c", after: ["1", "stale"], commit: 200n },
        { table: users, op: "t", commit: 210n },
        { table: users, op: "u", after: ["3", UNCHANGED], before: ["2", null], commit: 220n },
      ]),
    );
    await it.covered(221n);
    expect((await it.state.refills.keys([it.sink.name], null, 10)).map(({ key }) => key)).toEqual([["3"]]);
  });

  test("of a table that the sink does not take is no sweep", async () => {
    let takes = true;
    await using it = await stage({ wants: (_table: TableVersion) => takes });
    await it.joined();
    it.stream.push(blockOf([put(1, 200n)]));
    await it.covered(201n);
    takes = false;
    const receipts = new Receipts(1);
    it.lane.push(it.worker, { kind: "sweep", table: users, below: 1n << 60n, receipt: receipts.one() });
    expect(await receipts.all).toBe(false);
    expect(ids(it.sink)).toEqual([1]);
  });
});

describe("a sink that was away", () => {
  test("catches up by a stream of its own and is handed over without loss or repetition", async () => {
    await using it = await stage();
    await it.joined();
    await it.runner.pause();
    await eventually(() => it.runner.state === "paused");
    // A second sink keeps the main lane going.
    const other = workerOf(new ScriptedSink("other"), it.state);
    other.begin({ position: at(100n), tables: {} }, at(100n), false);
    it.lane.attach(other);
    const log = Array.from({ length: 20 }, (_, i) => put(i, BigInt(200 + i * 10)));
    for (const change of log.slice(0, 10)) it.stream.push(blockOf([change]));
    await eventually(() => (other.queue.clear(), it.lane.attach(other), it.lane.position.commit >= 291n));
    await it.runner.resume();
    await eventually(() => it.streams.length === 1);
    // The joint is where the main lane stands now; both streams carry what lies around it.
    const own = it.streams[0]!;
    it.stream.push(...log.slice(10, 15).map((change) => blockOf([change])));
    own.push(...log.slice(0, 12).map((change) => blockOf([change])));
    own.push(idle(312n));
    await it.joined();
    for (const change of log.slice(15)) it.stream.push(blockOf([change]));
    it.stream.push(idle(2000n));
    await eventually(() => (other.queue.clear(), it.lane.attach(other), (it.worker.covered?.commit ?? 0n) >= 2000n));
    expect(ids(it.sink)).toEqual(log.map((_, i) => i));
    const written = it.sink.steps.flatMap((step) =>
      step.kind === "rows" ? step.tables.map(({ count }) => count) : [],
    );
    expect(written.reduce((sum, count) => sum + count, 0)).toBe(log.length);
    expect(own.isClosed).toBe(true);
  });

  test("is given what both streams carried once, also where both lie in one batch", async () => {
    await using it = await stage();
    await it.joined();
    it.worker.begin(
      { position: at(100n), tables: complete({ [users.id]: `${users.fingerprint}/1` }) },
      at(100n),
      false,
    );
    const moved: readonly Change[] = [
      put(1, 200n),
      { table: users, op: "u", after: ["2", UNCHANGED], before: ["1", null], commit: 210n },
      put(1, 210n),
    ];
    const busy = gate();
    it.sink.before = () => busy.passed;
    it.stream.push(blockOf([put(9, 150n)]));
    await eventually(() => it.lane.position.commit === 151n && it.worker.queue.length === 0);
    // As a hand-over leaves it: the end of one stream, and the other from a place before that end.
    const queue = (changes: readonly Change[]) =>
      it.worker.queue.push({ kind: "rows", block: blockOf(changes), from: 0, to: changes.length });
    queue(moved);
    queue(moved.slice(0, 1));
    busy.open();
    await it.covered(211n);
    const written = it.sink.steps.flatMap((step) => (step.kind === "rows" ? step.tables.map((t) => t.count) : []));
    expect(written.slice(1)).toEqual([2]);
    expect(it.sink.progress?.position).toEqual(at(211n));
  });

  test("leaves nothing behind that could detach it from its next attempt", async () => {
    await using it = await stage();
    await it.joined();
    await it.runner.pause();
    await eventually(() => it.runner.state === "paused");
    it.lane.attach(it.worker);
    it.stream.push(idle(900n));
    await eventually(() => it.lane.position.commit === 900n);
    it.lane.detach(it.worker);
    it.worker.begin({ position: at(100n), tables: {} }, at(100n), false);
    // The mark of the first attempt takes its time, whatever is aborted meanwhile.
    const slow = gate();
    it.hookMark(() => slow.passed);
    await it.runner.resume();
    await eventually(() => it.streams.length === 1);
    it.runner.park();
    it.hookMark(() => undefined);
    // Time enough for a second attempt to join, if it does not wait for the first to end.
    for (let i = 0; i < 200 && !it.lane.has(it.worker); i++) {
      if (i === 50) it.streams[1]?.push(idle(950n));
      await turn();
    }
    slow.open();
    await eventually(() => it.streams.length === 2);
    it.streams[1]!.push(idle(950n));
    await it.joined();
    for (let i = 0; i < 10; i++) await turn();
    expect(it.lane.has(it.worker)).toBe(true);
    it.stream.push(blockOf([put(1, 1000n)]));
    await it.covered(1001n);
    expect(ids(it.sink)).toEqual([1]);
  });
});

describe("a sink's life", () => {
  test("a paused sink leaves at once, though its step takes its time, and what waited is let go", async () => {
    await using it = await stage();
    await it.joined();
    const busy = gate();
    it.sink.before = () => busy.passed;
    let released = 0;
    const counted = (id: number, commit: bigint) => blockOf([put(id, commit)], { onRelease: () => released++ });
    it.stream.push(counted(1, 200n));
    await eventually(() => it.lane.position.commit === 201n && it.worker.queue.length === 0);
    it.stream.push(counted(2, 300n), counted(3, 400n));
    await eventually(() => it.worker.queue.length === 2);
    await it.runner.pause();
    expect(it.lane.has(it.worker)).toBe(false);
    expect(released).toBe(2);
    busy.open();
    await eventually(() => it.runner.state === "paused" && released === 3);
    expect(it.worker.covered).toEqual(at(201n));
    expect((await it.state.sinks.get(it.sink.name))?.paused).toBe(true);
  });

  test("one that fails is tried again, ever more rarely, until it works", async () => {
    await using it = await stage();
    await it.joined();
    let failures = 0;
    it.sink.onOpen = () => {
      if (failures++ < 3) throw outage();
    };
    it.runner.park();
    await eventually(() => failures > 3 && it.lane.has(it.worker));
    expect(it.runner.error).toBeNull();
    expect(it.runner.state).toBe("streaming");
  });

  test("to resume one that streams disturbs nothing", async () => {
    await using it = await stage();
    await it.joined();
    await it.runner.resume();
    await turn();
    expect(it.lane.has(it.worker)).toBe(true);
    expect(it.sink.opens).toBe(1);
  });

  test("one that does not answer is asked again at least every two seconds", async () => {
    await using it = await stage();
    await it.joined();
    const asked: number[] = [];
    it.sink.onOpen = () => {
      asked.push(performance.now());
      throw outage();
    };
    it.runner.park();
    // Waits that doubled to the end would take minutes.
    await eventually(() => asked.length > 12, { withinMs: 24_000 });
    expect(asked[12]! - asked[0]!).toBeLessThan(24_000);
    expect(it.runner.needsPerson).toBe(false);
  });

  test("one that waits for somebody at its target is tried again, and says so meanwhile", async () => {
    await using it = await stage();
    await it.joined();
    it.sink.onOpen = () => {
      throw new MillraceError({ code: "MR3999", kind: "blocked", message: "it refuses the password" });
    };
    it.runner.park();
    await eventually(() => it.runner.needsPerson);
    expect([it.runner.state, it.runner.error?.code]).toEqual(["retrying", "MR3999"]);
    it.sink.onOpen = () => undefined;
    await it.joined();
    expect([it.runner.needsPerson, it.runner.error]).toEqual([false, null]);
  });

  test("one that was emptied is new where it may be read again", async () => {
    await using it = await stage({}, "resync");
    await it.joined();
    it.sink.progress = null;
    it.runner.park();
    await eventually(() => it.worker.written === null && it.lane.has(it.worker));
    expect([it.runner.state, it.worker.progress?.tables]).toEqual(["streaming", {}]);
  });

  test("one that failed for good waits for an operator", async () => {
    await using it = await stage();
    await it.joined();
    it.sink.progress = null;
    it.runner.park();
    await eventually(() => it.runner.state === "failed");
    expect(it.runner.error?.code).toBe("MR1301");
    it.sink.progress = { position: at(100n), tables: {} };
    await it.runner.resume();
    await it.joined();
    expect(it.runner.error).toBeNull();
  });
});
