/** What a stream promises: every change once, in commit order over all tables, with the ends of transactions. */
import { expect, test } from "vitest";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import { READ_OFFSET } from "../../src/core/targets/history.ts";
import type { KeyedTable } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { Compactor } from "../../src/runtime/compaction/compaction.ts";
import { blockOf, type Change, tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import type { SinkHarness, StreamEntry } from "./sink.ts";
import { letterCaseTest } from "./sink-names.ts";
import { refusalTest, users } from "./sink-rows.ts";
import { failure, checkpointAt, Reports, Stage } from "./stage.ts";

const orders = tableVersion({ table: "orders", columns: { id: "int8", total: "numeric", note: "text" } });

export function streamTests(harness: SinkHarness): void {
  letterCaseTest(harness);
  refusalTest(harness);

  test("changes come once each, in commit order over all tables, and each transaction ends once", async () => {
    await using stage = await Stage.of(harness, users, orders);
    await changes(stage, 10n, [
      { table: users, op: "c", after: ["1", "a", "x"] },
      { table: orders, op: "c", after: ["7", "1.50", null] },
      { table: users, op: "u", after: ["1", "b", "x"] },
      { table: users, op: "c", after: ["2", "c", null] },
      { table: orders, op: "d", before: ["7", null, null] },
    ]);
    await changes(stage, 20n, [{ table: orders, op: "c", after: ["8", "2.00", "n"] }]);
    expect(await entries(stage)).toEqual([
      change(stage, users, "c", 10n, 0, ["1", "a", "x"]),
      change(stage, orders, "c", 10n, 1, ["7", "1.50", null]),
      change(stage, users, "u", 10n, 2, ["1", "b", "x"]),
      change(stage, users, "c", 10n, 3, ["2", "c", null]),
      change(stage, orders, "d", 10n, 4, ["7"]),
      end(10n),
      change(stage, orders, "c", 20n, 0, ["8", "2.00", "n"]),
      end(20n),
    ]);
  });

  test("a change of the key is a delete and an upsert under one index, an unchanged cell is marked", async () => {
    await using stage = await Stage.of(harness, users);
    await changes(stage, 10n, [
      { table: users, op: "u", after: ["2", "b", UNCHANGED], before: ["1", null, null] },
      { table: users, op: "u", after: ["3", UNCHANGED, null] },
    ]);
    const [first, second, ...rest] = await entries(stage);
    const moved = [change(stage, users, "d", 10n, 0, ["1"]), change(stage, users, "u", 10n, 0, ["2", "b", undefined])];
    expect(moved).toContainEqual(first);
    expect(moved).toContainEqual(second);
    expect(first).not.toEqual(second);
    expect(rest).toEqual([change(stage, users, "u", 10n, 1, ["3", undefined, null]), end(10n)]);
    expect(stage.reports.incompletes).toEqual([]);
  });

  test("a transaction that steps and processes share ends once, behind its last change", async () => {
    await using stage = await Stage.of(harness, users);
    const parts = [0, 1, 2].map((i): Change => ({ table: users, op: "c", after: [`${i}`, "a", null], index: i }));
    for (const [i, part] of parts.entries()) {
      const isLast = i === parts.length - 1;
      await changes(stage, 10n, [part], isLast ? checkpointAt(11n) : checkpointAt(10n, {}, i + 1));
      if (i === 0) await stage.restart(users);
    }
    const creations = parts.map((_, i) => change(stage, users, "c", 10n, i, [`${i}`, "a", null]));
    expect(await entries(stage)).toEqual([...creations, end(10n)]);
  });

  test("a transaction whose last part says nothing ends with the next progress behind it", async () => {
    await using stage = await Stage.of(harness, users);
    await changes(stage, 10n, [{ table: users, op: "c", after: ["1", "a", null] }], checkpointAt(10n, {}, 1));
    expect(await entries(stage)).toEqual([change(stage, users, "c", 10n, 0, ["1", "a", null])]);
    await stage.restart(users);
    await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(11n) });
    await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(30n) });
    expect((await entries(stage)).at(-1)).toEqual(end(10n));
    expect(await entries(stage)).toHaveLength(2);
  });

  test("a truncate and a sweep are entries at their place", async () => {
    await using stage = await Stage.of(harness, users);
    await changes(stage, 10n, [{ table: users, op: "c", after: ["1", "a", null] }]);
    const record = { index: 0, commitTimeUs: 1_795_000_000_000_001n, xid: 0, origin: undefined };
    const version = rowVersion(1, 20n);
    await stage.apply({ kind: "truncate", table: users, version, record, checkpoint: checkpointAt(21n) });
    await changes(stage, 30n, [{ table: users, op: "c", after: ["2", "b", null] }]);
    const below = rowVersion(1, 31n);
    await stage.apply({ kind: "sweep", sweeps: [{ table: users, below }], checkpoint: checkpointAt(31n) });
    expect(await entries(stage)).toEqual([
      change(stage, users, "c", 10n, 0, ["1", "a", null]),
      end(10n),
      { kind: "truncate", table: users.id, version },
      end(20n),
      change(stage, users, "c", 30n, 0, ["2", "b", null]),
      end(30n),
      { kind: "sweep", table: users.id, below },
    ]);
    await stage.expectRows(users, []);
  });

  test("rows that were read are of no transaction", async () => {
    await using stage = await Stage.of(harness, users);
    await changes(stage, 10n, [{ table: users, op: "r", after: ["1", "a", null] }], checkpointAt(10n));
    expect(await entries(stage)).toEqual([change(stage, users, "r", 10n, READ_OFFSET, ["1", "a", null])]);
  });

  test("however a log is cut into steps, and whatever comes again, the stream is the log", async () => {
    await using stage = await Stage.of(harness, users, orders);
    const log: Change[][] = Array.from({ length: 40 }, (_, i) =>
      Array.from({ length: 1 + (i % 4) }, (__, index): Change =>
        (i + index) % 3 === 0
          ? { table: orders, op: "u", after: [`${i % 5}`, `${i}.${index}`, UNCHANGED], index }
          : { table: users, op: "u", after: [`${index}`, `n${i}`, null], index },
      ),
    );
    const at = (i: number) => BigInt(1000 + i * 10);
    for (let i = 0; i < log.length;) {
      const size = 1 + ((i * 7) % 5);
      const part = log.slice(i, i + size);
      await batches(stage, part, (n) => at(i + n), checkpointAt(at(i + part.length - 1) + 1n));
      i += size;
      // A new process goes on from what the stream holds.
      if (i % 3 === 0) await stage.restart(users, orders);
    }
    const found = (await entries(stage)).flatMap((entry) =>
      entry.kind === "change" ? [[entry.table, entry.version, entry.index]] : [],
    );
    const expected = log.flatMap((one, i) => one.map((c, index) => [c.table.id, rowVersion(1, at(i)), index]));
    // What is idempotent may come twice: readers tell by version and index.
    expect(harness.transactional ? found : [...new Map(found.map((f) => [String(f), f])).values()]).toEqual(expected);
    expect((await entries(stage)).filter(({ kind }) => kind === "end")).toHaveLength(log.length);
  });

  test("a step after somebody else has written fails, and adds nothing", async () => {
    await using stage = await Stage.of(harness, users);
    await changes(stage, 10n, [{ table: users, op: "c", after: ["1", "a", null] }]);
    await using rival = await stage.rival(stage.lease + 1, users);
    const late = changes(stage, 20n, [{ table: users, op: "c", after: ["2", "b", null] }]);
    expect((await failure(late)).kind).toBe("fatal");
    await changes(rival, 20n, [{ table: users, op: "c", after: ["3", "c", null] }]);
    expect(await entries(rival)).toEqual([
      change(stage, users, "c", 10n, 0, ["1", "a", null]),
      end(10n),
      change(stage, users, "c", 20n, 0, ["3", "c", null]),
      end(20n),
    ]);
  });
}

