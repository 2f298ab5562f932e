/** What every state store promises, whatever keeps its rows. */
import { describe, expect, test } from "vitest";
import { baseVersion, type Position, rowVersion } from "../../src/core/model/position.ts";
import { isLater, type TableVersion } from "../../src/core/model/schema.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import { digestOf } from "../../src/core/contracts/reconciliation.ts";
import type { LeaseStore, SchemaStore, StateStore, StoredError } from "../../src/core/contracts/state-store.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { reportOf } from "../support/model/reports.ts";
import { storedCompleteness } from "../../src/core/checkpoint.ts";
import { summaryOf } from "../../src/core/comparison-verdict.ts";
import { complete } from "../support/daemon/complete.ts";

export interface OpenStore extends AsyncDisposable {
  readonly state: StateStore;
  /** Another process on the same state, as far as the store can tell. */
  another(): Promise<StateStore>;
  /** Lets so much time pass for its lease. */
  pass(ms: number): Promise<void>;
}

const at = (commit: bigint, index = 0, epoch = 1): Position => ({ epoch, commit, index });
const failure: StoredError = { code: "MR2004", message: "m", hint: null, at: "2026-11-20T00:00:00Z" };

export function stateStoreSuite(open: () => Promise<OpenStore>): void {
  describe("lease", () => {
    test("is held by one, named to the other, and its number grows", async () => {
      await using store = await open();
      const other = await store.another();
      const first = await store.state.lease.acquire("host-a pid 1", 60_000);
      expect(first).toMatchObject({ taken: true, lease: { holder: "host-a pid 1" } });
      const { number } = first.lease;
      expect(await other.lease.acquire("host-a pid 2", 60_000)).toMatchObject({ taken: false, lease: { number } });
      expect(await other.lease.current()).toMatchObject({ number, holder: "host-a pid 1" });
      await store.state.lease.release(first.lease.number);
      expect(await other.lease.current()).toBeNull();
      expect(await other.lease.unreleased()).toBeNull();
      expect(await store.state.lease.renew(first.lease.number, 60_000)).toBe(false);
      const second = await other.lease.acquire("host-a pid 2", 60_000);
      expect(second.lease.number).toBeGreaterThan(first.lease.number);
      expect([first.isInherited, second.isInherited]).toEqual([false, false]);
    });

    test("expires; the one who lost it can neither renew nor write", async () => {
      await using store = await open();
      const other = await store.another();
      await store.state.source.announce(1);
      const { lease } = await store.state.lease.acquire("old", 1000);
      await store.pass(5000);
      expect(await store.state.lease.current()).toBeNull();
      expect((await other.lease.unreleased())?.holder).toBe("old");
      expect(await store.state.lease.renew(lease.number, 1000)).toBe(true);
      await store.pass(5000);
      const taken = await other.lease.acquire("new", 60_000);
      expect(taken).toMatchObject({ taken: true, isInherited: true, lease: { holder: "new" } });
      expect(await store.state.lease.renew(lease.number, 1000)).toBe(false);
      await store.state.lease.release(lease.number);
      expect((await other.lease.current())?.holder).toBe("new");
    });

    test.each([
      ["taken", async (lease: LeaseStore) => (await lease.acquire("new", 1000)).lease],
      ["asked for", async (lease: LeaseStore) => await lease.holder(1000)],
    ] as const)(
      "that is far in the future, because the clock was set back, expires once it is %s, unless it is renewed",
      async (_, ask) => {
        await using store = await open();
        const other = await store.another();
        const { lease } = await store.state.lease.acquire("killed", 3 * 3_600_000);
        expect(await other.lease.holder(1000, (holder) => holder === "killed")).toBeNull();
        expect((await other.lease.current())?.leftMs).toBeGreaterThan(3_500_000);
        expect(await ask(other.lease)).toEqual({ ...lease, leftMs: 1000 });
        expect((await other.lease.current())?.leftMs).toBeLessThanOrEqual(1000);
        await store.pass(5000);
        expect(await other.lease.holder(1000)).toBeNull();
        expect(await other.lease.acquire("new", 1000)).toMatchObject({ taken: true, isInherited: true });
      },
    );

    test("of a state that was removed is not taken by who had opened it before", async () => {
      await using store = await open();
      const other = await store.another();
      const { lease } = await store.state.lease.acquire("old", 60_000);
      expect((await other.lease.acquire("new", 60_000)).taken).toBe(false);
      await store.state.remove();
      const isGone = (holder: string): boolean => holder === lease.holder;
      await expect(other.lease.acquire("new", 60_000, isGone)).rejects.toMatchObject({ code: "MR1209" });
      const next = await store.another();
      expect((await next.lease.acquire("next", 60_000)).taken).toBe(true);
    });

    test("taken over refuses every write of the former holder", async () => {
      await using store = await open();
      const other = await store.another();
      await store.state.source.announce(1);
      await store.state.lease.acquire("old", 0);
      expect((await other.lease.acquire("new", 60_000)).taken).toBe(true);
      const writes = [
        store.state.source.acknowledge(at(9n), new Map()),
        store.state.sinks.setCheckpoint("w", at(9n), {}),
        store.state.snapshots.addKeys("w", "public.t", [["1"]]),
      ];
      for (const write of writes) await expect(write).rejects.toMatchObject({ code: "MR1210", kind: "fatal" });
      expect((await other.source.get())?.acknowledged).toBeNull();
      expect(await other.sinks.all()).toEqual([]);
      await other.source.acknowledge(at(9n), new Map());
    });
  });

  describe("source", () => {
    test("a first start that was announced and not finished is recognised", async () => {
      await using store = await open();
      const { source } = store.state;
      expect(await source.get()).toBeNull();
      await source.announce(1);
      expect(await source.get()).toEqual({
        epoch: 1,
        makes: false,
        hasLooked: false,
        identity: null,
        origin: null,
        acknowledged: null,
        acknowledgedAt: null,
        foreseen: null,
      });
      await source.making();
      expect(await source.get()).toMatchObject({ makes: true, identity: null });
      await source.created({ slot: "a" }, at(100n));
      await source.foresee(at(7n));
      await source.foresee(at(5n));
      await source.looked();
      await source.identify({ slot: "b" });
      expect(await source.get()).toEqual({
        epoch: 1,
        makes: true,
        hasLooked: true,
        identity: { slot: "b" },
        origin: at(100n),
        acknowledged: null,
        acknowledgedAt: null,
        foreseen: at(7n),
      });
    });

    test("what is acknowledged never moves back", async () => {
      await using store = await open();
      const { source, sinks } = store.state;
      await source.announce(1);
      await source.created({}, at(1n));
      await source.acknowledge(at(20n), new Map([["w", at(30n)]]));
      await source.acknowledge(at(10n), new Map([["w", at(20n)]]));
      expect((await source.get())?.acknowledged).toEqual(at(20n));
      expect((await sinks.get("w"))?.covered).toEqual(at(30n));
    });
  });

  describe("sinks", () => {
    test("covered is at or after the checkpoint, until the sink itself falls back", async () => {
      await using store = await open();
      const { sinks } = store.state;
      await sinks.setCheckpoint("w", at(10n), {});
      expect((await sinks.get("w"))?.covered).toEqual(at(10n));
      await sinks.covered("w", at(50n));
      await sinks.setCheckpoint("w", at(20n), complete({ "public.t": "r" }));
      expect(await sinks.get("w")).toMatchObject({
        checkpoint: at(20n),
        covered: at(50n),
        tables: { "public.t": "r" },
      });
      await sinks.setCheckpoint("w", at(60n, 3), {});
      expect((await sinks.get("w"))?.covered).toEqual(at(60n, 3));
      await sinks.setCheckpoint("w", at(15n), {});
      expect(await sinks.get("w")).toMatchObject({ checkpoint: at(15n), covered: at(15n) });
    });

    test("pause and error stay beside progress", async () => {
      await using store = await open();
      const { sinks } = store.state;
      await sinks.setPaused("b", true);
      await sinks.setError("b", failure);
      await sinks.setCheckpoint("b", at(1n), {});
      expect(await sinks.all()).toEqual([
        {
          name: "b",
          checkpoint: at(1n),
          covered: at(1n),
          tables: {},
          paused: true,
          error: failure,
          reset: null,
          lost: null,
          leftOut: [],
        },
      ]);
      await sinks.setLeftOut("b", ["public.a"]);
      expect((await sinks.get("b"))?.leftOut).toEqual(["public.a"]);
      await sinks.setError("b", null);
      expect((await sinks.get("b"))?.error).toBeNull();
    });

    test("what a sink has lost, each loss once, is kept over resets until somebody has seen to it", async () => {
      await using store = await open();
      const { sinks, source } = store.state;
      const lost = async () => (await sinks.get("c"))?.lost;
      await source.announce(1);
      const [first, second] = [1, 2].map((day) => ({
        why: `why ${day}`,
        means: "gone",
        at: `2026-11-0${day}T00:00:00Z`,
      }));
      for (const loss of [first!, second!, first!, second!]) await sinks.setLost("c", loss);
      await source.reset(new Map([["c", { to: at(1n), anew: false }]]));
      await sinks.finishReset("c", at(1n), {});
      expect(await lost()).toEqual({ what: "why 2, and why 1; gone", since: first!.at, until: second!.at });
      await sinks.setLost("c", null);
      expect(await lost()).toBeNull();
      await sinks.setLost("c", second!);
      expect(await lost()).toEqual({ what: "why 2; gone", since: second!.at, until: second!.at });
    });

    test("a sink that is removed leaves nothing behind that waits for it", async () => {
      await using store = await open();
      const { sinks, snapshots, deadLetters } = store.state;
      await sinks.setCheckpoint("gone", at(1n), {});
      const stays = await snapshots.add(snapshotOf("public.a", "stays"));
      const only = await snapshots.add(snapshotOf("public.b", "gone"));
      await snapshots.addKeys("gone", "public.a", [["1"]]);
      await deadLetters.add(letter("gone", "1"));
      await sinks.remove("gone");
      expect(await sinks.all()).toEqual([]);
      expect(await snapshots.list()).toEqual([stays]);
      expect((await snapshots.list(true)).find((r) => r.id === only.id)?.state).toBe("cancelled");
      expect(await snapshots.countKeys()).toEqual(new Map());
      expect(await deadLetters.waiting()).toEqual(new Map());
    });

    test("the numbers that a sink's readers have outlast the sink", async () => {
      await using store = await open();
      const { numbers, sinks } = store.state;
      expect(await numbers.reserved("s")).toBe(0);
      for (const below of [2 ** 41, 2 ** 41 + 1]) await numbers.reserve("s", below);
      await sinks.empty("s", null, []);
      await sinks.remove("s");
      expect(await numbers.reserved("s")).toBe(2 ** 41 + 1);
      expect(await numbers.reserved("t")).toBe(0);
    });

    test("a sink that was emptied keeps what operators decided about it, and what its readers lack", async () => {
      await using store = await open();
      const { sinks, snapshots, suspensions, deadLetters } = store.state;
      const error = { code: "MR1326", message: "paused", hint: null, at: "2026-01-01T00:00:00.000Z" };
      await sinks.setCheckpoint("s", at(1n), complete({ "public.a": "1/1" }));
      await sinks.setLost("s", { why: "an earlier loss", means: "for good", at: "a" });
      await suspensions.suspend([{ sink: "s", tableId: "public.a", error }]);
      await deadLetters.add(letter("s", "1"));
      const before = await snapshots.add(snapshotOf("public.b", "s"));
      const read = { ...snapshotOf("public.a", "s"), needed: true };
      await sinks.empty("s", { why: "it was emptied", means: "for good", at: "b" }, [read]);
      const lost = { what: "it was emptied, and an earlier loss; for good", since: "a", until: "b" };
      expect(await sinks.all()).toMatchObject([{ name: "s", checkpoint: null, covered: null, tables: {}, lost }]);
      expect(await suspensions.list()).toMatchObject([{ sink: "s", tableId: "public.a" }]);
      expect(await snapshots.list()).toMatchObject([{ tableId: "public.a", needed: true }]);
      expect((await snapshots.list(true)).find(({ id }) => id === before.id)?.state).toBe("cancelled");
      expect(await deadLetters.waiting()).toEqual(new Map());
    });
  });

  describe("bonds", () => {
    const opening = { own: undefined, owed: [], reason: "r" };

    test("a checkpoint of the newest session is bound, one that accounts for more, or was given up, is not", async () => {
      await using store = await open();
      const { bonds, snapshots } = store.state;
      expect(await bonds.accord("s", undefined)).toBe("bound");
      const first = await bonds.enter("s", opening);
      const bond = { ...first, batch: 1, obligation: await bonds.obligation("s") };
      expect(await bonds.accord("s", bond)).toBe("bound");
      expect(await bonds.accord("other", bond)).toBe("estranged");
      expect(await bonds.accord("s", undefined)).toBe("bound");
      expect(await bonds.accord("s", { ...bond, state: "ff" })).toBe("foreign");
      expect(await bonds.accord("s", { ...bond, obligation: bond.obligation + 1 })).toBe("estranged");
      await snapshots.addKeys("s", "public.a", [["1"]]);
      expect(await bonds.accord("s", { ...bond, obligation: bond.obligation + 1 })).toBe("bound");
      const second = await bonds.enter("s", { ...opening, own: bond });
      expect(second).toMatchObject({ state: first.state, batch: 1 });
      expect(await bonds.accord("s", { ...bond, batch: 2 })).toBe("estranged");
      expect(await bonds.accord("s", { ...bond, ...second, batch: 9 })).toBe("bound");
    });

    test("the next session is told whether the one before was left", async () => {
      await using store = await open();
      const { bonds } = store.state;
      const wasLeft = async (sink: string) => (await bonds.enter(sink, opening)).wasLeft;
      expect(await wasLeft("s")).toBe(true);
      expect(await wasLeft("s")).toBe(false);
      await wasLeft("t");
      await bonds.leave("s");
      expect([await wasLeft("s"), await wasLeft("t")]).toEqual([true, false]);
      expect(await wasLeft("s")).toBe(false);
    });

    test("a sink whose batches never end in part counts as left until it may hold more", async () => {
      await using store = await open();
      const { bonds } = store.state;
      const enter = async () => (await bonds.enter("s", { ...opening, isLeft: true })).wasLeft;
      expect([await enter(), await enter(), await bonds.isLeft("s")]).toEqual([true, true, true]);
      await bonds.exceed("s");
      expect([await bonds.isLeft("s"), await enter(), await enter()]).toEqual([false, false, false]);
      await bonds.leave("s");
      expect([await enter(), await enter()]).toEqual([true, true]);
    });

    test("each obligation counts once, for the sinks that have it", async () => {
      await using store = await open();
      const { bonds, deadLetters, snapshots, suspensions } = store.state;
      await bonds.enter("s", opening);
      await bonds.enter("t", opening);
      const counts = async () => [await bonds.obligation("s"), await bonds.obligation("t")];
      await snapshots.addKeys("s", "public.a", [["1"], ["2"]]);
      await snapshots.addKeys("s", "public.a", [["1"]]);
      expect(await counts()).toEqual([1, 0]);
      await deadLetters.add(letter("s", "1"));
      await deadLetters.add(letter("s", "1"));
      expect(await counts()).toEqual([2, 0]);
      const { id } = await snapshots.add(snapshotOf("public.a", "t"));
      await snapshots.add(snapshotOf("public.a", "t"));
      expect(await counts()).toEqual([2, 1]);
      await snapshots.restart([id]);
      expect(await counts()).toEqual([2, 2]);
      await suspensions.suspend([{ sink: null, tableId: "public.a", error: failure }]);
      expect(await counts()).toEqual([3, 3]);
    });

    test("what was settled after a batch is owed by a sink that is at it", async () => {
      await using store = await open();
      const { bonds, snapshots } = store.state;
      await bonds.enter("s", opening);
      await snapshots.addKeys("s", "public.a", [["1"]]);
      const [key] = await snapshots.keys(["s"], null, 1);
      await snapshots.removeKeys([key!.id], { sink: "s", tableId: "public.a", batch: 7 });
      const snapshot = await snapshots.add(snapshotOf("public.b", "s"));
      await snapshots.finish(snapshot, 9);
      expect(await bonds.undone("s", 6)).toEqual(["public.a", "public.b"]);
      expect(await bonds.undone("s", 7)).toEqual(["public.b"]);
      expect(await bonds.undone("s", 9)).toEqual([]);
      const own = { state: "f0", session: "a1", batch: 6, obligation: 0, resets: [] };
      await bonds.enter("s", { own, owed: ["public.a", "public.b"], reason: "r" });
      expect(await bonds.undone("s", 6)).toEqual([]);
      expect(await snapshots.list()).toMatchObject([
        { tableId: "public.a", scope: { kind: "differences" }, needed: true },
        { tableId: "public.b", scope: { kind: "differences" }, needed: true },
      ]);
      expect(await snapshots.unfinished("s", "public.b")).toMatchObject([{ tableId: "public.b" }]);
      expect(await snapshots.unfinished("t", "public.b")).toEqual([]);
    });

    test("a restored dump is the same state, without what came after it", async () => {
      await using store = await open();
      const { bonds, snapshots } = store.state;
      const entry = await bonds.enter("s", opening);
      const dump = await store.state.dump();
      await snapshots.addKeys("s", "public.a", [["1"]]);
      const bond = { ...entry, batch: 3, obligation: await bonds.obligation("s") };
      await store.state.restore(dump);
      expect(await bonds.accord("s", bond)).toBe("estranged");
      expect(await bonds.accord("s", { ...bond, obligation: bond.obligation - 1 })).toBe("bound");
    });
  });

  describe("reset", () => {
    test("holds the log from there on, over what the source was told, until the sink itself is there", async () => {
      await using store = await open();
      const { source, sinks } = store.state;
      await source.announce(1);
      await source.created({ slot: "a" }, at(10n));
      await source.acknowledge(at(50n), new Map([["a", at(60n)]]), [
        { name: "a", position: at(60n), tables: complete({ t: "h" }) },
      ]);
      const told = (await source.get())?.acknowledgedAt;
      expect(told).toBeTypeOf("string");
      await source.reset(new Map([["a", { to: at(40n), anew: true }]]));
      expect(await source.get()).toMatchObject({ acknowledged: at(40n), acknowledgedAt: told });
      expect(await sinks.get("a")).toMatchObject({
        covered: at(40n),
        tables: { t: "h" },
        reset: { to: at(40n), anew: true },
      });
      await sinks.finishReset("a", at(40n), {});
      expect(await sinks.get("a")).toMatchObject({ checkpoint: at(40n), covered: at(40n), tables: {}, reset: null });
      await source.reset(new Map([["a", { to: at(90n), anew: false }]]));
      expect((await source.get())?.acknowledged, "other sinks may still need it").toEqual(at(40n));
    });
  });

  describe("schemas", () => {
    const shape = (columns: readonly string[]) => {
      const {
        version: _version,
        since: _since,
        ...rest
      } = tableVersion({
        table: "t",
        columns: columns.map((c) => [c, "int8"]),
        key: ["id"],
      });
      return rest;
    };
    const narrow = shape(["id"]);
    const wide = shape(["id", "n"]);

    test("versions are numbered in the order of the log, and replays use the one in force there", async () => {
      await using store = await open();
      const { schemas } = store.state;
      const v1 = await versionOf(schemas, narrow, at(10n));
      const v2 = await versionOf(schemas, wide, at(20n));
      const v3 = await versionOf(schemas, narrow, at(30n));
      expect([v1.version, v2.version, v3.version]).toEqual([1, 2, 3]);
      expect(await versionOf(schemas, narrow, at(10n))).toBe(v1);
      expect(await versionOf(schemas, narrow, at(19n, 99))).toBe(v1);
      expect(await versionOf(schemas, wide, at(20n))).toBe(v2);
      expect(await versionOf(schemas, wide, at(29n))).toBe(v2);
      expect(await versionOf(schemas, narrow, at(1000n))).toBe(v3);
      expect(await versionOf(schemas, narrow, at(5n, 0, 2))).toBe(v3);
      expect(await schemas.list()).toEqual([v3]);
      expect((await schemas.list())[0]).toBe(v3);
      expect((await schemas.versions("public.t")).map(({ since }) => since)).toEqual([at(10n), at(20n), at(30n)]);
      expect(await schemas.versions("public.t")).toEqual([v1, v2, v3]);
    });

    test("several tables are registered together: those that are known keep their versions", async () => {
      await using store = await open();
      const { schemas } = store.state;
      const known = await versionOf(schemas, narrow, at(10n));
      const other: TableShape = { ...wide, id: "public.other" };
      const [same, added] = await schemas.resolve([narrow, other], at(20n));
      expect(same).toBe(known);
      expect(added).toMatchObject({ id: "public.other", version: 1, since: at(20n) });
    });

    test("which version is the newest goes by the log, not by when it was registered", async () => {
      await using store = await open();
      const { schemas } = store.state;
      await versionOf(schemas, narrow, at(10n));
      const last = await versionOf(schemas, narrow, at(30n));
      expect(last.version, "the same shape, and nothing in between").toBe(1);
      const ahead = await versionOf(schemas, wide, at(30n));
      const between = await versionOf(schemas, shape(["id", "m"]), at(20n));
      expect(between.version).toBeGreaterThan(ahead.version);
      expect([isLater(ahead, between), isLater(between, ahead)]).toEqual([true, false]);
      expect(await schemas.list()).toEqual([ahead]);
      const other = await store.another();
      expect(await other.schemas.list()).toEqual([ahead]);
      expect(await other.schemas.versions("public.t")).toEqual([last, between, ahead]);
    });

    test("the same version is the same, equal shape after a restart, types included", async () => {
      await using store = await open();
      const rich = tableVersion({
        schema: "od.d",
        table: '😀"',
        columns: [
          ["__proto__", "int8"],
          ["state", "enum('a','b''c')", { kind: "enum", labels: ["a", "b'c"] }],
          ["list", "numeric(12,2)[]", { kind: "array", of: { kind: "decimal", precision: 12, scale: 2 } }],
        ],
        key: ["__proto__"],
        version: 77,
      });
      const resolved = await versionOf(store.state.schemas, rich, at(1n));
      expect(resolved).toEqual({ ...rich, version: 1, since: at(1n) });
      const other = await store.another();
      const again = await versionOf(other.schemas, rich, at(2n));
      expect(again).toEqual(resolved);
      expect(await versionOf(other.schemas, rich, at(3n))).toBe(again);
    });

    test("a table stays suspended until it is reinstated", async () => {
      await using store = await open();
      const { suspensions } = store.state;
      const later = { ...failure, message: "later" };
      const tables = [
        { sink: null, tableId: "public.t", error: later },
        { sink: "x", tableId: "public.t", error: failure, shape: "f1" },
        { sink: "y", tableId: "public.t", error: failure, former: later },
      ];
      await suspensions.suspend([{ sink: null, tableId: "public.t", error: failure }]);
      await suspensions.suspend(tables);
      expect(await suspensions.list()).toEqual(tables);
      await suspensions.reinstate(null, ["public.t"]);
      expect(await suspensions.list()).toEqual(tables.slice(1));
      await suspensions.reinstate("x", ["public.t"]);
      await suspensions.suspend([{ sink: "y", tableId: "public.t", error: later }]);
      expect(await suspensions.list()).toEqual([{ sink: "y", tableId: "public.t", error: later }]);
      await suspensions.reinstate("y", ["public.t"]);
      expect(await suspensions.list()).toEqual([]);
    });
  });

  const snapshotOf = (tableId: string, sink: string) => ({
    tableId,
    sink,
    scope: { kind: "table" } as const,
    reason: "sink added",
  });

  describe("incremental snapshots", () => {
    test("an equal unfinished one is not added twice", async () => {
      await using store = await open();
      const { snapshots } = store.state;
      const first = await snapshots.add(snapshotOf("public.a", "x"));
      expect(first).toMatchObject({ sink: "x", state: "waiting", sweepBelow: null, cursor: null, rowsDone: 0 });
      expect((await snapshots.add(snapshotOf("public.a", "x"))).id).toBe(first.id);
      const others = [
        await snapshots.add(snapshotOf("public.a", "y")),
        await snapshots.add(snapshotOf("public.b", "x")),
        await snapshots.add({ ...snapshotOf("public.a", "x"), scope: { kind: "where", where: "id > 1" } }),
        await snapshots.add({ ...snapshotOf("public.a", "x"), scope: { kind: "where", where: "id > 2" } }),
      ];
      expect(new Set([first, ...others].map((r) => r.id)).size).toBe(5);
      expect(others[2]?.scope).toEqual({ kind: "where", where: "id > 1" });
      expect(await snapshots.finish({ ...first, rowsDone: 3 })).toBe(true);
      expect((await snapshots.add(snapshotOf("public.a", "x"))).id).not.toBe(first.id);
      expect((await snapshots.list(true)).find(({ id }) => id === first.id)).toMatchObject({
        state: "done",
        rowsDone: 3,
      });
    });

    test("goes on where it was over a restart; once it begins again, what was read before does not count", async () => {
      await using store = await open();
      const { snapshots } = store.state;
      const first = await snapshots.add(snapshotOf("public.a", "x"));
      const second = await snapshots.add(snapshotOf("public.a", "y"));
      const checkpoint = {
        ...first,
        completeness: storedCompleteness("f/g"),
        sweepBelow: baseVersion(255) + 12n,
        cursor: ["10", "ä:%"],
        held: 4_711,
        rowsDone: 750,
        chunksDone: 3,
        resumedCount: 1,
      };
      await snapshots.advance([checkpoint, { ...checkpoint, id: second.id, attempt: 1 }]);
      const other = (await store.another()).snapshots;
      expect(await other.list()).toEqual([{ ...checkpoint, state: "running", startedAt: expect.any(String) }, second]);
      await other.restart([first.id]);
      const begunAgain = { ...first, attempt: 1 };
      expect(await snapshots.list()).toEqual([begunAgain, second]);
      await snapshots.advance([checkpoint]);
      expect(await snapshots.finish(checkpoint)).toBe(false);
      expect(await snapshots.list()).toEqual([begunAgain, second]);
    });

    test("begins again in every sink when its table is suspended", async () => {
      await using store = await open();
      const { snapshots, suspensions } = store.state;
      const x = await snapshots.add(snapshotOf("public.a", "x"));
      const y = await snapshots.add(snapshotOf("public.a", "y"));
      const other = await snapshots.add(snapshotOf("public.b", "x"));
      await snapshots.advance([x, y, other].map((snapshot) => ({ ...snapshot, cursor: ["5"] })));
      await suspensions.suspend([{ sink: null, tableId: "public.a", error: failure }]);
      expect(await snapshots.list()).toMatchObject([
        { id: x.id, state: "waiting", cursor: null, attempt: 1 },
        { id: y.id, state: "waiting", cursor: null, attempt: 1 },
        { id: other.id, state: "running", cursor: ["5"], attempt: 0 },
      ]);
    });

    test("cancelled or finished ends it", async () => {
      await using store = await open();
      const { snapshots } = store.state;
      const snapshot = await snapshots.add(snapshotOf("public.a", "x"));
      const { id } = snapshot;
      expect(await snapshots.cancel([id])).toEqual([id]);
      expect(await snapshots.cancel([id])).toEqual([]);
      expect(await snapshots.cancel([4711])).toEqual([]);
      await snapshots.advance([{ ...snapshot, cursor: ["9"] }]);
      expect(await snapshots.finish(snapshot)).toBe(false);
      expect(await snapshots.list()).toEqual([]);
      expect(await snapshots.list(true)).toMatchObject([{ id, state: "cancelled", cursor: null }]);
    });

    test("one that a sink is short of rows without is not given up, whoever asked for it first", async () => {
      await using store = await open();
      const { snapshots } = store.state;
      const { id } = await snapshots.add(snapshotOf("public.a", "x"));
      expect(await snapshots.add({ ...snapshotOf("public.a", "x"), needed: true })).toMatchObject({ id, needed: true });
      expect(await snapshots.add(snapshotOf("public.a", "x"))).toMatchObject({ id, needed: true });
      expect(await snapshots.cancel([id])).toEqual([]);
      expect(await snapshots.cancel([id, 4711], true)).toEqual([id]);
    });

    test("a key listed twice is one entry, and is not removed with what was read for it before", async () => {
      await using store = await open();
      const { snapshots } = store.state;
      await snapshots.addKeys("x", "public.a", [
        ["1", "a"],
        ["2", "b"],
      ]);
      await snapshots.addKeys("y", "public.a", [["1", "a"]]);
      const read = await snapshots.keys(["x"], null, 2);
      expect(read.map((k) => k.key)).toEqual([
        ["1", "a"],
        ["2", "b"],
      ]);
      await snapshots.addKeys("x", "public.a", [["1", "a"]], "of a shape");
      expect(await snapshots.countKeys()).toEqual(
        new Map([
          ["x", new Map([["public.a", 2]])],
          ["y", new Map([["public.a", 1]])],
        ]),
      );
      const asked = [["2", "b"], ["2"], ["9", "'\u0000"], ["1", "a"]];
      expect(await snapshots.listed("x", "public.a", asked)).toEqual(new Set([0, 3]));
      expect(await snapshots.listed("y", "public.a", asked)).toEqual(new Set([3]));
      await snapshots.removeKeys(read.map((k) => k.id));
      expect(await snapshots.keys(["x", "y"], ["public.a"], 10)).toMatchObject([
        { sink: "y", key: ["1", "a"], shape: "" },
        { sink: "x", tableId: "public.a", key: ["1", "a"], shape: "of a shape" },
      ]);
    });

    test("the keys of one table come before those of the next, whose oldest has waited for less long", async () => {
      await using store = await open();
      const { snapshots } = store.state;
      for (const [sink, table, key] of [
        ["x", "public.b", "1"],
        ["x", "public.a", "2"],
        ["y", "public.a", "3"],
        ["x", "public.b", "4"],
        ["paused", "public.c", "5"],
      ] as const)
        await snapshots.addKeys(sink, table, [[key]]);
      const read = async (tables: readonly string[] | null, limit: number): Promise<readonly unknown[]> =>
        (await snapshots.keys(["y", "x"], tables, limit)).flatMap(({ key }) => key);
      expect(await read(null, 10)).toEqual(["1", "4", "2", "3"]);
      expect(await read(null, 2)).toEqual(["1", "4"]);
      expect(await read(["public.a", "public.c"], 10)).toEqual(["2", "3"]);
      expect((await snapshots.tablesOfKeys()).toSorted()).toEqual(["public.a", "public.b", "public.c"]);
    });
  });

  const letter = (sink: string, key: string) => ({
    sink,
    tableId: "public.a",
    key: [key],
    op: "u",
    position: at(2n ** 54n, 4),
    code: "MR2002",
    reason: "too long",
    envelope: '{"op":"u"}',
  });

  describe("dead letters", () => {
    test("one waits per key; a later one replaces it", async () => {
      await using store = await open();
      const { deadLetters } = store.state;
      await deadLetters.add(letter("x", "1"));
      await deadLetters.add({ ...letter("x", "1"), reason: "still too long" });
      await deadLetters.add(letter("x", "2"));
      await deadLetters.add(letter("y", "1"));
      const [first] = await deadLetters.list({ sink: "x" });
      const last = "public.a: MR2002 too long";
      expect(await deadLetters.waiting()).toEqual(
        new Map([
          ["x", { count: 2, last, since: first?.createdAt }],
          ["y", { count: 1, last, since: expect.any(String) }],
        ]),
      );
      const { envelope, ...asked } = letter("x", "1");
      expect(first).toEqual({
        ...asked,
        reason: "still too long",
        id: expect.any(Number),
        createdAt: expect.any(String),
        attempts: 1,
        state: "waiting",
      });
      expect(await deadLetters.get(first!.id)).toEqual(first);
      expect(await deadLetters.envelope(first!.id)).toBe(envelope);
      expect([await deadLetters.get(999), await deadLetters.envelope(999)]).toEqual([null, null]);
    });

    test("a key written since is superseded", async () => {
      await using store = await open();
      const { deadLetters } = store.state;
      for (const key of ["1", "2", "3"]) await deadLetters.add(letter("x", key));
      await deadLetters.add(letter("y", "1"));
      await deadLetters.supersede("x", "public.a", [["1"], ["3"], ["4"]]);
      await deadLetters.supersede("x", "public.b", [["2"]]);
      expect((await deadLetters.list({ state: "waiting" })).map((l) => [l.sink, l.key[0]])).toEqual([
        ["x", "2"],
        ["y", "1"],
      ]);
      expect((await deadLetters.list({ state: "superseded" })).map((l) => l.key[0])).toEqual(["1", "3"]);
      await deadLetters.add(letter("x", "1"));
      expect(await deadLetters.list({ sink: "x" })).toHaveLength(4);
    });

    test("a sink's row lacks what was discarded until its key is written, or the table is emptied or forgotten", async () => {
      await using store = await open();
      const { deadLetters, snapshots } = store.state;
      for (const sink of ["x", "y"]) for (const key of ["1", "2", "3"]) await deadLetters.add(letter(sink, key));
      const all = await deadLetters.list();
      await deadLetters.settle(
        all.filter(({ key }) => key[0] !== "3").map(({ id }) => id),
        { from: "waiting", to: "discarded" },
      );
      const lacking = async (sink: string) => (await deadLetters.lacking(sink)).map((l) => [l.key[0], l.state]);
      expect(await lacking("x")).toEqual([
        ["1", "discarded"],
        ["2", "discarded"],
        ["3", "waiting"],
      ]);
      await deadLetters.supersede("x", "public.a", [["1"]]);
      expect(await lacking("x")).toEqual([
        ["2", "discarded"],
        ["3", "waiting"],
      ]);
      await deadLetters.supersedeOlder("x", "public.a", rowVersion(1, 2n ** 54n));
      expect(await lacking("x")).toHaveLength(2);
      await deadLetters.supersedeOlder("x", "public.a", rowVersion(1, 2n ** 54n + 1n));
      expect(await lacking("x")).toEqual([]);
      await deadLetters.supersede("y", "public.a", [["3"]]);
      await deadLetters.forget("public.a");
      expect(await deadLetters.list()).toEqual([]);
      expect((await snapshots.list()).map(({ sink, tableId, scope }) => [sink, tableId, scope.kind])).toEqual([
        ["y", "public.a", "table"],
      ]);
    });
  });

  describe("reports", () => {
    test("are kept whole and in short, newest first, and only the newest of them", async () => {
      await using store = await open();
      await store.state.lease.acquire("one", 600_000);
      const { comparisons, reports } = store.state;
      expect(await reports.list()).toEqual([]);
      expect(await reports.get("n1")).toBeNull();
      const differing = reportOf({ id: "n1", missing: 2, extra: 1 });
      await comparisons.save("n1", JSON.stringify({ startedAt: new Date().toISOString() }));
      await reports.add(differing);
      // Killed here, it would go on under the report's name.
      expect(await comparisons.get("n1")).toBeNull();
      await reports.add(reportOf({ id: "n1" }));
      await reports.add(reportOf({ id: "n2" }));
      const others = await store.another();
      expect(await others.reports.get("n1")).toEqual(differing);
      expect(await others.reports.list()).toEqual([summaryOf(reportOf({ id: "n2" })), summaryOf(differing)]);
      for (let i = 3; i <= 125; i++) await reports.add(reportOf({ id: `n${i}` }));
      const ids = (await others.reports.list()).map(({ id }) => id);
      expect([ids.length, ids[0], ids.at(-1)]).toEqual([120, "n125", "n6"]);
      expect(await others.reports.get("n5")).toBeNull();
    });

    test("lose the keys of a table whose rules change, and what a comparison that was broken off has of it", async () => {
      await using store = await open();
      await store.state.lease.acquire("one", 600_000);
      const { comparisons, reports } = store.state;
      const sample = [{ kind: "extra", key: { id: "5" }, columns: [], why: "unknown" }] as const;
      const movingSample = [{ key: { id: "6" }, equalAt: "0/7" }];
      const range = { rows: 8, at: "2026-11-20T02:00:00.000Z", position: "0/7" };
      const signature = { key: "k", previous: null, value: "v" };
      const [signed, other] = [
        reportOf({ id: "a", extra: 1, sample, movingSample, coverage: [{ upTo: { id: "8" }, ...range }] }),
        reportOf({ id: "b", sample, table: "public.b" }),
      ];
      await reports.add({ ...signed, signature });
      await reports.add(other);
      const startedAt = new Date().toISOString();
      const open_ = [
        { table: "public.orders", sample },
        { table: "public.b", sample },
      ];
      const kept = {
        startedAt,
        done: [
          ["public.orders", "f"],
          ["public.b", "g"],
        ],
        tables: [],
        open: open_,
      };
      await comparisons.save("c", JSON.stringify(kept));
      await reports.forgetKeys("public.orders");
      await comparisons.forgetTable("public.orders");
      const others = await store.another();
      const [row] = signed.tables;
      const { movingSample: _, ...rest } = row!;
      expect(await others.reports.get("a")).toEqual({
        ...signed,
        tables: [{ ...rest, sample: [], coverage: [{ upTo: {}, ...range }] }],
        digest: digestOf({ ...signed, signature }),
      });
      expect(await others.reports.get("b")).toEqual(other);
      expect(JSON.parse((await others.comparisons.get("c"))!)).toEqual({
        ...kept,
        done: [["public.b", "g"]],
        open: [open_[1]],
      });
    });

    test("of a comparison that nobody resumes are kept for 30 days", async () => {
      await using store = await open();
      await store.state.lease.acquire("one", 600_000);
      const { comparisons } = store.state;
      const begun = (days: number) =>
        JSON.stringify({ startedAt: new Date(Date.now() - days * 86_400_000).toISOString() });
      const young = begun(29);
      await comparisons.save("c", young);
      await comparisons.prune();
      expect(await comparisons.get("c")).toBe(young);
      await comparisons.save("d", begun(31));
      expect(await comparisons.get("d")).toBeNull();
    });

    test("of many megabytes leave earlier, the newest never", async () => {
      await using store = await open();
      await store.state.lease.acquire("one", 600_000);
      const large = (id: string, megabytes: number) =>
        reportOf({
          id,
          sample: [{ kind: "extra", key: { id: "x".repeat(megabytes * 1024 ** 2) }, columns: [], why: "unknown" }],
        });
      const { reports } = store.state;
      for (const id of ["a", "b", "c"]) await reports.add(large(id, 7));
      expect((await reports.list()).map(({ id }) => id)).toEqual(["c", "b"]);
      await reports.add(large("d", 17));
      expect((await reports.list()).map(({ id }) => id)).toEqual(["d"]);
    });
  });

  describe("the audit log", () => {
    test("keeps what was begun and how it ended, newest first, also for the next process", async () => {
      await using store = await open();
      await store.state.source.announce(1);
      const { audit } = store.state;
      const pause = {
        who: "alice",
        via: "socket",
        action: "pause",
        subject: { sinks: ["w"] },
        before: { w: "streaming" },
      };
      const first = await audit.begin(pause);
      const second = await audit.begin({ ...pause, action: "resume", before: null });
      await audit.end(first, { after: { w: "paused" }, error: null });
      expect(second).toBeGreaterThan(first);
      const other = await store.another();
      expect(await other.audit.list(10)).toEqual([
        {
          ...pause,
          id: second,
          action: "resume",
          before: null,
          after: null,
          error: null,
          endedAt: null,
          at: expect.any(String),
        },
        {
          ...pause,
          id: first,
          after: { w: "paused" },
          error: null,
          endedAt: expect.any(String),
          at: expect.any(String),
        },
      ]);
      expect((await audit.list(1)).map(({ id }) => id)).toEqual([second]);
    });
  });

  describe("a dump", () => {
    test("restored elsewhere is the same state, and goes on counting where it was", async () => {
      await using store = await open();
      await using elsewhere = await open();
      const { state } = store;
      await state.source.announce(2);
      await state.source.created({ slot: "a" }, at(5n, 0, 2));
      await state.sinks.setCheckpoint("w", at(9n, 3, 2), complete({ "public.t": "h" }));
      const { version: _version, ...shape } = tableVersion({ table: "t", columns: { id: "int8" } });
      await versionOf(state.schemas, shape, at(5n, 0, 2));
      const snapshot = await state.snapshots.add({
        tableId: "public.t",
        sink: "w",
        scope: { kind: "table" },
        reason: "r",
      });
      await state.snapshots.addKeys("w", "public.t", [["1"], ["2"]]);
      const { lease } = await elsewhere.state.lease.acquire("importer", 60_000);
      await elsewhere.state.sinks.setCheckpoint("old", at(1n), {});
      const dump = await state.dump();
      // As a file carries it.
      await elsewhere.state.restore(JSON.parse(JSON.stringify(dump)));
      await elsewhere.state.lease.release(lease.number);
      const reopened = await elsewhere.another();
      expect(await reopened.source.get()).toEqual(await state.source.get());
      expect(await reopened.sinks.all()).toEqual(await state.sinks.all());
      expect(await reopened.schemas.list()).toEqual(await state.schemas.list());
      expect(await reopened.snapshots.list(true)).toEqual([snapshot]);
      expect(await reopened.snapshots.countKeys()).toEqual(new Map([["w", new Map([["public.t", 2]])]]));
      const next = await reopened.snapshots.add({
        tableId: "public.u",
        sink: "w",
        scope: { kind: "table" },
        reason: "r",
      });
      expect(next.id).toBeGreaterThan(snapshot.id);
    });

    test("of a newer form, or with what nobody knows, is refused and changes nothing", async () => {
      await using store = await open();
      await store.state.sinks.setCheckpoint("w", at(9n), {});
      const dump = await store.state.dump();
      await expect(store.state.restore({ ...dump, migration: 9999 })).rejects.toMatchObject({ code: "MR1206" });
      const unknown = { ...dump, relations: { ...dump.relations, nothing: [{ a: 1 }] } };
      await expect(store.state.restore(unknown)).rejects.toMatchObject({ code: "MR1204" });
      expect(await store.state.sinks.all()).toHaveLength(1);
    });
  });
}

async function versionOf(schemas: SchemaStore, shape: TableShape, position: Position): Promise<TableVersion> {
  return (await schemas.resolve([shape], position))[0]!;
}
