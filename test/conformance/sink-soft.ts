/** What a warehouse promises in addition where deletes are soft. */
import { expect, test } from "vitest";
import type { Batch } from "../../src/core/model/batch.ts";
import type { KeyedTable, Mask } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { blockOf, writesOf } from "../support/model/blocks.ts";
import type { MarkedRow, KeptForm, SinkHarness } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { type Cells, patch, checkpointAt, put, remove, Reports, rowsBatch, Stage, UNCHANGED } from "./stage.ts";

const HARD: KeptForm = { deletes: "hard", mode: "mirror" };

export function softTests(harness: SinkHarness, soft: KeptForm | undefined): void {
  test("a delete keeps the row and marks it, with the delete's version and time; an insert takes the mark away", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "b"]), put(["2", "c", null])]);
    const commitTimeUs = 1_795_000_000_123_456n;
    const block = blockOf([{ table: users, op: "d", before: ["1", null, null], commit: 20n, commitTimeUs }]);
    await stage.apply({ kind: "rows", tables: [writesOf(users, block)], checkpoint: checkpointAt(21n) });
    const rows = await marked(stage);
    expect(rows).toMatchObject([
      { cells: ["1", "a", "b"], isDeleted: true, version: rowVersion(1, 20n), commitTimeUs },
      { cells: ["2", "c", null], isDeleted: false, version: rowVersion(1, 10n) },
    ]);
    await stage.write(users, 30n, [put(["1", "again", null], { fresh: true })]);
    await expectMarks(stage, [
      [["1", "again", null], false, 30n],
      [["2", "c", null], false, 10n],
    ]);
  });

  test("a delete of a row that the sink does not hold leaves nothing", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [remove(["7", null, null])]);
    await stage.write(
      users,
      20n,
      Array.from({ length: 60 }, (_, i) => remove([`${i}`, null, null])),
    );
    await expectMarks(stage, []);
  });

  test("deletes, puts and key changes of a large step mark what went", async () => {
    await using stage = await Stage.of(harness, users);
    const ids = Array.from({ length: 90 }, (_, i) => 100 + i);
    await stage.write(
      users,
      10n,
      ids.map((id) => put([`${id}`, "a", `t${id}`], { fresh: true })),
    );
    const reports = await stage.write(
      users,
      20n,
      ids.flatMap((id, i) => {
        if (i % 3 === 0) return [remove([`${id}`, null, null])];
        if (i % 3 === 1) return [put([`${id}`, "b", null])];
        return [patch([`${id + 500}`, "c", UNCHANGED], { from: [`${id}`, null, null] }), remove([`${id}`, null, null])];
      }),
    );
    expect(reports.incompletes).toEqual([]);
    const was = (id: number): Expected => [[`${id}`, "a", `t${id}`], true, 20n];
    await expectMarks(stage, [
      ...ids.map((id, i): Expected => (i % 3 === 1 ? [[`${id}`, "b", null], false, 20n] : was(id))),
      ...ids.filter((_, i) => i % 3 === 2).map((id): Expected => [[`${id + 500}`, "c", `t${id}`], false, 20n]),
    ]);
    // All of them updated at once, the deleted ones included.
    await stage.write(
      users,
      30n,
      ids.map((id) => put([`${id}`, "z", null])),
    );
    expect((await marked(stage)).filter(({ isDeleted }) => isDeleted)).toEqual([]);
  });

  test("a deleted row is no base for unchanged cells", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", "old"]), put(["2", "a", "kept"]), put(["3", "a", "old"])]);
    await stage.write(users, 20n, [remove(["1", null, null]), remove(["3", null, null])]);
    const alone = await stage.write(users, 30n, [patch(["1", "b", UNCHANGED])]);
    expect(alone.incompleteEntries).toEqual([0]);
    const several = await stage.write(users, 40n, [
      patch(["1", "b", UNCHANGED]),
      patch(["2", "b", UNCHANGED]),
      patch(["9", "b", UNCHANGED], { from: ["3", null, null] }),
      remove(["3", null, null]),
    ]);
    expect(several.incompleteEntries).toEqual([0, 2]);
    await stage.expectRows(users, [["2", "b", "kept"]]);
  });

  test("a truncate and a sweep mark rows; what was marked before keeps its version", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", null]), put(["2", "a", null]), put(["3", "a", null], { at: 40n })]);
    await stage.write(users, 12n, [remove(["1", null, null])]);
    const record = { index: 3, commitTimeUs: 1_795_000_000_000_001n, xid: 0, origin: undefined };
    await stage.apply({
      kind: "truncate",
      table: users,
      version: rowVersion(1, 20n),
      record,
      checkpoint: checkpointAt(21n),
    });
    const rows = await marked(stage);
    expect(rows[1]?.commitTimeUs).toBe(record.commitTimeUs);
    await expectMarks(stage, [
      [["1", "a", null], true, 12n],
      [["2", "a", null], true, 20n],
      [["3", "a", null], false, 40n],
    ]);
    await stage.apply({
      kind: "sweep",
      sweeps: [{ table: users, below: rowVersion(1, 50n) }],
      checkpoint: checkpointAt(51n),
    });
    await expectMarks(stage, [
      [["1", "a", null], true, 12n],
      [["2", "a", null], true, 20n],
      [["3", "a", null], true, 50n],
    ]);
    await stage.write(users, 60n, [put(["2", "b", null], { fresh: true })]);
    await stage.expectRows(users, [["2", "b", null]]);
  });

  test("a log read again neither revives a deleted row nor deletes one that came back", async () => {
    await using stage = await Stage.of(harness, users);
    const log: Batch[] = [
      rowsBatch(10n, [users, [put(["1", "a", null], { fresh: true }), put(["2", "a", null], { fresh: true })]]),
      rowsBatch(20n, [users, [remove(["1", null, null]), remove(["2", null, null])]]),
      rowsBatch(30n, [users, [put(["2", "b", null], { fresh: true })]]),
    ];
    for (const batch of log) await stage.apply(batch);
    await stage.restart(users);
    for (const batch of log) {
      await stage.apply(batch, new Reports());
      await stage.expectRows(users, [["2", "b", null]]);
    }
  });

  test("what rules hide later is gone from rows marked as deleted, once, whenever they were deleted", async () => {
    await using stage = await Stage.of(harness, users);
    const ids = ["1", "2", "3", "4"];
    await stage.write(
      users,
      10n,
      ids.map((id) => put([id, `plain${id}`, `note${id}`])),
    );
    await stage.write(users, 20n, [remove(["1", null, null])]);
    const masked = hiding(2, { hides: "one", masks: { name: "redact" } });
    await stage.restart(masked);
    // One is deleted before it was read again; another one is found to be gone.
    await stage.write(masked, 50n, [remove(["2", null, null])]);
    await stage.write(masked, 60n, [put(["3", "[redacted]", "note3"])]);
    await sweep(stage, masked, 45n, 61n);
    const hidden: Expected[] = [
      [["1", null, "note1"], true, 20n],
      [["2", null, "note2"], true, 50n],
      [["3", "[redacted]", "note3"], false, 60n],
      [["4", null, "note4"], true, 45n],
    ];
    await expectMarks(stage, hidden);
    // From here on deleted rows keep what they had under these rules, whatever is read again.
    await stage.write(masked, 70n, [remove(["3", null, null])]);
    hidden[2] = [["3", "[redacted]", "note3"], true, 70n];
    await sweep(stage, masked, 80n, 81n);
    await expectMarks(stage, hidden);
    await stage.restart(masked);
    await sweep(stage, masked, 90n, 91n);
    await expectMarks(stage, hidden);
    // A column that is left out, and then a filter.
    const dropped = hiding(3, { hides: "two", masks: { name: "redact", note: null } });
    await stage.restart(dropped);
    await sweep(stage, dropped, 100n, 101n);
    await expectMarks(
      stage,
      hidden.map(([[id], isDeleted, at]): Expected => [[id!, null, null], isDeleted, at]),
    );
    const filtered = hiding(4, { hides: "three", masks: {}, filtered: true });
    await stage.prepare(filtered);
    await stage.write(filtered, 110n, [put(["5", "name5", "note5"])]);
    await sweep(stage, filtered, 120n, 121n);
    expect((await marked(stage)).at(-1)).toMatchObject({ cells: ["5", null, null], isDeleted: true });
    // Rules that hide nothing any more take nothing away.
    await stage.prepare(users);
    await stage.write(users, 130n, [put(["6", "name6", "note6"])]);
    await sweep(stage, users, 140n, 141n);
    expect((await marked(stage)).at(-1)).toMatchObject({ cells: ["6", "name6", "note6"], isDeleted: true });
  });

  test("what was written under rules that hide less, and were taken back before all was read again, is hidden too", async () => {
    const rules = { hides: "one", masks: { name: "redact" } } as const;
    const [masked, again] = [hiding(2, rules), hiding(3, rules)];
    await using stage = await Stage.of(harness, masked);
    await stage.write(masked, 10n, [put(["1", "[redacted]", "note1"]), put(["2", "[redacted]", "note2"])]);
    // Nothing is hidden; the process ends before the read that this causes.
    await stage.restart(users);
    await stage.write(users, 20n, [put(["1", "plain1", "note1"]), put(["3", "plain3", "note3"])]);
    await stage.write(users, 30n, [remove(["1", null, null])]);
    await stage.restart(again);
    await stage.write(again, 40n, [put(["2", "[redacted]", "note2"])]);
    await sweep(stage, again, 35n, 41n);
    await expectMarks(stage, [
      [["1", null, "note1"], true, 30n],
      [["2", "[redacted]", "note2"], false, 40n],
      [["3", null, "note3"], true, 35n],
    ]);
  });

  test("between hard and soft deletes: no live row is lost, and no deleted one is left unmarked", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", null]), put(["2", "a", "long"])]);
    await stage.write(users, 20n, [remove(["1", null, null])]);
    const hard = await stage.target.makeSink(HARD);
    await hard.open(stage.lease + 1, AbortSignal.timeout(30_000));
    // Also where no row moves in the table.
    expect(await hard.presence!.missing([users], AbortSignal.timeout(30_000))).toEqual([]);
    await expect(marked(stage)).rejects.toThrow(/_millrace_deleted/);
    await hard.prepare([users], AbortSignal.timeout(30_000));
    await hard.apply(
      rowsBatch(30n, [users, [patch(["2", "b", UNCHANGED])]]),
      new Reports(),
      AbortSignal.timeout(30_000),
    );
    await hard.close();
    const again = await stage.target.makeSink(soft);
    await again.open(stage.lease + 2, AbortSignal.timeout(30_000));
    expect(await again.presence!.missing([users], AbortSignal.timeout(30_000))).toEqual([]);
    await expectMarks(stage, [[["2", "b", "long"], false, 30n]]);
    await again.prepare([users], AbortSignal.timeout(30_000));
    await again.apply(rowsBatch(40n, [users, [remove(["2", null, null])]]), new Reports(), AbortSignal.timeout(30_000));
    await expectMarks(stage, [[["2", "b", "long"], true, 40n]]);
    await again.close();
  });
}

