/** What thousands of tables must not cost: work is counted, not time. */
import { setImmediate as settled } from "node:timers/promises";
import { expect, test, vi } from "vitest";
import { type CompleteTables, withoutTables, withTables } from "../../src/core/checkpoint.ts";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import type { CapturedTables, Catalog, TableShape } from "../../src/core/contracts/catalog.ts";
import type { StateStore, TableSnapshot } from "../../src/core/contracts/state-store.ts";
import { TableSelection } from "../../src/core/table-selection.ts";
import { abortedError, MillraceError } from "../../src/core/errors.ts";
import type { Position } from "../../src/core/model/position.ts";
import { News } from "../../src/core/waiting.ts";
import { CatalogWatch } from "../../src/runtime/schema/catalog-watch.ts";
import { Targets } from "../../src/runtime/schema/targets.ts";
import { SuspendedTables } from "../../src/runtime/schema/suspended-tables.ts";
import type { TableGate } from "../../src/runtime/schema/table-gate.ts";
import { SinkTables } from "../../src/runtime/sink/sink-tables.ts";
import { Ledger } from "../../src/runtime/snapshot/ledger.ts";
import { Turns } from "../../src/runtime/snapshot/read-plan.ts";
import type { RangeRead } from "../../src/runtime/snapshot/row-reader.ts";
import { FanOut } from "../../src/runtime/stream/fan-out.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { realState, ScriptedSink, tableGate } from "../support/model/scripted.ts";
import { quietLog } from "../support/run/quiet-log.ts";

const START: Position = { epoch: 1, commit: 100n, index: 0 };
const SNAPSHOT: TableSnapshot = {
  id: 1,
  attempt: 0,
  tableId: "",
  sink: "",
  scope: { kind: "table" },
  reason: "",
  needed: true,
  state: "running",
  createdAt: "",
  startedAt: null,
  endedAt: null,
  completeness: null,
  sweepBelow: null,
  cursor: null,
  held: null,
  rowsDone: 0,
  chunksDone: 0,
  resumedCount: 0,
};

function shapes(count: number): readonly TableShape[] {
  return Array.from({ length: count }, (_, i) => tableVersion({ table: `t${i}`, columns: { id: "int4" } }));
}

function captured(tables: readonly TableShape[]): CapturedTables {
  return { tables, refused: [], generations: new Map(tables.map(({ id }) => [id, "g"])) };
}

test("tables that the catalogue shows at once are registered in few transactions, and the next look writes nothing", async () => {
  await using opened = await realState();
  const { schemas } = opened.state;
  let writes = 0;
  const counted: StateStore["schemas"] = {
    resolve: async (...asked) => {
      writes++;
      return await schemas.resolve(...asked);
    },
    list: () => schemas.list(),
    versions: (id) => schemas.versions(id),
    rename: (...renames) => schemas.rename(...renames),
    renames: () => schemas.renames(),
    elsewhere: () => schemas.elsewhere(),
  };
  const gate = tableGate({ ...opened.state, schemas: counted });
  const found = captured(shapes(1_000));
  await gate.discover(found, [], START);
  expect(gate.tables).toHaveLength(1_000);
  expect(writes).toBeLessThanOrEqual(4);
  await gate.discover(found, [], START);
  expect(writes).toBeLessThanOrEqual(4);
  expect(gate.tables, "the list is made after changes alone").toBe(gate.tables);
});

