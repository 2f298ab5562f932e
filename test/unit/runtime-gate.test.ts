import { expect, test } from "vitest";
import { definition as searchDefinition, factory as search } from "../../connectors/elasticsearch/config.ts";
import { completeFor } from "../../src/core/checkpoint.ts";
import { DEFAULT_POLICY } from "../../src/core/model/schema-change.ts";
import type { StateStore, SuspendedTable } from "../../src/core/contracts/state-store.ts";
import { MillraceError } from "../../src/core/errors.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { RefusedTable, TableShape } from "../../src/core/contracts/catalog.ts";
import { CatalogWatch } from "../../src/runtime/schema/catalog-watch.ts";
import type { TableGate } from "../../src/runtime/schema/table-gate.ts";
import { FanOut } from "../../src/runtime/stream/fan-out.ts";
import { News } from "../../src/core/waiting.ts";
import { type Clock, nextTurn, systemClock } from "../../src/core/clock.ts";
import { Targets } from "../../src/runtime/schema/targets.ts";
import { SuspendedTables } from "../../src/runtime/schema/suspended-tables.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { outage, realState, tableGate } from "../support/model/scripted.ts";
import { eventually } from "../support/run/waiting.ts";

const at = (commit: bigint): Position => ({ epoch: 1, commit, index: 0 });
const shape = tableVersion({ table: "t", columns: { id: "int4" } });
const ruled = (rules: string): TableShape => ({
  ...shape,
  fingerprint: `f-${rules}`,
  ruled: {
    rules,
    source: { columns: shape.columns, key: shape.key, fingerprint: shape.fingerprint },
    lineage: [],
    filtered: true,
    fault: null,
  },
});

test("a table that is suspended is read from its first key again, for every sink that has got a part of it", async () => {
  await using opened = await realState();
  const { state } = opened;
  const gate = tableGate(state);
  const table = await gate.resolve(shape, at(1n));
  for (const sink of ["one", "other"]) {
    const snapshot = await state.snapshots.add({ tableId: table.id, sink, scope: { kind: "table" }, reason: "asked" });
    const { id, attempt } = snapshot;
    const checkpoint = { id, attempt, cursor: ["7"], held: 3, rowsDone: 7, chunksDone: 1, resumedCount: 0 };
    await state.snapshots.advance([{ ...checkpoint, completeness: completeFor(table, "g"), sweepBelow: 1n }]);
  }
  expect((await state.snapshots.list()).map(({ cursor }) => cursor)).toEqual([["7"], ["7"]]);
  await gate.suspend(table.id, new MillraceError({ code: "MR1114", kind: "fatal", message: "it has no key" }));
  expect((await state.snapshots.list()).map(({ cursor, state: of }) => [cursor, of])).toEqual([
    [null, "waiting"],
    [null, "waiting"],
  ]);
});

test("nobody reinstates a table that the last look holds back, whatever the stream has shown of it", async () => {
  await using opened = await realState();
  const gate = tableGate(opened.state);
  const look = async (...refused: readonly RefusedTable[]): Promise<void> => {
    const tables = refused.length === 0 ? [shape] : [];
    await gate.discover({ tables, refused, generations: new Map() }, gate.changing, at(2n));
  };
  const { id } = await gate.resolve(shape, at(1n));
  await look();
  await look({ id, reason: "another table's rows", fix: "name it", code: "MR1033", withheld: shape });
  expect([...gate.suspended.keys()]).toEqual([id]);
  await expect(gate.reinstate(id)).rejects.toMatchObject({ code: "MR1033", hint: "name it" });
  expect([...gate.suspended.keys()]).toEqual([id]);
  await look();
  await gate.reinstate(id);
  expect([...gate.suspended.keys()]).toEqual([]);
});

type WatchParts = ConstructorParameters<typeof CatalogWatch>[0];

interface Watched extends Pick<WatchParts, "news" | "state" | "gate" | "fanOut"> {
  readonly tables: WatchParts["source"]["catalog"]["tables"];
  readonly intervalMs?: number;
}

function watchOf({ tables, intervalMs = 60_000, ...parts }: Watched): CatalogWatch {
  return new CatalogWatch({
    onLooked: () => undefined,
    ...parts,
    clock: systemClock,
    source: { catalog: { publish: async () => {}, tables }, watermarks: { renew: async () => 15n } },
    intervalMs,
    isHeld: () => true,
    reinstate: async () => {},
    logger: quietLog,
  });
}

