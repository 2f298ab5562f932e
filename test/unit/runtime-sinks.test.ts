import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type Block, OP_UNTOLD } from "../../src/core/model/block.ts";
import { News } from "../../src/core/waiting.ts";
import { abortOf, type Clock, systemClock } from "../../src/core/clock.ts";
import { MillraceError } from "../../src/core/errors.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { OnLost, SinkForm } from "../../src/core/contracts/sink.ts";
import { type CatchUpParts, GoBack } from "../../src/runtime/stream/catch-up.ts";
import { FanOut } from "../../src/runtime/stream/fan-out.ts";
import { SinkLife } from "../../src/runtime/sink/sink-life.ts";
import { Receipts } from "../../src/runtime/stream/sink-queue.ts";
import { blockOf, type Change, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import {
  gate,
  hurriedClock,
  outage,
  realState,
  ScriptedSink,
  ScriptedStream,
  tableAnswers,
  workerOf,
  type WorkerOptions,
} from "../support/model/scripted.ts";
import { eventually } from "../support/run/waiting.ts";
import { checkpointOf, complete } from "../support/daemon/complete.ts";
import { targetOf } from "../../src/runtime/sink/sink-position.ts";

const COLUMNS = [
  ["id", "int4"],
  ["body", "text"],
] as const;
const users = tableVersion({
  table: "users",
  columns: COLUMNS,
  key: ["id"],
});
const altered = tableVersion({ table: "users", columns: [...COLUMNS, ["name", "text"]], key: ["id"], version: 2 });
const at = (commit: bigint, index = 0): Position => ({ epoch: 1, commit, index });
const put = (id: number, commit: bigint): Change => ({ table: users, op: "c", after: [String(id), "x"], commit });
const idle = (commit: bigint): Block => blockOf([], { until: at(commit) });
const ids = (sink: ScriptedSink) => sink.rowsOf(users).map((row) => Number(row[0]));

/** A main fan-out with one sink on it, and whatever a source is asked for on its behalf. */
async function stage(
  options: WorkerOptions = {},
  onLost: OnLost = "fail",
  clock: Clock = hurriedClock,
  form: SinkForm = "mirror",
) {
  const opened = await realState();
  const { state } = opened;
  const sink = new ScriptedSink();
  sink.form = form;
  const entry = await state.bonds.enter(sink.name, { own: undefined, owed: [], reason: "" });
  const earlier = { place: targetOf(sink), bond: { ...entry, obligation: 0 } };
  sink.checkpoint = { ...earlier, position: at(100n), tables: complete({ [users.id]: `${users.fingerprint}/1` }) };
  await state.sinks.setCheckpoint(sink.name, at(100n), {});
  const worker = workerOf(sink, state, options);
  const life = new SinkLife({
    clock,
    worker,
    lease: 1,
    state,
    onLost,
    acknowledged: () => null,
    tables: tableAnswers(),
    news: new News(),
    inVainMsMax: 60_000,
    logger: quietLog,
  });
  const fanOut = new FanOut(at(100n), "m");
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
    clock,
    source,
    main: fanOut,
    goBack: new GoBack(clock, fanOut),
    secondStreamTriesMax: 2,
    snapshot: null,
    answersFor: () => ({ resolve: () => Promise.reject(new Error("no shapes here")), isKnown: () => false }),
  };
  const stopping = new AbortController();
  const feeding = fanOut.run(stream, stopping.signal).catch(() => undefined);
  const running = life.begin(stopping.signal).then(() => life.run(main, stopping.signal));
  return {
    earlier,
    sink,
    worker,
    life,
    fanOut,
    stream,
    streams,
    state,
    hookStream: (hook: typeof onStream) => (onStream = hook),
    hookMark: (hook: typeof onMark) => (onMark = hook),
    joined: () => eventually(() => fanOut.has(worker)),
    covered: (commit: bigint) => eventually(() => (worker.position.covered?.commit ?? 0n) >= commit),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await Promise.all([feeding, running]);
      await opened[Symbol.asyncDispose]();
    },
  };
}

