import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Pipeline } from "../../src/runtime/pipeline.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import { type Change, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { keyOfRow, type Row } from "../support/model/log-model.ts";
import { outage, realState, ScriptedSink } from "../support/model/scripted.ts";
import { ScriptedSource } from "../support/model/scripted-source.ts";
import { eventually } from "../support/run/waiting.ts";
import { lenient, pipelineOf } from "../support/model/pipelines.ts";

const columns = [
  ["id", "int4"],
  ["name", "text"],
  ["body", "text"],
] as const;
const users = tableVersion({ table: "users", columns, key: ["id"] });
const notes = tableVersion({ table: "notes", columns, key: ["id"] });
const TABLES: readonly TableVersion[] = [users, notes];
const KEY_COUNT = 8;

const CHANGES = ["insert", "update", "update", "move", "move", "delete", "insert", "update", "move"];
const HAPPENINGS = [
  "replace",
  "chain",
  "truncate",
  "park",
  "pause",
  "resume",
  "snapshot",
  "fails",
  "torn",
  "unreachable",
  "restart",
  "settle",
  "turn",
  "evict",
  "refuse",
  "allow",
  ...CHANGES,
];

/** What happens, one after the other, while everything runs. */
const batch = fc.record({
  what: fc.constantFrom(...HAPPENINGS),
  table: fc.nat({ max: 1 }),
  key: fc.noBias(fc.nat({ max: KEY_COUNT - 1 })),
  target: fc.noBias(fc.nat({ max: KEY_COUNT - 1 })),
  sink: fc.nat({ max: 1 }),
});
type Happening = typeof batch extends fc.Arbitrary<infer T> ? T : never;

class Stage {
  readonly source = new ScriptedSource(TABLES);
  readonly sinks = [new ScriptedSink("a"), new ScriptedSink("b")];
  readonly #state: StateStore;
  #count = 0;
  pipeline: Pipeline;
  #stop: () => Promise<void>;

  constructor(state: StateStore) {
    this.#state = state;
    this.source.chunkSize = 3;
    for (let i = 0; i < KEY_COUNT; i += 2) this.source.fill(users, [[String(i), "first", `body ${i}`]]);
    [this.pipeline, this.#stop] = this.#start();
  }

  #start(): [Pipeline, () => Promise<void>] {
    const pipeline = pipelineOf({
      source: this.source,
      state: this.#state,
      sinks: lenient(this.sinks, 6),
      heartbeatMs: 20,
      secondStreamTriesMax: 1,
    });
    const stopping = new AbortController();
    const running = pipeline.run(stopping.signal);
    running.catch(() => undefined);
    const stop = async () => {
      stopping.abort();
      await running;
    };
    return [pipeline, stop];
  }

  async happen({ what, table: t, key, target, sink: s }: Happening): Promise<void> {
    const table = TABLES[t]!;
    const sink = this.sinks[s]!;
    const life = this.pipeline.life(sink.name)!;
    switch (what) {
      case "park":
        life.detach();
        return;
      case "pause":
        return await life.pause();
      case "resume":
        return await life.resume();
      case "refuse":
      case "allow":
        this.source.refusesSecond = what === "refuse";
        return;
      case "snapshot":
        return await this.pipeline.snapshot(sink.name, [table.id], null, "asked for");
      case "fails":
        sink.before = once(() => (sink.before = () => undefined));
        return;
      case "torn":
        sink.between = once(() => (sink.between = () => undefined));
        return;
      case "unreachable":
        sink.onOpen = once(() => (sink.onOpen = () => undefined));
        life.detach();
        return;
      case "restart":
        await this.#stop();
        [this.pipeline, this.#stop] = this.#start();
        return;
      case "settle":
        return await this.#settle();
      case "turn":
        await new Promise((resolve) => setImmediate(resolve));
        return;
      case "evict": {
        const changes = this.#change("update", table, key, target);
        if (changes.length === 0) return;
        sink.tables.get(table.id)?.rows.delete(keyOfRow(table, [String(key)]));
        this.source.commit(...changes);
        return;
      }
      default: {
        const changes = this.#change(what, table, key, target);
        if (changes.length > 0) this.source.commit(...changes);
      }
    }
  }

  #change(what: string, table: TableVersion, key: number, target: number): Omit<Change, "commit">[] {
    const rows = this.source.rowsOf(table);
    const old = rows.get(keyOfRow(table, [String(key)]));
    const name = `n${++this.#count}`;
    if (what === "truncate") return this.#count % 5 === 0 ? [{ table, op: "t" }] : [];
    if (what === "insert") return old ? [] : [{ table, op: "c", after: [String(key), name, `body ${name}`] }];
    if (old === undefined) return [];
    const again = { table, op: "c", after: [String(key), name, `body ${name}`] } as const;
    if (what === "replace") return [{ table, op: "d", before: old }, again];
    if (what === "delete") return [{ table, op: "d", before: old }];
    if (what === "update") return [{ table, op: "u", after: [String(key), name, UNCHANGED] }];
    if (rows.has(keyOfRow(table, [String(target)]))) return [];
    const moved = { table, op: "u", after: [String(target), name, UNCHANGED], before: old } as const;
    return what === "chain" ? [moved, again] : [moved];
  }

  /** Everything is well again: the sinks must come to hold what the source holds. */
  async #settle(): Promise<void> {
    for (const sink of this.sinks) {
      sink.before = sink.between = sink.onOpen = () => undefined;
      await this.pipeline.life(sink.name)?.resume();
    }
    await eventually(
      () => {
        expect(this.pipeline.facts.unfinishedSnapshots).toBe(0);
        for (const sink of this.sinks) {
          for (const table of TABLES)
            expect([sink.name, plain(sink.rowsOf(table))]).toEqual([
              sink.name,
              plain(this.source.rowsOf(table).values()),
            ]);
        }
      },
      { everyMs: 5 },
    );
  }

  async end(): Promise<void> {
    await this.#settle();
    await this.#stop();
    expect(this.source.chunks.released).toBe(this.source.chunks.given);
    expect(this.source.copied.released).toBe(this.source.copied.given);
    for (const sink of this.sinks) expect(this.pipeline.life(sink.name)?.worker.queue.heldBytes).toBe(0);
  }
}

function once(done: () => void): () => void {
  return () => {
    done();
    throw outage();
  };
}

function plain(rows: Iterable<Row>): Row[] {
  return [...rows].toSorted((a, b) => Number(a[0]) - Number(b[0]));
}

test("whatever happens to sinks, streams and the daemon, every sink comes to hold what the source holds", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(batch, { minLength: 1, maxLength: 60, size: "max" }), async (batches) => {
      await using opened = await realState();
      const stage = new Stage(opened.state);
      for (const one of batches) await stage.happen(one);
      await stage.end();
    }),
    { numRuns: 12, endOnFailure: true, interruptAfterTimeLimit: 15_000 },
  );
});
