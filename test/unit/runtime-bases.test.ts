/** What a change leaves unchanged is never taken for good from a row that the sink may hold in an older state. */
import { describe, expect, test } from "vitest";
import type { TableWrites } from "../../src/core/model/batch.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { DISCARD } from "../../src/runtime/control/replay.ts";
import type { Pipeline } from "../../src/runtime/pipeline.ts";
import { type Change, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { cellsOf, type Row } from "../support/model/log-model.ts";
import { gate, type OpenedState, realState, ScriptedSink } from "../support/model/scripted.ts";
import { ScriptedSource } from "../support/model/scripted-source.ts";
import { eventually } from "../support/run/waiting.ts";
import { lenient, pipelineOf } from "../support/model/pipelines.ts";

const columns = [
  ["id", "int4"],
  ["name", "text"],
  ["body", "text"],
] as const;
const users = tableVersion({ table: "users", columns, key: ["id"] });

/** A source with a table, one sink that holds it, and the pipeline between them. */
class Stage implements AsyncDisposable {
  readonly source = new ScriptedSource([users]);
  readonly sink = new ScriptedSink("s");
  pipeline: Pipeline;
  readonly opened: OpenedState;
  #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  private constructor(opened: OpenedState) {
    this.opened = opened;
    this.pipeline = this.#pipeline();
  }

  static async with(rows: readonly Row[]): Promise<Stage> {
    const stage = new Stage(await realState());
    stage.source.fill(users, rows);
    stage.#start();
    await stage.same();
    return stage;
  }

  #pipeline(): Pipeline {
    const sinks = lenient([this.sink]);
    return pipelineOf({ source: this.source, state: this.opened.state, sinks, heartbeatMs: 20 });
  }

  #start(): void {
    this.#running = this.pipeline.run(this.#stopping.signal);
    this.#running.catch(() => undefined);
  }

  /** Another process goes on. */
  async restart(): Promise<void> {
    this.#stopping.abort();
    await this.#running.catch(() => undefined);
    this.#stopping = new AbortController();
    this.pipeline = this.#pipeline();
    this.#start();
  }

  async discard(): Promise<void> {
    const { deadLetters } = this.opened.state;
    const waiting = await deadLetters.list({ state: "waiting" });
    await deadLetters.settle(
      waiting.map(({ id }) => id),
      DISCARD,
    );
  }

  update(id: number, name: string, body: string | typeof UNCHANGED): void {
    this.source.commit({ table: users, op: "u", after: [String(id), name, body] });
  }

  move(id: number, to: number, name: string): Change {
    return { table: users, op: "u", after: [String(to), name, UNCHANGED], before: [String(id), null, null] };
  }

  remove(id: number): Change {
    return { table: users, op: "d", before: [String(id), null, null] };
  }

  insert(id: number, name: string, body: string): Change {
    return { table: users, op: "c", after: [String(id), name, body] };
  }

  /** Everything committed so far is in the sink, and nothing is left to be read. */
  async same(): Promise<void> {
    await this.applied();
    await eventually(() => {
      expect(this.pipeline.facts.unfinishedSnapshots).toBe(0);
      expect(sorted(this.sink.rowsOf(users))).toEqual(sorted(this.source.rowsOf(users).values()));
    });
  }

  async applied(): Promise<void> {
    const tip = await this.source.log.tip(new AbortController().signal);
    await eventually(() => (this.pipeline.life("s")?.positions.covered?.commit ?? 0n) >= tip);
  }

  async letters(): Promise<string[]> {
    const letters = await this.opened.state.deadLetters.list();
    return letters.map(({ key, state }) => `${key.join()} ${state}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#running.catch(() => undefined);
    await this.opened[Symbol.asyncDispose]();
  }
}

const sorted = (rows: Iterable<Row>) => [...rows].toSorted((a, b) => Number(a[0]) - Number(b[0]));

/** Refuses the rows with this name. */
function refusing(name: string): (writes: TableWrites, entry: number) => boolean {
  return (writes, entry) => nameOf(writes.table, writes, entry) === name;
}

/** Every row that the sink shows after a batch of rows, from here on. */
function rowsShown(sink: ScriptedSink): ReadonlySet<string> {
  const shown = new Set<string>();
  sink.after = ({ kind }) => {
    if (kind === "rows") for (const row of sink.rowsOf(users)) shown.add(row.join(" "));
  };
  return shown;
}

function nameOf(table: TableVersion, writes: TableWrites, entry: number): unknown {
  const block = writes.blocks[writes.block[entry]!]!;
  const offset = block.after[writes.row[entry]!]!;
  return offset === 0xffff_ffff ? null : cellsOf(table, block.bytes, offset)[1];
}

describe("after a row was refused", () => {
  test("a change that leaves out what the refused one changed ends with the source's row", async () => {
    await using scene = await Stage.with([["1", "good", "old"]]);
    scene.sink.refuses = refusing("bad");
    scene.update(1, "bad", "new");
    await eventually(async () => expect(await scene.letters()).toEqual(["1 waiting"]));
    scene.update(1, "better", UNCHANGED);
    await scene.same();
    expect(sorted(scene.sink.rowsOf(users))).toEqual([["1", "better", "new"]]);
    await eventually(async () => expect(await scene.letters()).toEqual(["1 superseded"]));
  });

  test.each([["at once"], ["by another process"]])(
    "and its letter was discarded, a change that leaves out what it changed shows no row that never was, %s",
    async (how) => {
      await using scene = await Stage.with([["1", "good", "old"]]);
      scene.sink.refuses = refusing("bad");
      scene.update(1, "bad", "new");
      await eventually(async () => expect(await scene.letters()).toEqual(["1 waiting"]));
      await scene.discard();
      if (how !== "at once") await scene.restart();
      const shown = rowsShown(scene.sink);
      scene.update(1, "better", UNCHANGED);
      await scene.same();
      expect(shown).toEqual(new Set(["1 better new"]));
      expect(await scene.letters()).toEqual(["1 superseded"]);
      // From here on the row is the base again.
      const reads = scene.source.reads;
      scene.update(1, "best", UNCHANGED);
      await scene.same();
      expect(scene.source.reads).toBe(reads);
    },
  );

  test("a row that moves from its key takes nothing old along", async () => {
    await using scene = await Stage.with([["1", "good", "old"]]);
    scene.sink.refuses = refusing("bad");
    scene.update(1, "bad", "new");
    await eventually(async () => expect(await scene.letters()).toEqual(["1 waiting"]));
    scene.source.commit(scene.move(1, 2, "better"));
    await scene.same();
    expect(sorted(scene.sink.rowsOf(users))).toEqual([["2", "better", "new"]]);
  });
});

test("a row that moves from a key that waits to be read takes nothing of what stood there before", async () => {
  await using scene = await Stage.with([
    ["1", "a", "body of a"],
    ["3", "c", "body of c"],
  ]);
  const reading = gate();
  scene.source.onRead = () => reading.passed;
  // 1 goes where 3 was, and its own key is used again at once: 3 is left to be read, and the sink still shows the old one.
  scene.source.commit(scene.remove(3), scene.move(1, 3, "b"), scene.insert(1, "new", "body of new"));
  await scene.applied();
  await eventually(() => scene.pipeline.facts.unfinishedSnapshots > 0);
  scene.source.commit(scene.move(3, 4, "d"));
  await scene.applied();
  reading.open();
  await scene.same();
  expect(sorted(scene.sink.rowsOf(users))).toEqual([
    ["1", "new", "body of new"],
    ["4", "d", "body of a"],
  ]);
});

test("while a table is read again, a row that moves to where it was read already takes nothing of what it was read for", async () => {
  const rows = [2, 3, 4, 5, 6].map((id): Row => [String(id), "n", `body ${id}`]);
  await using scene = await Stage.with(rows);
  // As after changes that passed the sink over: a table that was suspended, or changed without a word in the log.
  scene.sink.tables.get(users.id)?.rows.set(JSON.stringify(["6"]), { row: ["6", "n", "stale"], version: 1n << 55n });
  scene.source.chunkSize = 2;
  const before = scene.source.reads;
  scene.source.onRead = () => {
    if (scene.source.reads - before === 2) scene.source.commit(scene.move(6, 1, "moved"));
  };
  await scene.pipeline.snapshot("s", [users.id], null, "reinstated");
  await eventually(() => scene.source.rowsOf(users).has(JSON.stringify(["1"])));
  await scene.same();
  expect(sorted(scene.sink.rowsOf(users))[0]).toEqual(["1", "moved", "body 6"]);
});
