/** Reads beside the stream that the source refuses for one table. */
import { expect, test, vi } from "vitest";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { SqliteSnapshots } from "../../src/state/sqlite/stores/snapshots.ts";
import type { Pipeline } from "../../src/runtime/pipeline.ts";
import { Control } from "../../src/runtime/control/control.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { tableVersion } from "../support/model/blocks.ts";
import type { Row } from "../support/model/log-model.ts";
import { gate, outage, realState, ScriptedSink } from "../support/model/scripted.ts";
import { ScriptedSource } from "../support/model/scripted-source.ts";
import { eventually } from "../support/run/waiting.ts";
import { pipelineOf } from "../support/model/pipelines.ts";

const columns = [
  ["id", "int4"],
  ["name", "text"],
] as const;
const held = tableVersion({ table: "held", columns, key: ["id"] });
const free = tableVersion({ table: "free", columns, key: ["id"] });
const ROW_COUNT = 20;
const rows = Array.from({ length: ROW_COUNT }, (_, i): Row => [String(i), `n${i}`]);
const TAKES = {
  limits: { rowCountMax: 1000, byteCountMax: 1 << 20 },
  onPoison: "deadLetter",
  takes: () => true,
} as const;

class Scene implements AsyncDisposable {
  readonly state: StateStore;
  readonly source: ScriptedSource;
  readonly pipeline: Pipeline;
  readonly sinks: readonly (typeof TAKES & { readonly sink: ScriptedSink })[];
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;

  private constructor(state: StateStore, sinks: readonly string[], tables: readonly TableVersion[] = [held, free]) {
    this.state = state;
    this.source = new ScriptedSource([...tables]);
    for (const table of tables) this.source.fill(table, rows);
    this.sinks = sinks.map((name) => ({ sink: new ScriptedSink(name), ...TAKES }));
    this.pipeline = pipelineOf({ source: this.source, state, sinks: this.sinks });
    this.#running = this.pipeline.run(this.#stopping.signal);
  }

  /** The sinks are filled, and everything is read in chunks of one row from here on. */
  static async start(state: StateStore, sinks: readonly string[], tables?: readonly TableVersion[]): Promise<Scene> {
    const scene = new Scene(state, sinks, tables);
    await eventually(
      () => scene.pipeline.facts.phase === "streaming" && scene.pipeline.facts.unfinishedSnapshots === 0,
    );
    scene.source.chunkSize = 1;
    return scene;
  }

  async readAgain(sink: string, table: TableVersion, where: string | null = null): Promise<void> {
    await this.pipeline.snapshot(sink, [table.id], where, "asked for");
  }

  async states(table: TableVersion): Promise<readonly string[]> {
    const asked = (await this.pipeline.snapshots(true)).filter(({ tableId }) => tableId === table.id);
    return asked.map(({ state }) => state);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }
}

/** Holds the rows that a sink gets next. */
class HeldBatch implements Disposable {
  readonly #begun = gate();
  readonly #released = gate();

  constructor(sink: ScriptedSink) {
    sink.before = async ({ kind }) => {
      if (kind !== "rows") return;
      this.#begun.open();
      await this.#released.passed;
    };
  }

  get begun(): Promise<void> {
    return this.#begun.passed;
  }

