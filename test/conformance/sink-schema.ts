import { expect, test } from "vitest";
import { rowVersion } from "../../src/core/model/position.ts";
import type { ForeignTarget } from "../../src/core/contracts/sink.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { isNoMirror, type SinkHarness } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { failure, patch, checkpointAt, put, rowsBatch, Stage, timeout, UNCHANGED } from "./stage.ts";
import type { CompleteTables } from "../../src/core/checkpoint.ts";
import { complete } from "../support/daemon/complete.ts";

const widerUsers = tableVersion({
  table: "users",
  columns: [
    ["id", "int8"],
    ["name", "text"],
    ["note", "text"],
    ["score", "numeric(8,2)"],
    ['odd "name".x', "text[]"],
  ],
  key: ["id"],
  version: 2,
});

const orders = tableVersion({ table: "orders", columns: { id: "int8", what: "text" } });

/** Whose the users' target is for another daemon. */
async function ownersFor(stage: Stage, daemon: string): Promise<readonly [ForeignTarget]> {
  await using second = await stage.beside(daemon);
  const [found] = await second.sink.presence!.foreign!([users], timeout());
  return [found!];
}

export function schemaTests(harness: SinkHarness): void {
  test("preparing a table twice, and again in another process, changes nothing", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "b"])]);
    await stage.prepare(users);
    await stage.restart(users);
    await stage.expectRows(users, [["1", "a", "b"]]);
  });

  test("a column that appears is null in the rows from before", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "b"]), put(["2", "a", "b"])]);
    await stage.sink.prepare([widerUsers], timeout());
    await stage.expectRows(widerUsers, [
      ["1", "a", "b", null, null],
      ["2", "a", "b", null, null],
    ]);
    await stage.write(widerUsers, 20n, [
      put(["3", "c", "d", "1.50", "{x,y}"]),
      patch(["1", "z", UNCHANGED, "2.00", null]),
    ]);
    const expected = [
      ["1", "z", "b", "2.00", null],
      ["2", "a", "b", null, null],
      ["3", "c", "d", "1.50", "{x,y}"],
    ];
    await stage.expectRows(widerUsers, expected);
    await stage.restart();
    await stage.prepare(widerUsers);
    await stage.expectRows(widerUsers, expected);
  });

  test("rows of the older shape are taken after a restart into the newer one", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.sink.prepare([widerUsers], timeout());
    await stage.write(widerUsers, 20n, [put(["1", "a", "b", "1.00", null])]);
    // The log is read again from before the column appeared.
    await stage.restart(users);
    await stage.write(users, 10n, [put(["1", "old", "old"]), put(["2", "c", "d"])]);
    await stage.sink.prepare([widerUsers], timeout());
    await stage.write(widerUsers, 20n, [put(["1", "a", "b", "1.00", null])]);
    await stage.expectRows(widerUsers, [
      ["1", "a", "b", "1.00", null],
      ["2", "c", "d", null, null],
    ]);
  });

  test("truncate removes what is not above its version", async () => {
    await using stage = await Stage.of(harness, users, orders);
    await stage.write(users, 10n, [put(["1", "a", null]), put(["2", "a", null], { at: 30n }), put(["4", "a", null])]);
    await stage.write(orders, 12n, [put(["1", "kept"])]);
    await stage.write(users, 20n, [put(["3", "a", null])]);
    const batch = {
      kind: "truncate",
      table: users,
      version: rowVersion(1, 20n),
      checkpoint: checkpointAt(21n),
    } as const;
    await stage.apply(batch);
    await stage.expectRows(users, [["2", "a", null]]);
    await stage.expectRows(orders, [["1", "kept"]]);
    expect((await stage.checkpointNow())?.position.commit).toBe(21n);
    await stage.restart(users);
    await stage.write(users, 40n, [put(["5", "b", null])]);
    await stage.apply(batch);
    await stage.expectRows(users, [
      ["2", "a", null],
      ["5", "b", null],
    ]);
  });

  test("a sweep removes what lies below its version", async () => {
    await using stage = await Stage.of(harness, users, orders);
    const ids = Array.from({ length: 300 }, (_, i) => i);
    await stage.write(orders, 5n, [put(["1", "kept"])]);
    await stage.write(
      users,
      40n,
      ids.map((i) => put([`${i}`, "a", null], { at: BigInt(10 + (i % 3)) })),
    );
    await stage.apply({
      kind: "sweep",
      sweeps: [{ table: users, below: rowVersion(1, 11n) }],
      checkpoint: checkpointAt(50n),
    });
    await stage.expectRows(
      users,
      ids.filter((i) => i % 3 !== 0).map((i) => [`${i}`, "a", null]),
    );
    await stage.expectRows(orders, [["1", "kept"]]);
    expect((await stage.checkpointNow())?.position.commit).toBe(50n);
  });

  test("a step sweeps several tables, each below a version of its own", async () => {
    await using stage = await Stage.of(harness, users, orders);
    await stage.write(users, 10n, [put(["1", "a", null])]);
    await stage.write(users, 20n, [put(["2", "a", null])]);
    await stage.write(orders, 20n, [put(["1", "old"])]);
    await stage.write(orders, 30n, [put(["2", "kept"])]);
    const sweeps = [
      { table: users, below: rowVersion(1, 15n) },
      { table: orders, below: rowVersion(1, 25n) },
    ];
    await stage.apply({ kind: "sweep", sweeps, checkpoint: checkpointAt(50n) });
    await stage.expectRows(users, [["2", "a", null]]);
    await stage.expectRows(orders, [["2", "kept"]]);
  });

  test("tables that were complete stay so while the steps behind bring other things", async () => {
    await using stage = await Stage.of(harness, users);
    const tables = complete({ "public.users": "f/1" });
    const goTo = async (at: bigint, held: CompleteTables): Promise<void> => {
      const bond = { state: "ab", session: "cd", batch: Number(at), obligation: 0, resets: [] };
      await stage.apply({ kind: "checkpoint", checkpoint: { ...checkpointAt(at), tables: held, bond } });
    };
    await goTo(10n, tables);
    await goTo(20n, tables);
    await stage.restart();
    expect(stage.held).toMatchObject({ position: { commit: 20n }, tables, bond: { batch: 20 } });
    await goTo(30n, tables);
    await goTo(40n, {});
    await goTo(50n, {});
    await stage.restart();
    expect(stage.held).toMatchObject({ position: { commit: 50n }, bond: { batch: 50 } });
    expect(stage.held?.tables).toEqual({});
  });

  test("`check` names the daemon that a start would take a table from, and a start takes it", async (context) => {
    await using stage = await Stage.of(harness);
    const { presence } = stage.sink;
    const { target } = stage;
    context.skip(
      presence?.foreign === undefined || target.check === undefined,
      "no sink takes a table from another one",
    );
    const owned = async (daemon: string) =>
      (await target.check!([users, orders], daemon, timeout())).filter(({ what }) =>
        what.includes("a start takes it over"),
      );
    expect(await owned("other")).toEqual([]);
    await stage.prepare(users);
    const [{ owner }] = await ownersFor(stage, "other");
    expect(await owned("shop")).toEqual([]);
    const finding = {
      level: "warning",
      what: expect.stringMatching(`users.* belongs to ${owner} \\(daemon and sink\\)`),
    };
    expect(await owned("other")).toEqual([expect.objectContaining(finding)]);
    await using second = await stage.beside("other");
    await second.sink.presence!.foreign!([users], timeout());
    await second.prepare(users);
    expect(await owned("other")).toEqual([]);
    expect(await owned("shop")).toHaveLength(1);
  });

  test("a target that Millrace did not make is refused and left alone", async (context) => {
    await using stage = await Stage.of(harness);
    if (stage.target.occupy === undefined) return context.skip("nothing can stand in a table's place here");
    await stage.target.occupy(users);
    const error = await failure(stage.sink.prepare([users], timeout()));
    expect(error.kind).toBe("fatal");
    expect(error.message).toContain("users");
    expect(error.hint).toBeTruthy();
    // The others are not held up.
    await stage.prepare(orders);
    await stage.write(orders, 10n, [put(["1", "x"])]);
    await stage.expectRows(orders, [["1", "x"]]);
    return undefined;
  });

  test("a mirror that an older copy took the place of while the sink was closed is missing", async (context) => {
    if (isNoMirror(harness, context, "a history is as it was put back")) return undefined;
    await using stage = await Stage.of(harness, users, orders);
    if (stage.target.copy === undefined) return context.skip("nobody can put a copy in a table's place here");
    await stage.write(users, 10n, [put(["1", "a", null]), put(["2", "a", null])]);
    await stage.write(orders, 11n, [put(["1", "kept"])]);
    const putBack = await stage.target.copy(users);
    await stage.write(users, 20n, [put(["1", "b", null])]);
    await stage.restart();
    expect(await stage.sink.presence?.missing([users, orders], timeout())).toEqual([]);
    await stage.sink.close();
    await putBack();
    for (let starts = 0; starts < 2; starts++) {
      await stage.restart();
      expect(await stage.sink.presence?.missing([users, orders], timeout())).toEqual([users]);
    }
    return undefined;
  });

  test("a step that fails half-way can be given again", async (context) => {
    await using stage = await Stage.of(harness, users, orders);
    if (stage.target.obstruct === undefined) return context.skip("this target can't be made to refuse a table");
    await stage.write(users, 10n, [put(["1", "a", null])]);
    const batch = rowsBatch(20n, [users, [put(["1", "b", null]), put(["2", "b", null])]], [orders, [put(["1", "x"])]]);
    {
      await using _ = await stage.target.obstruct(orders);
      await failure(stage.apply(batch));
      if (harness.transactional) await stage.expectRows(users, [["1", "a", null]]);
    }
    expect((await stage.checkpointNow())?.position.commit).toBe(11n);
    await stage.restart(users, orders);
    await stage.apply(batch);
    await stage.expectRows(users, [
      ["1", "b", null],
      ["2", "b", null],
    ]);
    await stage.expectRows(orders, [["1", "x"]]);
    return undefined;
  });
}
