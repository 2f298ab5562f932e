import { expect, test } from "vitest";
import type { SinkHarness } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { failure, checkpointAt, put, Reports, rowsBatch, Stage, timeout } from "./stage.ts";

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