test("what a sink lacks is looked for among the tables that changed alone, and is what a look at all of them finds", async () => {
  await using opened = await realState();
  const gate = tableGate(opened.state);
  const all = shapes(1_000);
  await gate.discover(captured(all), [], START);
  const taker = { sink: new ScriptedSink(), takes: () => true };
  const suspended = new SuspendedTables(systemClock, opened.state.suspensions, quietLog);
  const ledger = new Ledger(systemClock, opened.state.snapshots);
  const idle = (): void => undefined;
  const ofSink = (): SinkTables =>
    new SinkTables(taker, {
      gate,
      suspended,
      ledger,
      areReadUnasked: true,
      onChange: idle,
      onPendingKeys: idle,
    });
  const compared = ofSink();
  const completed = (held: CompleteTables, ids: readonly string[]): CompleteTables =>
    withTables(
      held,
      ids.flatMap((id) => {
        const copy = gate.completeness(gate.newest(id)!);
        return copy === null ? [] : [[id, copy] as const];
      }),
    );
  let held = completed(
    {},
    all.map(({ id }) => id),
  );
  expect(compared.lacking(held)).toEqual([]);
  const looked = vi.spyOn(gate, "completeness");
  const counts: number[] = [];
  const expectAlike = (): void => {
    looked.mockClear();
    const lacking = compared.lacking(held);
    counts.push(looked.mock.calls.length);
    expect(lacking.toSorted()).toEqual([...ofSink().lacking(held)].toSorted());
  };
  const error = new MillraceError({ code: "MR1114", kind: "fatal", message: "refused" });
  for (let i = 0; i < 40; i++) {
    const [id, other, third] = [i, i + 100, i + 200].map((n) => `public.t${n}`);
    held = withoutTables(held, new Set([id!]));
    expectAlike();
    await gate.suspend(other!, error);
    held = withoutTables(held, new Set([other!]));
    expectAlike();
    if (i % 2 === 0) await gate.reinstate(other!);
    if (i % 3 === 0) gate.doubt(third!);
    expectAlike();
    if (i % 4 === 0) held = completed(held, [id!]);
    expectAlike();
  }
  expect(compared.lacking(held)).toHaveLength(30 + 20);
  const looks = counts.reduce((sum, count) => sum + count, 0);
  expect(looks, "tables that were looked at for 160 changes").toBeLessThan(160 * 200);
  expect(counts.filter((count) => count > 40).length, "looks at all tables").toBeLessThan(20);
});

test("of two new tables with one target, the second is suspended in that sink, though both are registered together", async () => {
  await using opened = await realState();
  const sink = new ScriptedSink();
  Object.assign(sink, { target: () => "one" });
  const suspended = new SuspendedTables(systemClock, opened.state.suspensions, quietLog);
  const gate: TableGate = tableGate(opened.state, async (table) => await targets.keepApart(table));
  const targets = new Targets(gate, [{ sink, takes: () => true }], suspended);
  await gate.resolveAll(shapes(2), START);
  expect(gate.tables.map(({ table }) => table)).toEqual(["t0", "t1"]);
  expect(suspended.all.map(({ tableId, error }) => [tableId, error.code])).toEqual([["public.t1", "MR1305"]]);
});

test("a table is suspended whose targets would be a neighbour's, or hold them", async () => {
  await using opened = await realState();
  const suspended = new SuspendedTables(systemClock, opened.state.suspensions, quietLog);
  const gate: TableGate = tableGate(opened.state, async (table) => await targets.keepApart(table));
  const sink = new ScriptedSink();
  Object.assign(sink, { target: ({ table }: TableShape) => `public:${table}:` });
  const neighbours = ["public:t1:a:", "public:t2", "other:"].map((start) => ({ sink: "inner", start }));
  const targets = new Targets(gate, [{ sink, takes: () => true, neighbours }], suspended);
  await gate.resolveAll(shapes(4), START);
  expect(suspended.all.map(({ tableId, error }) => [tableId, error.code])).toEqual([
    ["public.t1", "MR1305"],
    ["public.t2", "MR1305"],
  ]);
  // What it is suspended for does not pass by itself.
  expect(targets.meetsAnother(sink.name, shapes(3)[2]!)?.message).toContain("where sink inner writes public:t2…");
});

test("what ends a suspension while others are tried again is no fault of these", async () => {
  await using opened = await realState();
  const suspended = new SuspendedTables(systemClock, opened.state.suspensions, quietLog);
  const failure = new MillraceError({ code: "MR3110", kind: "fatal", message: "refused" });
  for (const sink of ["one", "other"]) await suspended.suspend(sink, [{ tableId: "public.t1", failure, shape: "a" }]);
  const due = suspended.due(
    () => "b",
    () => true,
  );
  expect([...due.keys()]).toEqual(["one", "other"]);
  const listed: string[] = [];
  await suspended.tryAgain("one", due.get("one")!, async () => {
    await suspended.reinstate("other", ["public.t1"], async () => void listed.push("resumed"));
  });
  await suspended.tryAgain("other", due.get("other")!, async () => void listed.push("tried"));
  expect(listed).toEqual(["resumed"]);
});

