import { expect, test } from "vitest";
import type { SinkHarness } from "./sink.ts";
import { lines, users } from "./sink-rows.ts";
import { failure, checkpointAt, put, remove, Reports, rowsBatch, Stage, timeout } from "./stage.ts";
import { checkpointOf } from "../support/daemon/complete.ts";

export function checkpointTests(harness: SinkHarness): void {
  test("a new sink holds no progress, then what was written", async () => {
    await using stage = await Stage.of(harness, users);
    expect(stage.held).toBeNull();
    const batch = rowsBatch(10n, [users, [put(["1", "a", null])]]);
    const tables = { "public.users": "9f2c", 'a%2Eb.odd "name"\n': "hash:1", __proto__x: "2" };
    await stage.apply({ ...batch, checkpoint: checkpointAt(11n, tables, 3) });
    await stage.restart(users);
    expect(stage.held).toEqual(checkpointAt(11n, tables, 3));
    await stage.expectRows(users, [["1", "a", null]]);
  });

  test("opening without writing leaves no progress behind", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.restart(users);
    expect(stage.held).toBeNull();
  });

  test("a look shows the progress, makes nothing and takes nothing over", async () => {
    await using stage = await Stage.of(harness, users);
    const look = async () => {
      const another = await stage.target.makeSink();
      try {
        return await another.look(timeout());
      } finally {
        await another.close();
      }
    };
    expect(await look()).toBeNull();
    const tables = { "public.users": "9f2c" };
    await stage.apply({
      ...rowsBatch(10n, [users, [put(["1", "a", null])]]),
      checkpoint: checkpointAt(11n, tables, 3),
    });
    expect(await look()).toEqual(checkpointAt(11n, tables, 3));
    // The one that was opened is in possession still.
    await stage.write(users, 20n, [put(["2", "b", null])]);
    await stage.expectRows(users, [
      ["1", "a", null],
      ["2", "b", null],
    ]);
    await stage.target.wipe();
    expect(await look()).toBeNull();
  });

  test("how much room there is can be asked beside a batch", async () => {
    await using stage = await Stage.of(harness, users);
    const [rooms] = await Promise.all([
      stage.sink.rooms?.(timeout()),
      stage.write(users, 10n, [put(["1", "a", null])]),
    ]);
    for (const { where, freeBytes, lowBytes } of rooms ?? []) {
      expect(where).toMatch(/^\S/);
      expect(freeBytes).toBeGreaterThan(0);
      expect(lowBytes).toBeGreaterThan(0);
    }
    if (harness.room === undefined) expect(rooms ?? []).toEqual([]);
    else expect(rooms?.map(({ where }) => where)).toContainEqual(expect.stringMatching(harness.room));
  });

  test("a step may be nothing but progress", async () => {
    await using stage = await Stage.of(harness);
    await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(100n, { "public.users": "1" }) });
    await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(200n, { "public.users": "2" }) });
    await stage.apply({ kind: "rows", tables: [], checkpoint: checkpointAt(300n) });
    await stage.restart();
    expect(stage.held).toEqual(checkpointAt(300n));
  });

  test("progress names ten thousand tables, and fewer afterwards", async () => {
    await using stage = await Stage.of(harness);
    const tables = (count: number) =>
      Object.fromEntries(
        Array.from({ length: count }, (_, i) => [`public.${"long_".repeat(10)}${i}`, `${"9f2c".repeat(16)}/${i}`]),
      );
    for (const [at, count] of [10_000, 5_000, 1].entries()) {
      await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(BigInt(100 + at), tables(count)) });
      await stage.restart();
      expect(Object.keys(stage.held?.tables ?? {})).toHaveLength(count);
      const sorted = (of: object = {}): string =>
        JSON.stringify(Object.entries(of).toSorted(([a], [b]) => (a < b ? -1 : 1)));
      expect(sorted(stage.held?.tables) === sorted(tables(count))).toBe(true);
    }
  });

  test("positions keep all their digits", async () => {
    await using stage = await Stage.of(harness);
    const position = { epoch: 255, commit: (1n << 55n) - 1n, index: 4_000_000_000 };
    await stage.apply({ kind: "checkpoint", checkpoint: checkpointOf(position) });
    await stage.restart();
    expect(stage.held).toEqual(checkpointOf(position));
  });

  test("two processes that take turns each go on from the other's progress", async () => {
    await using stage = await Stage.of(harness, users);
    for (let i = 1; i <= 4; i++) {
      const at = BigInt(i * 10);
      await stage.write(users, at, [put([`${i}`, "a", null]), remove([`${i - 1}`, null, null])]);
      await stage.restart(users);
      expect(stage.held?.position).toEqual({ epoch: 1, commit: at + 1n, index: 0 });
    }
    await stage.expectRows(users, [["4", "a", null]]);
  });

  test("opened again after a lost connection, it goes on without another preparation", async () => {
    await using stage = await Stage.of(harness, users, lines);
    await stage.write(users, 10n, [put(["1", "a", null])]);
    await stage.open(stage.lease);
    await stage.write(users, 20n, [put(["2", "b", null])]);
    // This one has no rows yet.
    await stage.open(stage.lease);
    await stage.write(lines, 30n, [put(["1", "2", "3.5"])]);
    expect((await stage.checkpointNow())?.position.commit).toBe(31n);
    await stage.expectRows(users, [
      ["1", "a", null],
      ["2", "b", null],
    ]);
    await stage.expectRows(lines, [["1", "2", "3.5"]]);
  });

  test("an untouched target passes, an emptied one is found", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.sink.verify(timeout());
    await stage.write(users, 10n, [put(["1", "a", null])]);
    await stage.sink.verify(timeout());
    await stage.write(users, 20n, [remove(["1", null, null])]);
    await stage.sink.verify(timeout());
    await stage.write(users, 30n, [put(["1", "a", null])]);
    await stage.target.wipe();
    const error = await failure(stage.sink.verify(timeout()));
    expect(error.kind).toBe("reopen");
    expect(error.hint).toBeTruthy();
  });

  test("an emptied target holds no progress for the next process", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", null])]);
    await stage.sink.close();
    await stage.target.wipe();
    await stage.restart(users);
    expect(stage.held).toBeNull();
    await stage.expectRows(users, []);
  });

  test("a step into an emptied target fails instead of going on as if nothing were missing", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", null])]);
    await stage.target.wipe();
    const error = await failure(
      stage.sink.apply(rowsBatch(20n, [users, [put(["2", "b", null])]]), new Reports(), timeout()),
    );
    expect(error.kind).toBe("reopen");
  });

  test("closing twice is closing once", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.sink.close();
    await stage.sink.close();
    await expect(stage.apply(rowsBatch(10n, [users, [put(["1", "a", null])]]))).rejects.toThrow();
  });
}