test("why the catalogue could not be read is told until it was; who needs that waits some time, once", async () => {
  await using opened = await realState();
  const { state } = opened;
  const alarms: (() => void)[] = [];
  const after: Clock["after"] = (_ms, work) => {
    alarms.push(work);
    return () => undefined;
  };
  const gate = tableGate(state, undefined, undefined, { ...systemClock, after });
  const news = new News();
  const stopping = new AbortController();
  let isAway = true;
  const watch = watchOf({
    news,
    state,
    gate,
    fanOut: new FanOut(at(1n), "m", news),
    intervalMs: 1,
    tables: async () => {
      if (isAway) throw outage("no connection is left");
      return { tables: [], refused: [], generations: new Map() };
    },
  });
  expect(watch.notLooked).toBeNull();
  const running = watch.run(stopping.signal).catch(() => {});
  await eventually(() => watch.notLooked !== null);
  const { since } = watch.notLooked!;
  expect(watch.notLooked).toMatchObject({ code: "MR3999", message: expect.stringContaining("no connection is left") });
  const waiting = [gate.looked(stopping.signal), gate.looked(stopping.signal)];
  expect(alarms).toHaveLength(2);
  for (const ring of alarms) ring();
  await Promise.all(waiting);
  await gate.looked(stopping.signal);
  expect(alarms).toHaveLength(2);
  expect(watch.notLooked).toMatchObject({ since });
  isAway = false;
  await watch.look(stopping.signal);
  expect(watch.notLooked).toBeNull();
  stopping.abort();
  await running;
});

test("a shape of the catalogue is confirmed by a look that began behind its watermark: the log may say what is in the table", async () => {
  await using opened = await realState();
  const { state } = opened;
  const [gate, news] = [tableGate(state), new News()];
  const fanOut = new FanOut(at(1n), "m", news);
  const stopping = new AbortController();
  const withheld = { ...shape, fingerprint: "f-withheld" };
  await gate.resolve(shape, at(1n));
  let looks = 0;
  const watch = watchOf({
    news,
    state,
    gate,
    fanOut,
    tables: async () => {
      const tables = ++looks > 2 ? [withheld] : [{ ...shape, fingerprint: "f-shown" }];
      if (looks === 2) {
        await gate.resolve(withheld, at(10n));
        fanOut.moveTo(at(20n));
      }
      return { tables, refused: [], generations: new Map() };
    },
  });
  const running = watch.run(stopping.signal).catch(() => {});
  for (let i = 0; i < 3; i++) await watch.look(stopping.signal);
  stopping.abort();
  await running;
  const versions = await state.schemas.versions(shape.id);
  expect(versions.map(({ fingerprint }) => fingerprint)).toEqual([shape.fingerprint, "f-withheld"]);
});

test("copies made under other rules are told from those of an earlier or a later shape", async () => {
  await using opened = await realState();
  const gate = tableGate(opened.state);
  const first = await gate.resolve(ruled("keys"), at(1n));
  const wider = await gate.resolve({ ...ruled("keys"), fingerprint: "f-wider" }, at(2n));
  const now = await gate.resolve(ruled("masks"), at(3n));
  const copies = [first, wider, now, { ...first, fingerprint: "f-unknown" }];
  const found = await Promise.all(
    copies.map(async (table) => (await gate.ofOtherRules([[table.id, completeFor(table, "g")]])).size),
  );
  expect(found).toEqual([1, 1, 0, 1]);
  await gate.resolve({ ...ruled("masks"), fingerprint: "f-masks-wider" }, at(4n));
  expect([...(await gate.ofOtherRules([[now.id, completeFor(now, "g")]]))]).toEqual([]);
  expect([...(await gate.ofOtherRules([["public.unknown", completeFor(now, "g")]]))]).toEqual([]);
});

test("what the former rules let through is forgotten where the present ones are met first, and not as a sink reads that log again", async () => {
  await using opened = await realState();
  const { deadLetters } = opened.state;
  const gate = tableGate(opened.state);
  const refuse = async (): Promise<void> =>
    deadLetters.add({
      sink: "s",
      tableId: shape.id,
      key: ["1"],
      op: "c",
      position: at(1n),
      code: "MR3998",
      reason: "refused",
      envelope: "{}",
    });
  await gate.resolve(ruled("keys"), at(1n));
  await refuse();
  await gate.resolve(ruled("masks"), at(9n));
  expect(await deadLetters.list()).toEqual([]);
  await refuse();
  await gate.resolve(ruled("masks"), at(5n));
  expect(await deadLetters.list()).toHaveLength(1);
  // Rules that are set back: those in between may have let more through.
  await gate.resolve(ruled("keys"), at(12n));
  await refuse();
  await gate.resolve(ruled("masks"), at(3n));
  expect(await deadLetters.list()).toEqual([]);
});