test("a sink that comes when the tables are known takes the first of two with one target", async () => {
  await using opened = await realState();
  await tableGate(opened.state).resolveAll(shapes(3), START);
  const sink = new ScriptedSink();
  Object.assign(sink, { target: ({ table }: TableShape) => (table === "t1" ? "t1" : "one") });
  const suspended = new SuspendedTables(systemClock, opened.state.suspensions, quietLog);
  const gate: TableGate = tableGate(opened.state, async (table) => await targets.keepApart(table));
  const targets = new Targets(gate, [{ sink, takes: () => true }], suspended);
  await gate.load();
  const refused = (): string[] => suspended.all.map(({ tableId }) => tableId);
  await gate.discover(captured(shapes(3)), [], START);
  expect(refused()).toEqual(["public.t2"]);
  const [first, , third] = shapes(3);
  expect(targets.meetsAnother(sink.name, third!)?.code).toBe("MR1305");
  await gate.discover(captured(shapes(3).slice(1)), [], START);
  expect(targets.meetsAnother(sink.name, third!)).toBeNull();
  await suspended.reinstate(sink.name, [third!.id], async () => {});
  // It is back, and the other has the target now.
  await gate.discover(captured(shapes(3)), [], START);
  expect(refused()).toEqual([first!.id]);
});

test("tables that change one after another share looks at the catalogue; who waits for one gets it at once", async () => {
  await using opened = await realState();
  const found = captured(shapes(1));
  const time = new SteppedTime();
  let looks = 0;
  const watch = watchOf(opened.state, time.clock, async (signal) => {
    looks++;
    await time.clock.sleep(40, signal);
    return found;
  });
  const stopping = new AbortController();
  const run = watch.run(stopping.signal).catch(() => undefined);
  for (let i = 0; i < 40; i++) {
    watch.wake();
    await time.pass(15);
  }
  expect(looks, "a quarter of the time").toBe(4);
  const look = watch.look(stopping.signal);
  await time.pass(80);
  await look;
  expect(looks).toBeLessThanOrEqual(6);
  stopping.abort();
  await run;
});

test("a look that fails slowly is tried again as soon as it is asked for", async () => {
  await using opened = await realState();
  const time = new SteppedTime();
  let looks = 0;
  const watch = watchOf(opened.state, time.clock, async (signal) => {
    looks++;
    await time.clock.sleep(700, signal);
    throw new MillraceError({ code: "MR2001", kind: "retryable", message: "no answer" });
  });
  const stopping = new AbortController();
  const run = watch.run(stopping.signal).catch(() => undefined);
  for (let i = 0; i < 100; i++) {
    watch.wake();
    await time.pass(20);
  }
  expect(looks).toBe(2);
  stopping.abort();
  await run;
});

test("of thousands of tables that are named, each is found without a look at the others", () => {
  const all = Array.from({ length: 3_000 }, (_, i) => ({ schema: "app", table: `t$${i}.x` }));
  const names = all.map(({ schema, table }) => `${schema}.${table}`);
  const tested = vi.spyOn(RegExp.prototype, "test");
  const selection = new TableSelection([...names.slice(0, 2_999), "other.*", "app.T*", "!APP.t$7.X"]);
  tested.mockClear();
  const taken = all.filter(({ schema, table }) => selection.matches(schema, table));
  const literal = all.filter(({ schema, table }) => selection.isLiteral(schema, table));
  const matching = tested.mock.calls.length;
  const idle = selection.idle(all);
  const both = tested.mock.calls.length;
  tested.mockRestore();
  expect(taken).toEqual(all.slice(0, 2_999).filter((_, i) => i !== 7));
  expect(literal).toHaveLength(2_999);
  expect(idle).toEqual(["other.*", "app.T*"]);
  expect(matching, "comparisons with patterns").toBeLessThan(3 * all.length);
  expect(both).toBeLessThan(10 * all.length);
});

