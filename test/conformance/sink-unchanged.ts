import { expect, test } from "vitest";
import { isNoMirror, type SinkHarness } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { failure, patch, put, remove, Reports, rowsBatch, Stage, UNCHANGED, type Write } from "./stage.ts";

export function unchangedTests(harness: SinkHarness): void {
  test("an unchanged cell keeps what the sink holds, null included", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "long"]), put(["2", "a", null]), put(["3", "a", ""])]);
    const reports = await stage.write(users, 20n, [
      patch(["1", "b", UNCHANGED]),
      patch(["2", null, UNCHANGED]),
      patch(["3", UNCHANGED, "x"]),
    ]);
    expect(reports.incompletes).toEqual([]);
    await stage.expectRows(users, [
      ["1", "b", "long"],
      ["2", null, null],
      ["3", "a", "x"],
    ]);
    await stage.expectVersions(users, [20n, 20n, 20n]);
  });

  test("an unchanged cell keeps what the sink holds in a large step", async () => {
    await using stage = await Stage.of(harness, users);
    const ids = Array.from({ length: 300 }, (_, i) => i);
    await stage.write(
      users,
      10n,
      ids.map((i) => put([`${i}`, `n${i}`, i % 2 === 0 ? null : `t${i}`], { fresh: true })),
    );
    await stage.write(
      users,
      20n,
      ids.map((i): Write => {
        if (i % 3 === 0) return patch([`${i}`, `m${i}`, UNCHANGED]);
        return i % 3 === 1 ? patch([`${i}`, UNCHANGED, `u${i}`]) : put([`${i}`, `p${i}`, null]);
      }),
    );
    await stage.expectRows(
      users,
      ids.map((i) => {
        if (i % 3 === 0) return [`${i}`, `m${i}`, i % 2 === 0 ? null : `t${i}`];
        return i % 3 === 1 ? [`${i}`, `n${i}`, `u${i}`] : [`${i}`, `p${i}`, null];
      }),
    );
  });

  test("a row whose base is missing is reported and not written in part", async (context) => {
    if (isNoMirror(harness, context, "such a change is appended and marked: see sink-history.ts")) return;
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "b"])]);
    const reports = await stage.write(users, 20n, [
      patch(["9", "x", UNCHANGED]),
      put(["2", "c", null]),
      patch(["1", "d", UNCHANGED]),
    ]);
    expect(reports.incompleteEntries).toEqual([0]);
    expect(reports.incompletes[0]?.table).toBe("users");
    await stage.expectRows(users, [
      ["1", "d", "b"],
      ["2", "c", null],
    ]);
    const alone = await stage.write(users, 30n, [patch(["9", "x", UNCHANGED])]);
    expect(alone.incompleteEntries).toEqual([0]);
    await stage.expectRows(users, [
      ["1", "d", "b"],
      ["2", "c", null],
    ]);
    expect((await stage.checkpointNow())?.position).toEqual({ epoch: 1, commit: 31n, index: 0 });
  });

  test("missing bases in a large step are all reported", async (context) => {
    if (isNoMirror(harness, context, "such a change is appended and marked: see sink-history.ts")) return;
    await using stage = await Stage.of(harness, users);
    const ids = Array.from({ length: 200 }, (_, i) => i);
    const held = ids.filter((i) => i % 5 !== 0);
    await stage.write(
      users,
      10n,
      held.map((i) => put([`${i}`, "a", `t${i}`])),
    );
    const reports = await stage.write(
      users,
      20n,
      ids.map((i) => patch([`${i}`, "b", UNCHANGED])),
    );
    expect(reports.incompleteEntries).toEqual(ids.filter((i) => i % 5 === 0));
    await stage.expectRows(
      users,
      held.map((i) => [`${i}`, "b", `t${i}`]),
    );
  });

  test("progress waits for the report of a missing base", async (context) => {
    if (isNoMirror(harness, context, "such a change is appended and marked: see sink-history.ts")) return;
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "b"])]);
    const batch = rowsBatch(20n, [users, [patch(["9", "x", UNCHANGED]), put(["1", "c", "d"])]]);
    const refusing = new Reports();
    refusing.incomplete = () => Promise.reject(new Error("the list of keys could not be stored"));
    await expect(stage.sink.apply(batch, refusing, AbortSignal.timeout(30_000))).rejects.toThrow();
    expect((await stage.checkpointNow())?.position.commit).toBe(11n);
    if (harness.transactional) await stage.expectRows(users, [["1", "a", "b"]]);
    await stage.restart(users);
    const reports = new Reports();
    await stage.apply(batch, reports);
    expect(reports.incompleteEntries).toEqual([0]);
    await stage.expectRows(users, [["1", "c", "d"]]);
    expect((await stage.checkpointNow())?.position.commit).toBe(21n);
  });

  test("a key change takes unchanged cells from the row under the old key", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "long"]), put(["5", "e", "other"])]);
    const batch = rowsBatch(20n, [
      users,
      [patch(["2", "b", UNCHANGED], { from: ["1", null, null] }), remove(["1", null, null])],
    ]);
    await stage.apply(batch);
    await stage.expectRows(users, [
      ["2", "b", "long"],
      ["5", "e", "other"],
    ]);
    await stage.write(users, 30n, [put(["6", "f", null]), remove(["5", null, null])]);
    await stage.expectRows(users, [
      ["2", "b", "long"],
      ["6", "f", null],
    ]);
  });

  test("a key change whose step is given again loses nothing", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "long"])]);
    const batch = rowsBatch(20n, [
      users,
      [patch(["2", "b", UNCHANGED], { from: ["1", null, null] }), remove(["1", null, null])],
    ]);
    await stage.apply(batch);
    await stage.restart(users);
    const reports = new Reports();
    await stage.apply(batch, reports);
    // The old row is gone by now: either the row is left as it is, or its key is read from the source again.
    await stage.expectRows(users, [["2", "b", "long"]]);
    for (const entry of reports.incompleteEntries) expect(entry).toBe(0);
  });

  test("a key change read again takes no cells from another row that has its old key by now", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "long"])]);
    const batch = rowsBatch(20n, [
      users,
      [patch(["2", "b", UNCHANGED], { from: ["1", null, null] }), remove(["1", null, null])],
    ]);
    await stage.apply(batch);
    await stage.write(users, 30n, [put(["1", "other", "other"])]);
    await stage.restart(users);
    const reports = new Reports();
    await stage.apply(batch, reports);
    for (const entry of reports.incompleteEntries) expect(entry).toBe(0);
    await stage.expectRows(users, [
      ["2", "b", "long"],
      ["1", "other", "other"],
    ]);
  });

  test("a key change in a large step", async () => {
    await using stage = await Stage.of(harness, users);
    const ids = Array.from({ length: 100 }, (_, i) => i);
    await stage.write(
      users,
      10n,
      ids.map((i) => put([`${i}`, `n${i}`, `t${i}`])),
    );
    const reports = await stage.write(
      users,
      20n,
      ids.flatMap((i) => [
        patch([`${i + 1000}`, UNCHANGED, `u${i}`], { from: [`${i}`, null, null] }),
        remove([`${i}`, null, null]),
      ]),
    );
    expect(reports.incompletes).toEqual([]);
    await stage.expectRows(
      users,
      ids.map((i) => [`${i + 1000}`, `n${i}`, `u${i}`]),
    );
  });

  test("a key change whose old row is missing is reported; the old key goes", async (context) => {
    if (isNoMirror(harness, context, "such a change is appended and marked: see sink-history.ts")) return;
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["5", "e", "f"])]);
    const reports = await stage.write(users, 20n, [
      patch(["2", "b", UNCHANGED], { from: ["1", null, null] }),
      remove(["1", null, null]),
    ]);
    expect(reports.incompleteEntries).toEqual([0]);
    await stage.expectRows(users, [["5", "e", "f"]]);
  });

  test("an older change with unchanged cells sets nothing back", async (context) => {
    if (isNoMirror(harness, context, "such a change is appended and marked: see sink-history.ts")) return;
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 30n, [put(["1", "new", "new"])]);
    const reports = await stage.write(users, 40n, [patch(["1", "old", UNCHANGED], { at: 20n })]);
    expect(reports.incompletes).toEqual([]);
    await stage.expectRows(users, [["1", "new", "new"]]);
    await stage.expectVersions(users, [30n]);
  });

  test("a step that was stopped can be given again", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "b"])]);
    const batch = rowsBatch(20n, [users, [put(["1", "c", "d"]), put(["2", "e", null])]]);
    await expect(stage.sink.apply(batch, stage.reports, AbortSignal.abort())).rejects.toThrow();
    await stage.apply(batch);
    await stage.expectRows(users, [
      ["1", "c", "d"],
      ["2", "e", null],
    ]);
  });

  test("a cut connection costs no row: the step is given until it holds", async (context) => {
    await using stage = await Stage.of(harness, users);
    if (stage.target.cut === undefined) return context.skip("this target has no connection");
    await stage.write(users, 10n, [put(["1", "a", "b"])]);
    await stage.target.cut();
    const batch = rowsBatch(20n, [users, [patch(["1", "c", UNCHANGED]), put(["2", "e", null])]]);
    for (let attempt = 1; ; attempt++) {
      const error = await stage.apply(batch).then(
        () => undefined,
        (thrown: unknown) => failure(Promise.reject(thrown)),
      );
      if (error === undefined) break;
      expect(error.kind).toBe("retryable");
      expect(attempt, "three attempts must do").toBeLessThan(3);
    }
    await stage.expectRows(users, [
      ["1", "c", "b"],
      ["2", "e", null],
    ]);
    return undefined;
  });
}