async function changes(
  stage: Stage,
  at: bigint,
  list: readonly Change[],
  checkpoint: Checkpoint = checkpointAt(at + 1n),
): Promise<void> {
  await batches(stage, [list], () => at, checkpoint);
}

/** The transactions as one batch, through the runtime's compaction. */
async function batches(
  stage: Stage,
  log: readonly (readonly Change[])[],
  at: (transaction: number) => bigint,
  checkpoint: Checkpoint,
): Promise<void> {
  const blocks = log.map((list, i) => blockOf(list.map((one) => ({ ...one, commit: at(i) }))));
  const slices = blocks.map((block) => ({ block, from: 0, to: block.count }));
  const { tables, order } = new Compactor(stage.sink.form).compact(slices, () => true);
  stage.reports = new Reports();
  await stage.apply({ kind: "rows", tables, order, checkpoint });
}

async function entries(stage: Stage): Promise<readonly StreamEntry[]> {
  return await stage.target.readStream!([users, orders]);
}

function change(
  stage: Stage,
  table: KeyedTable,
  op: string,
  at: bigint,
  index: number,
  cells: readonly (string | null | undefined)[],
): StreamEntry {
  const columns = op === "d" ? table.key : [...table.columns.keys()];
  const landed = cells.map((cell, i) =>
    cell == null ? cell : (stage.harness.landed?.(table.columns[columns[i]!]!, cell) ?? cell),
  );
  return { kind: "change", table: table.id, op, version: rowVersion(1, at), index, cells: landed };
}

function end(at: bigint): StreamEntry {
  return { kind: "end", version: rowVersion(1, at) };
}