test("the letters of rows that a truncate takes away wait no longer when it is durable: a process may end then", async () => {
  await using scene = await stage();
  const { sink, state, stream } = scene;
  await scene.joined();
  sink.refuses = () => true;
  const waiting = async (): Promise<number> => (await state.deadLetters.list({ state: "waiting" })).length;
  stream.push(blockOf([put(1, 110n)], { until: at(111n) }));
  await scene.covered(111n);
  expect(await waiting()).toBe(1);
  const left: number[] = [];
  sink.after = async ({ kind }) => {
    if (kind === "truncate") left.push(await waiting());
  };
  stream.push(blockOf([{ table: users, op: "t", commit: 120n }], { until: at(121n) }));
  await scene.covered(121n);
  expect(left).toEqual([0]);
});

describe("a sink's work", () => {
  test("is applied in order, with progress behind it, and covers what has nothing for the sink", async () => {
    await using scene = await stage({ wants: (table) => table.id === users.id });
    await scene.joined();
    scene.stream.push(blockOf([put(1, 200n), put(2, 300n)]), blockOf([{ table: users, op: "t", commit: 400n }]));
    scene.stream.push(blockOf([put(3, 500n)]), idle(900n));
    await scene.covered(900n);
    expect(ids(scene.sink)).toEqual([3]);
    expect(scene.sink.checkpoint?.position).toEqual(at(501n));
  });

  test("of form log has no key of a row that a filter may have left out all along: its table is lost", async () => {
    await using scene = await stage({}, "fail", hurriedClock, "log");
    await scene.joined();
    const lineage = COLUMNS.map(([name]) => ({ source: name, target: name, mask: null }));
    const { columns, key, fingerprint } = users;
    const source = { columns, key, fingerprint };
    const ruled = { rules: "r", source, lineage, filtered: true, fault: null };
    const told = async (table: TableVersion, commit: bigint, ...more: readonly Change[]) => {
      const gone = { table, op: "d", before: ["2", null], commit } as const;
      const left = { table, op: "u", after: ["4", UNCHANGED], commit } as const;
      const [one, three, five] = [1, 3, 5].map((id) => ({ ...put(id, commit), table }));
      const block = blockOf([one!, left, gone, three!, { ...left, isIfHeld: true }, five!, ...more]);
      block.op[1] = OP_UNTOLD;
      const before = scene.sink.batches.length;
      scene.stream.push(block);
      await scene.covered(commit + 1n);
      const batches = scene.sink.batches.slice(before);
      const entries = batches.flatMap((batch) => (batch.kind === "checkpoint" && batch.log?.entries) || []);
      return entries.map((entry) => (entry.kind === "rows" ? [entry.from, entry.to] : entry.kind));
    };
    const table = { ...users, ruled };
    const doubted = { table, op: "d", before: ["6", null], beforeKind: "doubted", commit: 200n } as const;
    expect(await told(table, 200n, doubted)).toEqual([[0, 1], [2, 4], [5, 6], "lost"]);
    // The key alone says that such a row was never left out.
    expect(await told({ ...users, ruled: { ...ruled, filteredByKey: true } }, 300n)).toEqual([[0, 6]]);
  });

  test("of form log passes no rename without telling it, wherever a process ends or a reader begins", async () => {
    await using scene = await stage({}, "fail", hurriedClock, "log");
    const { fanOut, sink, stream } = scene;
    await scene.joined();
    const rename = (commit: bigint): void =>
      fanOut.rename([{ from: "public.people", to: users.id, columns: [], how: "renamed" }], at(commit));
    // A write takes long, and what comes meanwhile has no rows.
    const written = Promise.withResolvers<void>();
    sink.before = () => written.promise;
    stream.push(blockOf([put(1, 200n)], { until: at(201n) }), idle(300n));
    await eventually(() => fanOut.position.commit === 300n);
    for (const commit of [310n, 320n]) rename(commit);
    stream.push(idle(400n));
    await eventually(() => fanOut.position.commit === 400n);
    written.resolve();
    for (const commit of [505n, 605n, 625n]) rename(commit);
    const emptied: Change = { table: users, op: "t", commit: 600n };
    stream.push(blockOf([put(2, 500n), put(3, 510n), emptied, put(4, 620n)], { until: at(700n) }));
    await scene.covered(700n);
    const logged = sink.batches.flatMap((batch) => {
      if (batch.kind !== "checkpoint" || batch.log === undefined) return [];
      const renamed = batch.log.entries.flatMap((one) => (one.kind === "renamed" ? [one.commit] : []));
      return [{ from: batch.log.from.commit, until: batch.checkpoint.position.commit, renamed }];
    });
    const passing = logged.map(({ from, until, renamed }) => {
      const passed = [310n, 320n, 505n, 605n, 625n].filter((commit) => from <= commit && commit < until);
      return { passed, renamed };
    });
    expect(passing.map(({ passed }) => passed)).toEqual(passing.map(({ renamed }) => renamed));
    expect(passing.flatMap(({ renamed }) => renamed)).toEqual([310n, 320n, 505n, 605n, 625n]);
  });

  test("with a delay comes in fewer, larger batches; what fills a batch does not wait", async () => {
    const slept: number[] = [];
    const awake = Promise.withResolvers<void>();
    const sleep = async (ms: number) => {
      slept.push(ms);
      await awake.promise;
    };
    const limits = { rowCountMax: 3, byteCountMax: 1024 ** 2, delayMs: 60_000 };
    await using scene = await stage({ limits, clock: { ...systemClock, sleep } });
    let batchCount = 0;
    scene.sink.before = () => void batchCount++;
    await scene.joined();
    scene.stream.push(blockOf([put(1, 200n), put(2, 200n), put(3, 200n)]));
    await scene.covered(201n);
    scene.stream.push(blockOf([put(4, 300n)]));
    await eventually(async () => expect(slept).toEqual([expect.closeTo(60_000, -4)]));
    scene.stream.push(blockOf([put(5, 400n)]));
    await eventually(async () => expect(scene.worker.queue.length).toBe(2));
    const before = batchCount;
    awake.resolve();
    await scene.covered(401n);
    expect(ids(scene.sink)).toEqual([1, 2, 3, 4, 5]);
    expect(batchCount).toBe(before + 1);
    scene.stream.push(blockOf([put(6, 500n), put(7, 500n), put(8, 500n)]));
    await scene.covered(501n);
    expect(slept).toHaveLength(1);
  });

  test("with a delay waits no longer than until a batch is full", async () => {
    const slept: number[] = [];
    const sleep = async (ms: number, ...signals: readonly AbortSignal[]) => {
      slept.push(ms);
      await abortOf(AbortSignal.any([...signals]));
    };
    const limits = { rowCountMax: 3, byteCountMax: 1024 ** 2, delayMs: 60_000 };
    await using scene = await stage({ limits, clock: { ...systemClock, sleep } });
    await scene.joined();
    scene.stream.push(blockOf([put(1, 200n), put(2, 200n), put(3, 200n)]));
    await scene.covered(201n);
    scene.stream.push(blockOf([put(4, 300n)]));
    await eventually(() => expect(slept).toHaveLength(1));
    scene.stream.push(blockOf([put(5, 400n)]), blockOf([put(6, 500n)]));
    await scene.covered(501n);
    expect(ids(scene.sink)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("with a delay does not wait for what can't come into its batch: rows of another shape, or a truncate", async () => {
    const slept: number[] = [];
    const sleep = async (ms: number, ...signals: readonly AbortSignal[]) => {
      slept.push(ms);
      await abortOf(AbortSignal.any([...signals]));
    };
    const limits = { rowCountMax: 1_000, byteCountMax: 1024 ** 2, delayMs: 60_000 };
    await using scene = await stage({ limits, clock: { ...systemClock, sleep } });
    await scene.joined();
    const put2 = (id: number, commit: bigint): Change => ({
      table: altered,
      op: "c",
      after: [String(id), "x", null],
      commit,
    });
    scene.stream.push(blockOf([put(1, 200n)]));
    await scene.covered(201n);
    scene.stream.push(blockOf([put(2, 300n)]));
    await eventually(() => expect(slept).toHaveLength(1));
    scene.stream.push(blockOf([put2(3, 400n)]), blockOf([{ table: altered, op: "t", commit: 500n }]), idle(600n));
    await scene.covered(501n);
  });

  test("that was done before is passed over, also where it ends inside a block", async () => {
    await using scene = await stage();
    await scene.joined();
    scene.worker.begin(checkpointOf(at(300n, 1)), at(300n, 1));
    scene.stream.push(blockOf([put(1, 200n), put(2, 300n), put(3, 300n), put(4, 400n)]));
    await scene.covered(401n);
    expect(ids(scene.sink)).toEqual([3, 4]);
  });

  test("that fails is not covered by what the log brings next", async () => {
    await using opened = await realState();
    const sink = new ScriptedSink();
    const worker = workerOf(sink, opened.state);
    worker.begin(checkpointOf(at(100n)), at(100n));
    sink.before = () => {
      throw new MillraceError({ code: "MR3999", kind: "fatal", message: "it can't be" });
    };
    const fanOut = new FanOut(at(100n), "m");
    fanOut.attach(worker);
    const stream = new ScriptedStream();
    stream.push(blockOf([put(1, 200n)]), idle(900n));
    const run = worker.run(new AbortController().signal);
    await fanOut.run(stream, new AbortController().signal, () => fanOut.position.commit === 201n);
    await expect(run).rejects.toThrow("it can't be");
    // Its life has not taken it off the fan-out yet when this comes.
    await fanOut.run(stream, new AbortController().signal, () => fanOut.position.commit === 900n);
    expect([worker.queue.length, worker.position.covered]).toEqual([0, at(100n)]);
  });

  test("that comes while a step is in flight is made ready, a whole batch of it", async () => {
    await using scene = await stage({ limits: { rowCountMax: 2, byteCountMax: 1 << 20 } });
    await scene.joined();
    const answered = gate();
    let begunCount = 0;
    scene.sink.before = async () => {
      begunCount++;
      await answered.passed;
    };
    scene.stream.push(blockOf([put(1, 200n)]));
    await eventually(() => begunCount === 1);
    scene.stream.push(blockOf([put(2, 300n)]));
    await eventually(() => scene.fanOut.position.commit === 301n);
    await turn();
    expect(scene.sink.staged).toEqual([]);
    scene.stream.push(...[3, 4, 5, 6].map((id) => blockOf([put(id, BigInt(id) * 1000n)])));
    await eventually(() => scene.sink.staged.length > 0);
    expect([scene.sink.staged.length, scene.worker.idle]).toEqual([1, false]);
    answered.open();
    await scene.covered(6001n);
    expect(ids(scene.sink)).toEqual([1, 2, 3, 4, 5, 6]);
    const batches = scene.sink.batches.flatMap((batch) => (batch.kind === "rows" ? [batch.tables] : []));
    expect(scene.sink.staged.every((tables) => batches.includes(tables))).toBe(true);
    expect(batches.map((tables) => tables[0]!.count)).toEqual([1, 2, 2, 1]);
  });

  test("that meets a defect in the rows of one table goes on without that table", async () => {
    const suspended = new Map<string, string>();
    await using scene = await stage({
      wants: (table) => !suspended.has(table.id),
      suspend: async (id, error) => void suspended.set(id, error.code),
    });
    await scene.joined();
    // No array has so many elements: the key's columns can't be noted.
    const broken = { ...users, id: "public.broken", table: "broken", key: [-5] };
    const change = { table: broken, op: "c", after: ["1", "x"], commit: 200n } as const;
    scene.stream.push(
      blockOf([put(1, 200n), change, put(2, 200n)]),
      blockOf([put(3, 300n), { ...change, commit: 300n }]),
    );
    await scene.covered(301n);
    expect([ids(scene.sink), [...suspended]]).toEqual([[1, 2, 3], [["public.broken", "MR1304"]]]);
    expect(scene.life.error).toBeNull();
  });

  test("on a version of a table without a key is passed over", async () => {
    await using scene = await stage();
    await scene.joined();
    const keyless = { ...users, id: "public.keyless", table: "keyless", key: [] };
    const change = { table: keyless, op: "c", after: ["1", "x"], commit: 200n } as const;
    scene.stream.push(blockOf([change, put(1, 200n), change]));
    await scene.covered(201n);
    expect(ids(scene.sink)).toEqual([1]);
  });

  test("passes a change that it skips only after the sink has forgotten that it holds the table", async () => {
    const other = { ...users, id: "public.other", table: "other" };
    const keyless = { ...users, id: "public.keyless", table: "keyless", key: [] };
    const emptied = { ...users, id: "public.emptied", table: "emptied" };
    for (const skipped of [other, keyless, emptied]) {
      await using scene = await stage({ wants: ({ id }) => id === users.id });
      await scene.joined();
      const held = complete({
        [users.id]: `${users.fingerprint}/1`,
        [skipped.id]: `${skipped.fingerprint}/1`,
        "public.quiet": "x/1",
      });
      scene.worker.begin(checkpointOf(at(100n), held), at(100n));
      const isTruncate = skipped === emptied;
      scene.stream.push(
        blockOf([isTruncate ? { table: skipped, op: "t", commit: 200n } : { ...put(1, 200n), table: skipped }]),
      );
      await scene.covered(isTruncate ? 200n : 201n);
      expect(Object.keys(scene.sink.checkpoint?.tables ?? {})).toEqual([users.id, "public.quiet"]);
      expect(scene.sink.checkpoint?.position).toEqual(at(100n));
    }
  });

  test("that was made ready is compacted again where the table is not wanted any more", async () => {
    const unwanted = new Set<string>();
    await using scene = await stage({
      limits: { rowCountMax: 2, byteCountMax: 1 << 20 },
      wants: (table) => !unwanted.has(table.id),
    });
    await scene.joined();
    const answered = gate();
    scene.sink.before = async () => await answered.passed;
    scene.stream.push(blockOf([put(1, 200n)]), blockOf([put(2, 300n), put(3, 300n)]));
    await eventually(() => scene.sink.staged.length === 1);
    unwanted.add(users.id);
    answered.open();
    await scene.covered(301n);
    expect(ids(scene.sink)).toEqual([1]);
  });

  test("that was made ready waits for its turn behind a step that is tried again, and goes with its sink", async () => {
    await using scene = await stage({ limits: { rowCountMax: 2, byteCountMax: 1 << 20 } });
    await scene.joined();
    let attempts = 0;
    scene.sink.before = async () => {
      if (attempts++ > 0) return;
      await eventually(() => scene.sink.staged.length === 1);
      throw outage();
    };
    scene.stream.push(blockOf([put(1, 200n)]), blockOf([put(2, 300n), put(3, 300n)]));
    await scene.covered(301n);
    expect([ids(scene.sink), attempts]).toEqual([[1, 2, 3], 3]);

    const held = gate();
    scene.sink.before = async () => await held.passed;
    scene.stream.push(blockOf([put(4, 400n)]), blockOf([put(5, 500n), put(6, 500n)]));
    await eventually(() => scene.sink.staged.length === 2);
    scene.fanOut.detach(scene.worker);
    held.open();
    await eventually(() => scene.worker.idle);
    expect([scene.worker.queue.heldBytes, ids(scene.sink)]).toEqual([0, [1, 2, 3, 4]]);
  });

  test("whose answer was lost is not done twice", async () => {
    await using scene = await stage();
    await scene.joined();
    let lost = 0;
    scene.sink.after = () => {
      if (lost++ === 0) throw outage();
    };
    scene.stream.push(blockOf([put(1, 200n)]));
    await scene.covered(201n);
    expect(scene.sink.batches.filter(({ kind }) => kind === "rows")).toHaveLength(1);
  });

  test("goes on from what the sink holds when it was set back between two attempts", async () => {
    await using scene = await stage();
    await scene.joined();
    scene.stream.push(blockOf([put(1, 200n)]));
    await scene.covered(201n);
    await scene.state.sinks.setCheckpoint(scene.sink.name, at(201n), {});
    let failures = 0;
    scene.sink.before = () => {
      if (failures++ > 0) return;
      // Emptied and restored to an older copy while it was away.
      scene.sink.tables.clear();
      scene.sink.checkpoint = { ...scene.earlier, position: at(150n), tables: {} };
      throw outage();
    };
    scene.stream.push(blockOf([put(2, 300n)]), idle(400n));
    await eventually(() => scene.streams.length > 0);
    scene.streams[0]!.push(blockOf([put(1, 200n)]), blockOf([put(2, 300n)]), idle(400n));
    await scene.joined();
    expect(ids(scene.sink)).toEqual([1, 2]);
  });

  test("is not repeated over a later copy that was put in the sink's place between two attempts", async () => {
    await using scene = await stage();
    await scene.joined();
    scene.stream.push(blockOf([put(1, 200n)]));
    await scene.covered(201n);
    let failures = 0;
    scene.sink.before = () => {
      if (failures++ > 0) return;
      scene.sink.checkpoint = { ...scene.earlier, position: at(350n), tables: {} };
      throw outage();
    };
    scene.stream.push(blockOf([put(2, 300n)]), idle(400n));
    await eventually(() => scene.streams.length > 0);
    scene.streams[0]!.push(blockOf([put(3, 360n)]), idle(400n));
    await scene.joined();
    expect(ids(scene.sink)).toEqual([1, 3]);
  });

  test("of another shape of a table that the sink held: that it holds it is forgotten before the target follows", async () => {
    const added = tableVersion({ table: "users", columns: [...COLUMNS, ["more", "text"]], key: ["id"], version: 2 });
    let changedCount = 0;
    await using scene = await stage({ changed: () => void changedCount++ });
    await scene.joined();
    const followed: unknown[] = [];
    scene.sink.prepare = async ([table]) => void followed.push([table?.version, scene.sink.checkpoint?.tables]);
    scene.stream.push(blockOf([{ table: added, op: "c", after: ["1", "new", "x"], commit: 200n }]));
    await scene.covered(201n);
    expect(followed).toEqual([[2, {}]]);
    expect(changedCount).toBe(1);
  });

  test("lists the keys of moved rows while the sink does not hold the whole table", async () => {
    await using scene = await stage();
    await scene.joined();
    scene.worker.begin(checkpointOf(at(100n)), at(100n));
    scene.stream.push(
      blockOf([
        { table: users, op: "c", after: ["1", "stale"], commit: 200n },
        { table: users, op: "t", commit: 210n },
        { table: users, op: "u", after: ["3", UNCHANGED], before: ["2", null], commit: 220n },
      ]),
    );
    await scene.covered(221n);
    expect((await scene.state.snapshots.keys([scene.sink.name], null, 10)).map(({ key }) => key)).toEqual([["3"]]);
  });

  test("of a table that the sink does not take is no sweep", async () => {
    let takes = true;
    await using scene = await stage({ wants: (_table: TableVersion) => takes });
    await scene.joined();
    scene.stream.push(blockOf([put(1, 200n)]));
    await scene.covered(201n);
    takes = false;
    const receipts = new Receipts(1);
    scene.fanOut.push(scene.worker, { kind: "sweep", table: users, below: 1n << 60n, receipt: receipts.one() });
    expect(await receipts.all).toBe(false);
    expect(ids(scene.sink)).toEqual([1]);
  });
});

describe("a sink that was away", () => {
  test("catches up by a stream of its own and is handed over without loss or repetition", async () => {
    await using scene = await stage();
    await scene.joined();
    await scene.life.pause();
    await eventually(() => scene.life.state === "paused");
    // A second sink keeps the main fan-out going.
    const other = workerOf(new ScriptedSink("other"), scene.state);
    other.begin(checkpointOf(at(100n)), at(100n));
    scene.fanOut.attach(other);
    const log = Array.from({ length: 20 }, (_, i) => put(i, BigInt(200 + i * 10)));
    for (const change of log.slice(0, 10)) scene.stream.push(blockOf([change]));
    await eventually(() => (other.queue.clear(), scene.fanOut.attach(other), scene.fanOut.position.commit >= 291n));
    await scene.life.resume();
    await eventually(() => scene.streams.length === 1);
    // The joint is where the main fan-out stands now; both streams carry what lies around it.
    const own = scene.streams[0]!;
    scene.stream.push(...log.slice(10, 15).map((change) => blockOf([change])));
    own.push(...log.slice(0, 12).map((change) => blockOf([change])));
    own.push(idle(312n));
    await scene.joined();
    for (const change of log.slice(15)) scene.stream.push(blockOf([change]));
    scene.stream.push(idle(2000n));
    await eventually(
      () => (other.queue.clear(), scene.fanOut.attach(other), (scene.worker.position.covered?.commit ?? 0n) >= 2000n),
    );
    expect(ids(scene.sink)).toEqual(log.map((_, i) => i));
    const written = scene.sink.batches.flatMap((batch) =>
      batch.kind === "rows" ? batch.tables.map(({ count }) => count) : [],
    );
    expect(written.reduce((sum, count) => sum + count, 0)).toBe(log.length);
    expect(own.isClosed).toBe(true);
  });

  test("is handed over once it has worked off what its own stream brought, though nothing more comes", async () => {
    await using scene = await stage();
    await scene.joined();
    await scene.life.pause();
    await eventually(() => scene.life.state === "paused");
    const other = workerOf(new ScriptedSink("other"), scene.state);
    other.begin(checkpointOf(at(100n)), at(100n));
    scene.fanOut.attach(other);
    // Far enough from where the sink was left.
    scene.stream.push(idle(9_000_000n));
    await eventually(() => scene.fanOut.position.commit === 9_000_000n);
    const [writing, answered] = [gate(), gate()];
    scene.sink.before = () => (writing.open(), answered.passed);
    await scene.life.resume();
    await eventually(() => scene.streams.length === 1);
    const own = scene.streams[0]!;
    own.push(blockOf([put(1, 200n)]));
    await writing.passed;
    own.push(blockOf([put(2, 300n)]), blockOf([put(3, 400n)]), blockOf([put(4, 500n)]), idle(9_000_000n));
    await eventually(() => scene.worker.queue.length === 3);
    await turn();
    answered.open();
    await scene.joined();
    await eventually(() => scene.sink.checkpoint?.position.commit === 501n);
    expect(ids(scene.sink)).toEqual([1, 2, 3, 4]);
    expect(own.isClosed).toBe(true);
  });

  test("is given what both streams carried once, also where both lie in one batch", async () => {
    await using scene = await stage();
    await scene.joined();
    scene.worker.begin(checkpointOf(at(100n), complete({ [users.id]: `${users.fingerprint}/1` })), at(100n));
    const moved: readonly Change[] = [
      put(1, 200n),
      { table: users, op: "u", after: ["2", UNCHANGED], before: ["1", null], commit: 210n },
      put(1, 210n),
    ];
    const busy = gate();
    scene.sink.before = () => busy.passed;
    scene.stream.push(blockOf([put(9, 150n)]));
    await eventually(() => scene.fanOut.position.commit === 151n && scene.worker.queue.length === 0);
    // As a hand-over leaves it: the end of one stream, and the other from a place before that end.
    const queue = (changes: readonly Change[]) =>
      scene.worker.queue.push({ kind: "rows", block: blockOf(changes), from: 0, to: changes.length });
    queue(moved);
    queue(moved.slice(0, 1));
    busy.open();
    await scene.covered(211n);
    const written = scene.sink.batches.flatMap((batch) =>
      batch.kind === "rows" ? batch.tables.map((t) => t.count) : [],
    );
    expect(written.slice(1)).toEqual([2]);
    expect(scene.sink.checkpoint?.position).toEqual(at(211n));
  });

  test("leaves nothing behind that could detach it from its next attempt", async () => {
    await using scene = await stage();
    await scene.joined();
    await scene.life.pause();
    await eventually(() => scene.life.state === "paused");
    scene.fanOut.attach(scene.worker);
    scene.stream.push(idle(900n));
    await eventually(() => scene.fanOut.position.commit === 900n);
    scene.fanOut.detach(scene.worker);
    scene.worker.begin(checkpointOf(at(100n)), at(100n));
    // The mark of the first attempt takes its time, whatever is aborted meanwhile.
    const slow = gate();
    scene.hookMark(() => slow.passed);
    await scene.life.resume();
    await eventually(() => scene.streams.length === 1);
    scene.life.detach();
    scene.hookMark(() => undefined);
    // Time enough for a second attempt to join, if it does not wait for the first to end.
    for (let i = 0; i < 200 && !scene.fanOut.has(scene.worker); i++) {
      if (i === 50) scene.streams[1]?.push(idle(950n));
      await turn();
    }
    slow.open();
    await eventually(() => scene.streams.length === 2);
    scene.streams[1]!.push(idle(950n));
    await scene.joined();
    for (let i = 0; i < 10; i++) await turn();
    expect(scene.fanOut.has(scene.worker)).toBe(true);
    scene.stream.push(blockOf([put(1, 1000n)]));
    await scene.covered(1001n);
    expect(ids(scene.sink)).toEqual([1]);
  });
});

describe("a sink's life", () => {
  test("a paused sink leaves at once, though its step takes its time, and what waited is let go", async () => {
    await using scene = await stage();
    await scene.joined();
    const busy = gate();
    scene.sink.before = () => busy.passed;
    let released = 0;
    const counted = (id: number, commit: bigint) => blockOf([put(id, commit)], { onRelease: () => released++ });
    scene.stream.push(counted(1, 200n));
    await eventually(() => scene.fanOut.position.commit === 201n && scene.worker.queue.length === 0);
    scene.stream.push(counted(2, 300n), counted(3, 400n));
    await eventually(() => scene.worker.queue.length === 2);
    await scene.life.pause();
    expect(scene.fanOut.has(scene.worker)).toBe(false);
    expect(released).toBe(2);
    busy.open();
    await eventually(() => scene.life.state === "paused" && released === 3);
    expect(scene.worker.position.covered).toEqual(at(201n));
    expect((await scene.state.sinks.get(scene.sink.name))?.paused).toBe(true);
  });

  test.each(["paused", "retrying", "failed"] as const)(
    "one that was %s and is resumed is starting for as long as its target does not answer",
    async (before) => {
      await using scene = await stage();
      await scene.joined();
      const { life, sink } = scene;
      sink.onOpen = () => {
        throw outage().with({ kind: before === "failed" ? "fatal" : "retryable" });
      };
      await (before === "paused" ? life.pause() : life.detach());
      await eventually(() => life.state === before);
      const [asked, answered] = [gate(), gate()];
      sink.onOpen = () => (asked.open(), answered.passed);
      await life.resume();
      await asked.passed;
      const { state, error } = life;
      answered.open();
      expect({ state, error }).toEqual({ state: "starting", error: null });
      await scene.joined();
      expect(life.state).toBe("streaming");
    },
  );

  test("one that fails is tried again, ever more rarely, until it works", async () => {
    await using scene = await stage();
    await scene.joined();
    let failures = 0;
    scene.sink.onOpen = () => {
      if (failures++ < 3) throw outage();
    };
    scene.life.detach();
    await eventually(() => failures > 3 && scene.fanOut.has(scene.worker));
    expect(scene.life.error).toBeNull();
    expect(scene.life.state).toBe("streaming");
  });

  test("one that stores what it holds before it goes on knows that checkpoint as its own", async () => {
    await using scene = await stage();
    await scene.joined();
    const { sink, life, worker, fanOut } = scene;
    // Its tables have other names from here on.
    sink.onOpen = () => void (sink.target = ({ schema, table }) => `other.${schema}.${table}`);
    life.detach();
    await eventually(() => sink.checkpoint?.place === targetOf(sink) && fanOut.has(worker));
    expect(worker.position.stored).toEqual(sink.checkpoint);
    sink.onOpen = () => undefined;
    const { opens } = sink;
    let isAway = true;
    sink.before = () => {
      if (!isAway) return;
      isAway = false;
      throw outage();
    };
    scene.stream.push(blockOf([put(7, 300n)]));
    await eventually(() => ids(sink).includes(7));
    expect(sink.opens).toBe(opens + 1);
    expect(life).toMatchObject({ state: "streaming", error: null });
  });

  test("to resume one that streams disturbs nothing", async () => {
    await using scene = await stage();
    await scene.joined();
    await scene.life.resume();
    await turn();
    expect(scene.fanOut.has(scene.worker)).toBe(true);
    expect(scene.sink.opens).toBe(1);
  });

  test("one that does not answer is asked again at least every two seconds", async () => {
    const waitsMs: number[] = [];
    const sleep = async (ms: number, ...signals: readonly AbortSignal[]) => {
      waitsMs.push(ms);
      await systemClock.sleep(1, ...signals);
    };
    await using scene = await stage({}, "fail", { ...systemClock, sleep });
    await scene.joined();
    let attempts = 0;
    scene.sink.onOpen = () => {
      attempts++;
      throw outage();
    };
    scene.life.detach();
    await eventually(() => attempts > 12);
    // Waits that doubled to the end would take minutes.
    expect(Math.max(...waitsMs)).toBeLessThanOrEqual(2_000);
    expect(scene.life.needsPerson).toBe(false);
  });

  test("one that waits for somebody at its target is tried again, and says so meanwhile", async () => {
    await using scene = await stage();
    await scene.joined();
    scene.sink.onOpen = () => {
      throw new MillraceError({ code: "MR3999", kind: "blocked", message: "it refuses the password" });
    };
    scene.life.detach();
    await eventually(() => scene.life.needsPerson);
    expect([scene.life.state, scene.life.error?.code]).toEqual(["retrying", "MR3999"]);
    scene.sink.onOpen = () => undefined;
    await scene.joined();
    expect([scene.life.needsPerson, scene.life.error]).toEqual([false, null]);
  });

  test("one that was emptied is new where it may be read again", async () => {
    await using scene = await stage({}, "resync");
    await scene.joined();
    scene.sink.checkpoint = null;
    scene.life.detach();
    await eventually(() => scene.worker.position.stored === null && scene.fanOut.has(scene.worker));
    expect([scene.life.state, scene.worker.position.tables]).toEqual(["streaming", {}]);
  });

  test("one that failed for good waits for an operator", async () => {
    await using scene = await stage();
    await scene.joined();
    scene.sink.checkpoint = null;
    scene.life.detach();
    await eventually(() => scene.life.state === "failed");
    expect(scene.life.error?.code).toBe("MR1301");
    scene.sink.checkpoint = { ...scene.earlier, position: at(100n), tables: {} };
    await scene.life.resume();
    await scene.joined();
    expect(scene.life.error).toBeNull();
  });
});