  release(): void {
    this.#released.open();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

test("others are read while an attempt waits; the table is named until a read of it works", async () => {
  await using opened = await realState();
  await using scene = await Scene.start(opened.state, ["a", "b"]);
  const { source, pipeline } = scene;
  const released = gate();
  // Also where the test fails: nothing that was begun is left behind.
  using _ = { [Symbol.dispose]: released.open };
  let attempts = 0;
  source.onRead = async ({ id }) => {
    if (id !== held.id) return;
    if (attempts++ === 0) throw outage("somebody has locked it");
    await released.passed;
  };
  for (const sink of ["a", "b"]) await scene.readAgain(sink, held);
  await eventually(() => attempts === 2);
  await scene.readAgain("a", free);
  await eventually(async () => expect(await scene.states(free)).toEqual(["done"]));
  expect(attempts).toBe(2);
  expect(pipeline.facts.unreadable).toMatchObject([
    { table: held.id, sinks: ["a", "b"], error: { message: "somebody has locked it" } },
  ]);
  expect(await pipeline.snapshots(false)).toMatchObject([
    { tableId: held.id, error: { message: "somebody has locked it" } },
    { tableId: held.id, error: { message: "somebody has locked it" } },
  ]);
  released.open();
  await eventually(async () => expect(await scene.states(held)).toEqual(["done", "done"]));
  expect(pipeline.facts.unreadable).toEqual([]);
  await eventually(() => source.chunks.released === source.chunks.given);
});

test("a source that answers nothing is no matter of the table whose turn it was", async () => {
  await using opened = await realState();
  await using scene = await Scene.start(opened.state, ["a"]);
  const { source, pipeline } = scene;
  const { log } = source;
  const failed = gate();
  source.onRead = () => {
    throw outage();
  };
  const tip = async () => {
    failed.open();
    throw outage();
  };
  source.log = { ...log, tip };
  await scene.readAgain("a", held);
  await failed.passed;
  expect(pipeline.facts.unreadable).toEqual([]);
  Object.assign(source, { log, onRead: () => undefined });
  await eventually(async () => expect(await scene.states(held)).toEqual(["done"]));
  expect(pipeline.facts.unreadable).toEqual([]);
});

test("a table that nobody wants any more is named no more", async () => {
  await using opened = await realState();
  await using scene = await Scene.start(opened.state, ["a"]);
  const { source, pipeline } = scene;
  source.onRead = () => {
    throw outage();
  };
  await scene.readAgain("a", held);
  await eventually(() => pipeline.facts.unreadable.length === 1);
  const [asked] = await pipeline.snapshots(false);
  expect(await opened.state.snapshots.cancel([asked!.id])).toEqual([asked!.id]);
  await eventually(() => pipeline.facts.unreadable.length === 0);
});

test("listed keys of a table that can't be read do not stand before those of another", async () => {
  await using opened = await realState();
  const { snapshots } = opened.state;
  await using scene = await Scene.start(opened.state, ["a"]);
  const { source, pipeline } = scene;
  source.onRead = ({ id }) => {
    if (id === held.id) throw outage();
  };
  const keys = Array.from({ length: 2_000 }, (_, i) => [String(i)]);
  await snapshots.addKeys("a", held.id, keys);
  await snapshots.addKeys("a", free.id, [["3"]]);
  await eventually(async () => expect(await snapshots.keys(["a"], [free.id], 10)).toEqual([]));
  expect(pipeline.facts.unreadable).toMatchObject([{ table: held.id, sinks: ["a"] }]);
  source.onRead = () => undefined;
  await eventually(async () => expect((await snapshots.countKeys()).size).toBe(0));
  expect(pipeline.facts.unreadable).toEqual([]);
});

test("a sink owes no read for what is listed for another one, or for another table", async () => {
  await using opened = await realState();
  const { snapshots } = opened.state;
  await using scene = await Scene.start(opened.state, ["a", "b"]);
  const { source, pipeline } = scene;
  source.onRead = ({ id }) => {
    if (id === held.id) throw outage();
  };
  await snapshots.addKeys("a", held.id, [["1"]]);
  await scene.readAgain("b", free);
  await eventually(() => expect(["a", "b"].map((sink) => pipeline.owesReads(sink))).toEqual([true, false]));
  const owed = () => [[free.id], [held.id], [free.id, held.id]].map((tables) => pipeline.owesReads("a", tables));
  expect(owed()).toEqual([false, true, true]);
  source.onRead = () => undefined;
  await eventually(() => expect(pipeline.owesReads("a")).toBe(false));
  source.onRead = ({ id }) => {
    if (id === held.id) throw outage();
  };
  await scene.readAgain("a", held);
  await eventually(() => expect(owed()).toEqual([false, true, true]));
  source.onRead = () => undefined;
  await eventually(() => expect(pipeline.owesReads("a")).toBe(false));
});

test("keys of a table that the sink does not take are dropped, and a letter of one is not read again", async () => {
  await using opened = await realState();
  const { snapshots, deadLetters } = opened.state;
  await using scene = await Scene.start(opened.state, ["a"]);
  const { pipeline } = scene;
  Object.assign(scene.sinks[0]!, { takes: ({ id }: TableVersion) => id !== held.id });
  await snapshots.addKeys("a", held.id, [["1"]]);
  pipeline.readListedKeys();
  await eventually(async () => expect((await snapshots.countKeys()).size).toBe(0));
  await eventually(() => expect(pipeline.owesReads("a")).toBe(false));
  await deadLetters.add({
    sink: "a",
    tableId: held.id,
    key: ["1"],
    op: "u",
    position: { epoch: 1, commit: 1n, index: 0 },
    code: "MR3998",
    reason: "refused",
    envelope: "{}",
  });
  const control = new Control("test", pipeline, quietLog);
  const { signal } = new AbortController();
  const replayed = await control.replayLetters({ ids: null, sink: null }, 60_000, signal);
  expect(replayed).toMatchObject({ replayed: 0, failed: 1 });
});

test("large rows are looked up few at once, small ones soon by the hundred", async () => {
  await using opened = await realState();
  const { snapshots } = opened.state;
  await using scene = await Scene.start(opened.state, ["a"]);
  const { source } = scene;
  const many = Array.from({ length: 600 }, (_, i): Row => [String(i), "n"]);
  const large = Array.from({ length: 30 }, (_, i): Row => [String(i), "n".repeat(2_000_000)]);
  source.fill(free, many);
  source.fill(held, large);
  const counts = new Map<string, number[]>([
    [free.id, []],
    [held.id, []],
  ]);
  const { readKeys } = source.rows;
  source.rows = {
    ...source.rows,
    readKeys: async (table, keys, signal) => {
      counts.get(table.id)!.push(keys.length);
      return await readKeys(table, keys, signal);
    },
  };
  for (const [table, listed] of [
    [free, many],
    [held, large],
  ] as const) {
    const keys = listed.map(([id]) => [id!]);
    await snapshots.addKeys("a", table.id, keys);
  }
  await eventually(async () => expect((await snapshots.countKeys()).size).toBe(0));
  expect(counts.get(free.id)).toEqual([8, 64, 512, 16]);
  expect(counts.get(held.id)).toEqual([8, 4, 4, 4, 4, 4, 2]);
});

test("a part whose condition fails ends with the reason, and keeps its table from nobody", async () => {
  await using opened = await realState();
  await using scene = await Scene.start(opened.state, ["a"]);
  const { source, pipeline } = scene;
  const { rows } = source;
  source.rows = {
    ...rows,
    readRange: async (table, { after, where }, signal) => {
      if (where !== null) throw outage("no such column");
      return await rows.readRange(table, { after, where }, signal);
    },
  };
  await scene.readAgain("a", held, "wrong = 1");
  await scene.readAgain("a", held);
  await eventually(async () => expect(await scene.states(held)).toEqual(["cancelled", "done"]));
  expect(pipeline.facts.unreadable).toEqual([]);
  expect((await pipeline.snapshots(true))[0]).toMatchObject({
    scope: { kind: "where" },
    reason: `MR1323 --where can't be used on ${held.id}: no such column`,
  });
});

test("small tables are read between the same two marks; one that can't be read holds up no other", async () => {
  await using opened = await realState();
  const many = Array.from({ length: 40 }, (_, i) => tableVersion({ table: `t${i}`, columns, key: ["id"] }));
  await using scene = await Scene.start(opened.state, ["a", "b"], [held, ...many]);
  const { source } = scene;
  source.chunkSize = 1_000;
  source.onRead = ({ id }) => {
    if (id === held.id) throw outage("somebody has locked it");
  };
  let marks = 0;
  source.onMark = () => void marks++;
  for (const table of [held, ...many]) for (const sink of ["a", "b"]) await scene.readAgain(sink, table);
  for (const table of many) await eventually(async () => expect(await scene.states(table)).toEqual(["done", "done"]));
  // Twice: what was asked for first is read by itself, the others together while that is on its way.
  expect(marks).toBeLessThan(20);
  expect(scene.pipeline.facts.unreadable).toMatchObject([{ table: held.id, sinks: ["a", "b"] }]);
  for (const { sink } of scene.sinks) for (const table of many) expect(sink.rowsOf(table)).toHaveLength(ROW_COUNT);
  source.onRead = () => undefined;
  await eventually(async () => expect(await scene.states(held)).toEqual(["done", "done"]));
});

test("listed keys of many tables are looked up between the same two marks", async () => {
  await using opened = await realState();
  const { snapshots } = opened.state;
  const many = Array.from({ length: 60 }, (_, i) => tableVersion({ table: `t${i}`, columns, key: ["id"] }));
  await using scene = await Scene.start(opened.state, ["a", "b"], many);
  for (const { id } of many) for (const sink of ["a", "b"]) await snapshots.addKeys(sink, id, [["7"]]);
  let marks = 0;
  scene.source.onMark = () => void marks++;
  scene.pipeline.readListedKeys();
  await eventually(async () => expect((await snapshots.countKeys()).size).toBe(0));
  expect(marks).toBeLessThan(20);
});

test("what is on its way to a sink is not read for it again, however long that takes", async () => {
  await using opened = await realState();
  const many = Array.from({ length: 8 }, (_, i) => tableVersion({ table: `t${i}`, columns, key: ["id"] }));
  await using scene = await Scene.start(opened.state, ["a"], many);
  const { source, pipeline } = scene;
  source.chunkSize = 1_000;
  using batch = new HeldBatch(scene.sinks[0]!.sink);
  const tableIds = many.map(({ id }) => id);
  const reads = many.map(() => 0);
  source.onRead = ({ id }) => void reads[tableIds.indexOf(id)]!++;
  await pipeline.snapshot("a", tableIds, null, "asked for");
  await batch.begun;
  const looks = vi.spyOn(opened.state.snapshots, "list");
  await eventually(() => looks.mock.calls.length > 0);
  batch.release();
  await eventually(() => pipeline.facts.unfinishedSnapshots === 0);
  expect(reads).toEqual(many.map(() => 1));
});

test("while one sink takes its time, another gets row after row", async () => {
  await using opened = await realState();
  const many = Array.from({ length: 40 }, (_, i) => tableVersion({ table: `t${i}`, columns, key: ["id"] }));
  await using scene = await Scene.start(opened.state, ["a", "b"], [free, ...many]);
  const { source, pipeline } = scene;
  source.fill(
    free,
    Array.from({ length: 200 }, (_, i): Row => [String(i), "n"]),
  );
  using batch = new HeldBatch(scene.sinks[1]!.sink);
  const tableIds = many.map(({ id }) => id);
  await pipeline.snapshot("b", tableIds, null, "asked for");
  await batch.begun;
  await scene.readAgain("a", free);
  await eventually(async () => expect(await scene.states(free)).toEqual(["done"]));
});

test("listed keys of a sink that takes its time do not stand before those of another", async () => {
  await using opened = await realState();
  const { snapshots } = opened.state;
  await using scene = await Scene.start(opened.state, ["a", "b"]);
  using batch = new HeldBatch(scene.sinks[1]!.sink);
  const keys = Array.from({ length: 2_000 }, (_, i) => [String(i)]);
  await snapshots.addKeys("b", held.id, keys);
  scene.pipeline.readListedKeys();
  await batch.begun;
  await snapshots.addKeys("a", free.id, [["3"]]);
  scene.pipeline.readListedKeys();
  await eventually(async () => expect(await snapshots.keys(["a"], [free.id], 10)).toEqual([]));
});

test("of thousands of tables to read, each is listed a few times, and many end with one write", async () => {
  await using opened = await realState();
  const { snapshots } = opened.state;
  const tables = Array.from({ length: 1_500 }, (_, i) => tableVersion({ table: `t${i}`, columns, key: ["id"] }));
  await using scene = await Scene.start(opened.state, ["a", "b"], tables);
  scene.source.chunkSize = 1_000;
  let listed = 0;
  const list = vi.spyOn(snapshots, "list").mockImplementation(async (all) => {
    const found = await SqliteSnapshots.prototype.list.call(snapshots, all);
    listed += found.length;
    return found;
  });
  const finished = vi.spyOn(snapshots, "finishAll");
  const tableIds = tables.map(({ id }) => id);
  await scene.pipeline.snapshot("a", tableIds, null, "asked for");
  await scene.pipeline.snapshot("b", tableIds, null, "asked for");
  await eventually(() => scene.pipeline.facts.unfinishedSnapshots === 0);
  list.mockRestore();
  expect(listed / (2 * tables.length), "how often each was listed").toBeLessThan(8);
  expect(finished.mock.calls.length, "writes that end reads").toBeLessThan(tables.length / 10);
});