test("rules that are set back are those of the newest version before anything is read, wherever a sink begins", async () => {
  await using opened = await realState();
  const first = tableGate(opened.state);
  await first.resolve(ruled("keys"), at(1n));
  await first.resolve(ruled("masks"), at(9n));
  const gate = tableGate(opened.state);
  await gate.load();
  await gate.revise([ruled("keys")], at(3n));
  expect(gate.newest(shape.id)?.ruled?.rules).toBe("keys");
  // As the sink that is behind sees them, before and behind the others.
  const seen = [4n, 10n].map(async (commit) => (await gate.resolve(ruled("keys"), at(commit))).ruled?.rules);
  expect(await Promise.all(seen)).toEqual(["keys", "keys"]);
  expect(gate.newest(shape.id)?.version).toBe(3);
});

test("a table that meets one of another share waits; one that was there before goes on", async () => {
  await using opened = await realState();
  const options = searchDefinition.parse({ url: "http://127.0.0.1:1" });
  const sink = await search.create({ name: "search", daemon: "shop_1", folder: "/", options }, quietLog);
  const suspended = new SuspendedTables(systemClock, opened.state.suspensions, quietLog);
  const gate: TableGate = tableGate(opened.state, async (table) => await targets.keepApart(table));
  const targets = new Targets(gate, [{ sink, takes: () => true }], suspended);
  const long = "x".repeat(300);
  // The name that the long one is cut to, as a name of its own.
  const cut = sink.target({ schema: "public", table: long }).slice("public.".length);
  const named = (table: string): TableShape => tableVersion({ table, columns: { id: "int4" } });
  const look = async (own: readonly string[], elsewhere: readonly string[], commit: bigint): Promise<string[]> => {
    const others = { tables: elsewhere.map(named), refused: [] };
    const captured = { tables: own.map(named), elsewhere: others, refused: [], generations: new Map() };
    await gate.discover(captured, gate.changing, at(commit));
    return suspended.all.map(({ tableId, error }) => `${tableId.slice(0, 12)} ${error.code}`);
  };
  expect(await look(["t"], [long], 1n)).toEqual([]);
  expect(await look(["t", cut], [long], 2n)).toEqual(["public.xxxxx MR1305"]);
  expect(targets.meetsAnother(sink.name, named(cut))).not.toBeNull();
  expect(await look(["t", cut], [], 3n)).toEqual(["public.xxxxx MR1305"]);
  expect(targets.meetsAnother(sink.name, named(cut))).toBeNull();
  // One that comes to another share later waits there.
  const upper = "T".repeat(300);
  expect(await look(["t", cut, upper], [], 4n)).toHaveLength(1);
  const cutUpper = sink.target({ schema: "public", table: upper }).slice("public.".length);
  expect(await look(["t", cut, upper], [cutUpper], 5n)).toHaveLength(1);
  // Both came since the last look, and the stream has shown ours first.
  await gate.resolve(named("B".repeat(300)), at(6n));
  const other = sink.target({ schema: "public", table: "B".repeat(300) }).slice("public.".length);
  expect(await look(["t", cut, upper, "B".repeat(300)], [cutUpper, other], 7n)).toHaveLength(2);
  await sink.close();
});

test("until a first look has ended, over restarts too, the tables that are there are no new ones", async () => {
  const policy = { ...DEFAULT_POLICY, schemaChange: "pause", newTables: "wait" } as const;
  const named = (table: string): TableShape => tableVersion({ table, columns: { id: "int4" } });
  const restarted = async (state: StateStore): Promise<TableGate> => {
    const gate = tableGate(state, undefined, policy);
    await gate.load();
    return gate;
  };
  const look = async (gate: TableGate, ...tables: readonly string[]): Promise<string[]> => {
    await gate.discover({ tables: tables.map(named), refused: [], generations: new Map() }, gate.changing, at(2n));
    return [...gate.suspended].map(([id, { code }]) => `${id} ${code}`);
  };
  await using opened = await realState();
  const { state } = opened;
  await state.source.announce(1);
  // The process ends when a part of the tables is registered.
  await (await restarted(state)).resolveAll([named("a")], at(1n));
  expect(await look(await restarted(state), "a", "b")).toEqual([]);
  expect(await look(await restarted(state), "a", "b", "c")).toEqual(["public.c MR1303"]);
  // A first look that finds none is one too.
  await using empty = await realState();
  await empty.state.source.announce(1);
  expect(await look(await restarted(empty.state))).toEqual([]);
  expect(await look(await restarted(empty.state), "a")).toEqual(["public.a MR1303"]);
});

