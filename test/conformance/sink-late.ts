/** What a connection sends that was given up arrives late, after what the sink has written since: it changes nothing. */
import { expect, test } from "vitest";
import type { Batch } from "../../src/core/model/batch.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { tableVersion } from "../support/model/blocks.ts";
import type { HeldBytes } from "../support/network/proxy.ts";
import { type HeldWork, isNoMirror, type SinkHarness } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { type Cells, failure, checkpointAt, put, remove, Reports, rowsBatch, Stage, timeout } from "./stage.ts";

/** Enough that each node of a cluster has some. */
const IDS = Array.from({ length: 12 }, (_, i) => `${i}`);

/** `users` with another name for its column `name`. */
const titledUsers = tableVersion({ table: "users", columns: { id: "int8", title: "text", note: "text" }, version: 2 });

const truncate = (at: bigint): Batch => ({
  kind: "truncate",
  table: users,
  version: rowVersion(1, at),
  checkpoint: checkpointAt(at, {}, 1),
});
const sweep = (below: bigint): Batch => ({
  kind: "sweep",
  sweeps: [{ table: users, below: rowVersion(1, below) }],
  checkpoint: checkpointAt(below),
});
const rows = (at: bigint, name: string): Batch => rowsBatch(at, [users, IDS.map((id) => put([id, name, null]))]);
const removals = (at: bigint): Batch => rowsBatch(at, [users, IDS.map((id) => remove([id, null, null]))]);
const all = (name: string): Cells[] => IDS.map((id) => [id, name, null]);

interface Case {
  readonly before: readonly Batch[];
  readonly late: Batch;
  readonly since: readonly Batch[];
  readonly rows: readonly Cells[];
}

const cases = (): Readonly<Record<string, Case>> => ({
  "a smaller batch of the same transaction": {
    before: [],
    late: rows(10n, "first"),
    since: [rows(10n, "last")],
    rows: all("last"),
  },
  "a truncate, and the table was loaded again in its transaction": {
    before: [rows(5n, "old")],
    late: truncate(10n),
    since: [truncate(10n), rows(10n, "new")],
    rows: all("new"),
  },
  "rows, and the table was truncated": {
    before: [],
    late: rows(10n, "old"),
    since: [truncate(20n)],
    rows: [],
  },
  "a removal, and its transaction has written the row again": {
    before: [rows(5n, "old")],
    late: removals(10n),
    since: [rows(10n, "new")],
    rows: all("new"),
  },
  "a row, and it was removed in its transaction": {
    before: [],
    late: rows(10n, "old"),
    since: [rows(10n, "old"), removals(10n)],
    rows: [],
  },
  "a sweep, and the sink went back": {
    before: [rows(5n, "old")],
    late: sweep(20n),
    since: [sweep(20n), rows(10n, "again")],
    rows: all("again"),
  },
});

export function lateTests(harness: SinkHarness): void {
  for (const [name, { before, late, since, rows: expected }] of Object.entries(cases())) {
    for (const who of ["the same process", "the next process"] as const) {
      test(`${name}: ${who}`, async (context) => {
        if (isNoMirror(harness, context, "rows are never removed from it")) return;
        await using stage = await Stage.of(harness, users);
        for (const batch of before) await stage.apply(batch);
        const held = await givenUp(stage, "write", (signal) => stage.sink.apply(late, new Reports(), signal));
        if (who === "the next process") await stage.restart(users);
        for (const batch of since) await stage.apply(batch);
        await held.release();
        await stage.expectRows(users, expected);
        await stage.sink.verify(timeout());
        await stage.write(users, 30n, [put(["99", null, null])]);
        await stage.expectRows(users, [...expected, ["99", null, null]]);
      });
    }
  }

  test("rows in an earlier shape, and a column has got another name", async (context) => {
    if (isNoMirror(harness, context, "rows are never removed from it")) return;
    await using stage = await Stage.of(harness, users);
    await stage.apply(rows(5n, "old"));
    const held = await givenUp(stage, "write", (signal) => stage.sink.apply(rows(10n, "late"), new Reports(), signal));
    await stage.sink.prepare([titledUsers], timeout());
    await stage.write(
      titledUsers,
      20n,
      IDS.map((id) => put([id, "new", null])),
    );
    await held.release();
    await stage.expectRows(titledUsers, all("new"));
    await stage.sink.verify(timeout());
    await stage.write(titledUsers, 30n, [put(["99", null, null])]);
    await stage.expectRows(titledUsers, [...all("new"), ["99", null, null]]);
  });

  test("a batch that arrives before what is written next", async (context) => {
    if (isNoMirror(harness, context, "rows are never removed from it")) return;
    await using stage = await Stage.of(harness, users);
    const held = await givenUp(stage, "write", (signal) => stage.sink.apply(rows(10n, "late"), new Reports(), signal));
    await stage.sink.verify(timeout());
    await held.release();
    await stage.apply(rows(10n, "new"));
    await stage.expectRows(users, all("new"));
  });

  test("the removal of rows that no step has written", async (context) => {
    if (isNoMirror(harness, context, "rows are never removed from it")) return;
    await using stage = await Stage.of(harness, users);
    await stage.apply(rows(20n, "foreign"));
    const held = await givenUp(stage, "expel", (signal) => stage.sink.rows!.expel([users], rowVersion(1, 10n), signal));
    await stage.sink.rows!.expel([users], rowVersion(1, 10n), timeout());
    await stage.expectRows(users, []);
    await stage.apply(rows(30n, "own"));
    await held.release();
    await stage.expectRows(users, all("own"));
  });

  test("rows, and the sink was torn down, and begun again", async (context) => {
    if (isNoMirror(harness, context, "rows are never removed from it")) return;
    await using stage = await Stage.of(harness, users);
    await stage.apply(rows(5n, "old"));
    const held = await givenUp(stage, "write", (signal) => stage.sink.apply(rows(10n, "late"), new Reports(), signal));
    await stage.restart(users);
    await stage.sink.forget(timeout());
    await stage.sink.close();
    await held.release();
    await stage.expectRows(users, all("old"));
    await stage.restart(users);
    expect(stage.held).toBeNull();
    await stage.apply(rows(30n, "new"));
    await stage.expectRows(users, all("new"));
  });

  test("a teardown, and the sink was begun again", async (context) => {
    if (isNoMirror(harness, context, "rows are never removed from it")) return;
    await using stage = await Stage.of(harness, users);
    await stage.apply(rows(5n, "old"));
    const held = await givenUp(stage, "forget", (signal) => stage.sink.forget(signal));
    await stage.restart(users);
    await stage.apply(rows(20n, "new"));
    await held.release();
    await stage.sink.verify(timeout());
    await stage.apply(rows(30n, "newer"));
    await stage.expectRows(users, all("newer"));
    expect((await stage.checkpointNow())?.position.commit).toBe(31n);
  });
}

/** Its bytes are on their way when the work is given up. */
async function givenUp(
  stage: Stage,
  work: HeldWork,
  begin: (signal: AbortSignal) => Promise<unknown>,
): Promise<HeldBytes> {
  const held = stage.target.hold!(work);
  const stop = new AbortController();
  const lost = failure(begin(stop.signal));
  await held.reached;
  stop.abort();
  expect((await lost).kind).toBe("aborted");
  return held;
}