interface Hiding {
  readonly hides: string;
  /** By column; null: it is left out. */
  readonly masks: Readonly<Record<string, Mask | null>>;
  readonly filtered?: boolean;
}

/** The table under rules. */
export function hiding(version: number, { hides, masks, filtered = false }: Hiding): KeyedTable {
  const lineage = users.columns.map(({ name }) => ({
    source: name,
    target: masks[name] === null ? null : name,
    mask: masks[name] ?? null,
  }));
  return {
    ...users,
    version,
    since: { epoch: 1, commit: BigInt(10 * version), index: 0 },
    columns: users.columns.filter(({ name }) => masks[name] !== null),
    fingerprint: `${users.fingerprint}${hides}`,
    hides,
    ruled: { rules: hides, source: users, lineage, filtered, fault: null },
  };
}

export async function sweep(stage: Stage, table: KeyedTable, below: bigint, at: bigint): Promise<void> {
  await stage.apply({
    kind: "sweep",
    sweeps: [{ table, below: rowVersion(1, below) }],
    checkpoint: checkpointAt(at),
  });
}

type Expected = readonly [cells: Cells, isDeleted: boolean, at: bigint];

async function marked(stage: Stage): Promise<readonly MarkedRow[]> {
  if (stage.target.readMarked === undefined) throw new Error("the harness can't show which rows are marked");
  return await stage.target.readMarked(users);
}

async function expectMarks(stage: Stage, expected: readonly Expected[]): Promise<void> {
  const found = (await marked(stage)).map(({ cells, isDeleted, version }) => [cells, isDeleted, version]);
  expect(found).toEqual(
    expected.map(([cells, deleted, at]) => [stage.landed(users, cells), deleted, rowVersion(1, at)]),
  );
}