test("where the log has to show what a table is, those of the first look are no new ones until it has", async () => {
  const policy = { ...DEFAULT_POLICY, schemaChange: "pause", newTables: "wait" } as const;
  const named = (table: string): TableShape => tableVersion({ table, columns: { id: "int4" } });
  await using opened = await realState();
  const { state } = opened;
  await state.source.announce(1);
  const restarted = async (): Promise<TableGate> => {
    const gate = tableGate(state, undefined, policy);
    await gate.load();
    return gate;
  };
  const look = async (gate: TableGate, ...tables: readonly string[]): Promise<void> => {
    const captured = { tables: tables.map(named), refused: [], generations: new Map(), awaitsLog: true };
    await gate.discover(captured, gate.changing, at(2n));
  };
  const waiting = ({ suspended }: TableGate): string[] => [...suspended.keys()];
  const first = await restarted();
  await look(first, "a", "b");
  await first.confirm(named("a"), at(3n));
  await look(first, "a", "b", "c");
  await first.confirm(named("c"), at(4n));
  expect(waiting(first)).toEqual(["public.c"]);
  // The process ends before the log has shown the second one.
  const second = await restarted();
  await second.resolve(named("b"), at(5n));
  expect(waiting(second)).toEqual(["public.c"]);
  await look(second, "a", "b", "c");
  const third = await restarted();
  await third.resolve(named("d"), at(6n));
  await look(third, "a", "b", "c", "d");
  expect(waiting(third)).toEqual(["public.c", "public.d"]);
});

test("a table that its sink refuses again while its suspension is ended stays suspended over a restart", async () => {
  await using opened = await realState();
  const { suspensions } = opened.state;
  const suspended = new SuspendedTables(systemClock, suspensions, quietLog);
  const failure = new MillraceError({ code: "MR1304", kind: "fatal", message: "can't write" });
  const refuse = async (...ids: readonly string[]): Promise<void> =>
    await suspended.suspend(
      "s",
      ids.map((tableId) => ({ tableId, failure })),
    );
  await refuse("public.a", "public.b", "public.c");
  await suspended.tryAgain("s", ["public.a", "public.b"], () => refuse("public.a"));
  expect(["public.a", "public.b"].map((id) => suspended.has("s", id))).toEqual([true, false]);
  // What is stored at the same moment is stored after it.
  let refusing = Promise.resolve();
  await suspended.tryAgain("s", ["public.c"], async () => void (refusing = refuse("public.c")));
  await refusing;
  expect(suspended.has("s", "public.c")).toBe(true);
  expect((await suspensions.list()).map(({ tableId }) => tableId)).toEqual(["public.a", "public.c"]);
});

test("a suspension that the state could not store, or end, changes nothing for the table, and nothing for others", async () => {
  await using opened = await realState();
  const { suspensions } = opened.state;
  const away = new Error("the state is away");
  let fails = false;
  const store = {
    ...suspensions,
    list: async () => await suspensions.list(),
    suspend: async (tables: readonly SuspendedTable[]) => {
      if (!fails) return await suspensions.suspend(tables);
      // Others come meanwhile.
      await nextTurn(systemClock);
      throw away;
    },
    reinstate: async (sink: string | null, ids: readonly string[]) => await suspensions.reinstate(sink, ids),
  };
  const suspended = new SuspendedTables(systemClock, store, quietLog);
  const failure = new MillraceError({ code: "MR1304", kind: "fatal", message: "can't write" });
  const [a, b] = ["public.a", "public.b"];
  await suspended.suspend("s", [
    { tableId: a, failure },
    { tableId: b, failure },
  ]);
  fails = true;
  await expect(suspended.suspend("s", [{ tableId: a, failure }])).rejects.toBe(away);
  await suspended.tryAgain("s", [a], async () => undefined);
  const stored = async (): Promise<string[]> => (await suspensions.list()).map(({ tableId }) => tableId);
  expect([await stored(), suspended.has("s", a)]).toEqual([[b], false]);
  const listing = suspended.tryAgain("s", [a, b], async () => await Promise.reject(away));
  await expect(listing).rejects.toBe(away);
  expect([await stored(), suspended.has("s", a), suspended.has("s", b)]).toEqual([[b], false, true]);
  // Refused, without success, while its suspension ends.
  let refusing = Promise.resolve();
  await suspended.reinstate("s", [b], async () => {
    refusing = expect(suspended.suspend("s", [{ tableId: b, failure }])).rejects.toBe(away);
  });
  await refusing;
  expect([await stored(), suspended.has("s", b)]).toEqual([[], false]);
});
