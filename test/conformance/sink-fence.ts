import { expect, test } from "vitest";
import { findMillraceError } from "../../src/core/errors.ts";
import { tableVersion } from "../support/model/blocks.ts";
import type { SinkHarness } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { failure, checkpointAt, put, Reports, rowsBatch, Stage, timeout } from "./stage.ts";

const wider = tableVersion({
  table: "users",
  version: 2,
  columns: { id: "int8", name: "text", note: "text", more: "text" },
});

export function fenceTests(harness: SinkHarness): void {
  test("a lower lease is refused", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.restart(users);
    await stage.write(users, 10n, [put(["1", "a", null])]);
    const late = await stage.target.makeSink();
    const error = await failure(late.open(1, timeout()));
    expect(error.kind).toBe("fatal");
    await late.close();
    await stage.write(users, 20n, [put(["1", "b", null])]);
    await stage.expectRows(users, [["1", "b", null]]);
  });

  test("a process whose lease was taken writes no more", async (context) => {
    if (harness.fence === "open") return context.skip("this target has no fence between open and write");
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", null])]);
    await using rival = await stage.rival(2, users);
    for (const entries of [1, 50]) {
      const many = Array.from({ length: entries }, (_, i) => put([`${i}`, "late", null]));
      const error = await failure(stage.sink.apply(rowsBatch(20n, [users, many]), new Reports(), timeout()));
      expect(error.kind).toBe("fatal");
      await rival.expectRows(users, [["1", "a", null]]);
    }
    for (const batch of [
      { kind: "truncate", table: users, version: 1n << 60n, checkpoint: checkpointAt(21n) },
      { kind: "sweep", sweeps: [{ table: users, below: 1n << 60n }], checkpoint: checkpointAt(21n) },
      { kind: "checkpoint", checkpoint: checkpointAt(21n) },
    ] as const) {
      expect((await failure(stage.apply(batch))).kind).toBe("fatal");
    }
    await rival.expectRows(users, [["1", "a", null]]);
    expect((await failure(stage.sink.forget(timeout()))).kind).toBe("fatal");
    await rival.write(users, 20n, [put(["1", "b", null])]);
    await rival.expectRows(users, [["1", "b", null]]);
    expect((await rival.checkpointNow())?.position.commit).toBe(21n);
    return undefined;
  });

  test("a process whose lease was taken removes no rows, and changes no table", async (context) => {
    if (harness.fence === "open") return context.skip("this target has no fence between open and write");
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", null])]);
    await using rival = await stage.rival(2, users);
    await rival.write(users, 20n, [put(["2", "b", null])]);
    const { rows, evolution } = stage.sink;
    const kindOf = async (late: Promise<void> | undefined) =>
      await late?.then(
        () => "nothing",
        (error: unknown) => findMillraceError(error)?.kind,
      );
    const kinds = [
      await kindOf(rows?.expel([users], 0n, timeout())),
      await kindOf(stage.sink.prepare([wider], timeout())),
    ];
    // Of targets without tables nothing becomes of either.
    if (harness.transactional && evolution !== undefined) expect(kinds).toEqual(["fatal", "fatal"]);
    await rival.expectRows(users, [
      ["1", "a", null],
      ["2", "b", null],
    ]);
    await rival.write(users, 30n, [put(["1", "c", null])]);
    await rival.expectRows(users, [
      ["1", "c", null],
      ["2", "b", null],
    ]);
    return undefined;
  });

  test("the lease is taken over before the first progress is written, too", async (context) => {
    if (harness.fence === "open") return context.skip("this target has no fence between open and write");
    await using stage = await Stage.of(harness, users);
    await using rival = await stage.rival(2, users);
    const error = await failure(stage.apply(rowsBatch(20n, [users, [put(["1", "late", null])]])));
    expect(error.kind).toBe("fatal");
    await rival.expectRows(users, []);
    return undefined;
  });
}