test("a look at thousands of suspended tables asks of none that is not due; those that are due are retried, stored and told together", async () => {
  await using opened = await realState();
  const time = new SteppedTime();
  const suspensions = vi.spyOn(opened.state.suspensions, "suspend");
  const reinstated = vi.spyOn(opened.state.suspensions, "reinstate");
  const told = vi.fn<(level: string, tables: unknown) => void>();
  const tell = (level: string) => (details: object) => told(level, (details as { tables?: unknown }).tables);
  const logger = { ...quietLog, info: tell("info"), warn: tell("warn"), error: tell("error") };
  const suspended = new SuspendedTables(time.clock, opened.state.suspensions, logger);
  const ids = shapes(1_000).map(({ id }) => id);
  const refuse = async (): Promise<void> => {
    const failure = new MillraceError({ code: "MR1324", kind: "fatal", message: "refused" });
    await suspended.suspend(
      "sink",
      ids.map((tableId) => ({ tableId, failure, shape: "f1" })),
    );
  };
  await refuse();
  const isPossible = vi.fn<(sink: string, id: string) => boolean>(() => true);
  const due = (shape: (id: string) => string) => suspended.due(shape, isPossible);
  expect([...due(() => "f1")]).toEqual([]);
  expect(isPossible).not.toHaveBeenCalled();
  expect([...due((id) => (id === ids[7] ? "f2" : "f1"))], "has another shape").toEqual([["sink", [ids[7]]]]);
  expect(isPossible).toHaveBeenCalledOnce();
  await time.pass(300);
  const [retried, ...others] = due(() => "f1");
  expect([retried, others]).toEqual([["sink", ids], []]);
  told.mockClear();
  await suspended.tryAgain("sink", ids, async () => undefined);
  expect(suspended.has("sink", ids[0]!)).toBe(false);
  await refuse();
  expect(told, "a retry in vain is no news").not.toHaveBeenCalled();
  await suspended.tryAgain("sink", ids, async () => undefined);
  suspended.finishTrials(suspended.tried);
  expect(told.mock.calls).toEqual([["info", ids]]);
  expect([suspended.all, await opened.state.suspensions.list()]).toEqual([[], []]);
  expect([suspensions.mock.calls.length, reinstated.mock.calls.length]).toEqual([2, 2]);
});

test("a sink of which two large tables are read does not wait for all turns of another with hundreds", async () => {
  const reads = (sink: string, count: number): RangeRead[] =>
    Array.from({ length: count }, (_, i) => {
      const [tableId, cursor] = [`public.${sink}${i}`, ["1"]];
      const snapshots = [{ ...SNAPSHOT, sink, tableId, cursor }];
      return { kind: "range", tableId, sinks: [sink], scope: SNAPSHOT.scope, cursor, snapshots };
    });
  const turns = new Turns({ holds: () => false }, [...reads("few", 2), ...reads("many", 400)], [], new Set());
  const isFree = (): boolean => true;
  const took = (): string => turns.next(isFree, new Set(), false)[0]!.sinks.join();
  expect([took(), turns.isOver(isFree, true), took()]).toEqual(["few", false, "few"]);
  const isFewBusy = (sink: string): boolean => sink !== "few";
  expect(turns.isOver(isFewBusy, true), "its chunk is on its way").toBe(false);
  expect(turns.isOver(isFree, false), "a look costs more than what was read since the last one").toBe(false);
  expect(turns.isOver(isFree, true)).toBe(true);
  for (let i = 0; i < 98; i++) expect([took(), turns.isOver(isFree, false)]).toEqual(["many", i === 97]);
});

/** Time that passes when a test says so, a millisecond at a time; in between everything settles. */
class SteppedTime {
  #nowMs = 0;
  readonly #due = new Set<{ readonly atMs: number; readonly work: () => void }>();
  readonly clock: Clock = {
    ...systemClock,
    elapsed: () => this.#nowMs,
    after: (ms, work) => {
      const due = { atMs: this.#nowMs + ms, work };
      this.#due.add(due);
      return () => this.#due.delete(due);
    },
    sleep: (ms, ...signals) =>
      new Promise((resolve, reject) => {
        const takeBack = this.clock.after(ms, resolve);
        for (const signal of signals) {
          const stop = (): void => {
            takeBack();
            reject(abortedError(signal));
          };
          if (signal.aborted) stop();
          else signal.addEventListener("abort", stop, { once: true });
        }
      }),
  };

  async pass(ms: number): Promise<void> {
    for (let i = 0; i < ms; i++) {
      await settled();
      this.#nowMs++;
      for (const due of [...this.#due].filter(({ atMs }) => atMs <= this.#nowMs)) {
        this.#due.delete(due);
        due.work();
      }
    }
    await settled();
  }
}

function watchOf(state: StateStore, clock: Clock, tables: Catalog["tables"]): CatalogWatch {
  const news = new News();
  return new CatalogWatch({
    onLooked: () => undefined,
    clock,
    news,
    source: { catalog: { publish: async () => undefined, tables }, watermarks: { renew: never } },
    state,
    gate: tableGate(state),
    fanOut: new FanOut(START, "m", news),
    intervalMs: 60_000,
    isHeld: () => true,
    reinstate: never,
    logger: quietLog,
  });
}

async function never(): Promise<never> {
  throw new MillraceError({ code: "MR1114", kind: "fatal", message: "not asked" });
}
