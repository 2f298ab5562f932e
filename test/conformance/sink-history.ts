/** What a warehouse promises where it keeps a history: every change once, in the order of the log. */
import { expect, test } from "vitest";
import { PATCH } from "../../src/core/model/batch.ts";
import { READ_OFFSET } from "../../src/core/targets/history.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { KeyedTable } from "../../src/core/model/schema.ts";
import { Compactor, type Slice } from "../../src/runtime/compaction/compaction.ts";
import { blockOf, type Change, tableVersion } from "../support/model/blocks.ts";
import type { KeptForm, SinkHarness } from "./sink.ts";
import { lines, users } from "./sink-rows.ts";
import { type Cells, failure, checkpointAt, put, Reports, rowsBatch, Stage, timeout, UNCHANGED } from "./stage.ts";

const MIRROR: KeptForm = { deletes: "hard", mode: "mirror" };
const wide = tableVersion({
  table: "wide",
  columns: { id: "int8", note: "text", tags: "text[]", doc: "json", ratio: "float8" },
});

type Expected = readonly [op: string, at: bigint, offset: number, cells: Cells, unchanged?: readonly string[]];

/** A filter leaves rows of it out. */
const filtered: KeyedTable = {
  ...users,
  ruled: { rules: "", source: users, lineage: [], filtered: true, fault: null },
};

export function historyTests(harness: SinkHarness): void {
  test("each change is a row, in the order of the log, with what the log carried", async () => {
    await using stage = await Stage.of(harness, users);
    await change(stage, 10n, [
      { op: "c", after: ["1", "a", "x"] },
      { op: "u", after: ["1", "b", "x"] },
      { op: "u", after: ["1", "b", null] },
      { op: "d", before: ["1", "b", null], beforeKind: "full" },
      { op: "c", after: ["1", "c", null] },
    ]);
    await change(stage, 20n, [
      { op: "u", after: ["2", "c", null], before: ["1", null, null] },
      { op: "d", before: ["2", null, null] },
    ]);
    await expectHistory(stage, [
      ["c", 10n, 0, ["1", "a", "x"]],
      ["u", 10n, 1, ["1", "b", "x"]],
      ["u", 10n, 2, ["1", "b", null]],
      ["d", 10n, 3, ["1", "b", null]],
      ["c", 10n, 4, ["1", "c", null]],
      ["d", 20n, 0, ["1", null, null]],
      ["u", 20n, 0, ["2", "c", null]],
      ["d", 20n, 1, ["2", null, null]],
    ]);
  });

  test("a history that somebody puts back while the sink is closed goes on, at the latest by an operator's word", async (context) => {
    await using stage = await Stage.of(harness, users);
    if (stage.target.copy === undefined) return context.skip("nobody can put a copy in a table's place here");
    await change(stage, 10n, [{ op: "c", after: ["1", "a", "x"] }]);
    const putBack = await stage.target.copy(users);
    await stage.sink.close();
    await putBack();
    await stage.restart();
    const told = await stage.sink.presence?.missing([users], timeout());
    // MR1315 has told of it, and the operator resumes the sink.
    if (told?.length === 1) await stage.open(stage.lease + 1);
    expect(await stage.sink.presence?.missing([users], timeout())).toEqual([]);
    return undefined;
  });

  test("a truncate is a row without a key, once", async () => {
    await using stage = await Stage.of(harness, users);
    await change(stage, 10n, [{ op: "c", after: ["1", "a", "x"] }]);
    const record = { index: 0, commitTimeUs: 1_795_000_000_000_001n, xid: 0, origin: undefined };
    const batch = { kind: "truncate", table: users, version: rowVersion(1, 20n), record } as const;
    await stage.apply({ ...batch, checkpoint: checkpointAt(21n) });
    await stage.apply({ ...batch, checkpoint: checkpointAt(22n) });
    await stage.expectRows(users, []);
    await change(stage, 30n, [{ op: "c", after: ["1", "a", "x"] }]);
    await stage.expectRows(users, [["1", "a", "x"]]);
    expect((await history(stage)).map(({ op }) => op)).toEqual(["c", "t", "c"]);
  });

  test("truncates before, between and behind the rows of one batch, where the sink takes both", async (context) => {
    await using stage = await Stage.of(harness, filtered, lines);
    context.skip(stage.sink.batchLimits?.hasTruncates !== true, "a truncate is a step of its own");
    await change(stage, 10n, [{ op: "c", after: ["1", "a", "x"] }], filtered);
    const record = { index: 0, commitTimeUs: 1_795_000_000_000_001n, xid: 0, origin: undefined };
    const truncate = (at: bigint, table = filtered) => ({ table, version: rowVersion(1, at), record });
    const truncates = [truncate(20n), truncate(20n, lines), truncate(40n), truncate(60n)];
    const { tables } = compactedOf(
      stage,
      [
        [{ op: "u", after: ["1", "a2", UNCHANGED], commit: 15n }],
        [
          { op: "c", after: ["1", "b", "long"], commit: 30n },
          { op: "u", after: ["1", "c", UNCHANGED], commit: 31n },
        ],
        [
          { op: "c", after: ["2", "d", "x"], commit: 50n },
          { op: "u", after: ["1", "e", UNCHANGED], commit: 51n },
        ],
        [{ op: "u", after: ["1", "f", UNCHANGED], isIfHeld: true, commit: 70n }],
      ],
      undefined,
      filtered,
    );
    const batch = { kind: "rows", truncates, tables } as const;
    const reports = [new Reports(), new Reports()] as const;
    await stage.apply({ ...batch, checkpoint: checkpointAt(71n) }, reports[0]);
    await stage.apply({ ...batch, checkpoint: checkpointAt(72n) }, reports[1]);
    // One that is left out is asked for each time.
    expect(reports.map(({ incompleteEntries }) => incompleteEntries)).toEqual([[4, 5], [5]]);
    await stage.expectRows(users, []);
    const seen = (await history(stage)).map(({ op, version, cells }) => [op, version, cells[2]]);
    const expected = [
      ["c", 10n, "x"],
      ["u", 15n, "x"],
      ["t", 20n, null],
      ["c", 30n, "long"],
      ["u", 31n, "long"],
      ["t", 40n, null],
      ["c", 50n, "x"],
      ["u", 51n, null],
      ["t", 60n, null],
    ] as const;
    expect(seen).toEqual(expected.map(([op, at, note]) => [op, rowVersion(1, at), note]));
    expect((await history(stage, lines)).map(({ op }) => op)).toEqual(["t"]);
  });

  test("unchanged cells are those of the row as it was before the change, wherever that is", async () => {
    await using stage = await Stage.of(harness, users);
    await change(stage, 10n, [
      { op: "c", after: ["1", "a", "one"] },
      { op: "u", after: ["1", "b", UNCHANGED] },
    ]);
    const second: Plain[] = [
      { op: "u", after: ["1", "c", UNCHANGED] },
      { op: "u", after: ["1", "d", UNCHANGED] },
      { op: "u", after: ["1", UNCHANGED, "two"] },
      { op: "u", after: ["7", "e", UNCHANGED], before: ["1", null, null] },
      { op: "u", after: ["7", "f", UNCHANGED] },
    ];
    expect((await change(stage, 20n, second)).incompletes).toEqual([]);
    const expected: Expected[] = [
      ["c", 10n, 0, ["1", "a", "one"]],
      ["u", 10n, 1, ["1", "b", "one"]],
      ["u", 20n, 0, ["1", "c", "one"]],
      ["u", 20n, 1, ["1", "d", "one"]],
      ["u", 20n, 2, ["1", "d", "two"]],
      ["d", 20n, 3, ["1", null, null]],
      ["u", 20n, 3, ["7", "e", "two"]],
      ["u", 20n, 4, ["7", "f", "two"]],
    ];
    await expectHistory(stage, expected);
    // Read again in other pieces, over a history that is further by now: nothing is appended, nothing is missed.
    await stage.restart(users);
    for (const [i, one] of second.entries()) {
      const reports = await change(stage, 20n, [{ ...one, index: i }]);
      expect(reports.incompletes).toEqual([]);
    }
    await expectHistory(stage, expected);
  });

  test("a cell that is known nowhere is marked, its key is reported, and a reading makes the row whole", async () => {
    await using stage = await Stage.of(harness, users);
    const reports = await change(stage, 10n, [
      { op: "u", after: ["1", "a", UNCHANGED] },
      { op: "u", after: ["2", "b", "known"] },
      { op: "u", after: ["1", "b", UNCHANGED] },
    ]);
    expect(reports.incompleteEntries).toEqual([0, 2]);
    const more = await change(stage, 20n, [{ op: "u", after: ["1", "c", UNCHANGED] }]);
    expect(more.incompleteEntries).toEqual([0]);
    await read(stage, 30n, [["1", "c", "long"]]);
    const whole = await change(stage, 40n, [{ op: "u", after: ["1", "d", UNCHANGED] }]);
    expect(whole.incompletes).toEqual([]);
    await expectHistory(stage, [
      ["u", 10n, 0, ["1", "a", null], ["note"]],
      ["u", 10n, 1, ["2", "b", "known"]],
      ["u", 10n, 2, ["1", "b", null], ["note"]],
      ["u", 20n, 0, ["1", "c", null], ["note"]],
      ["r", 30n, READ_OFFSET, ["1", "c", "long"]],
      ["u", 40n, 0, ["1", "d", "long"]],
    ]);
  });

  test("a change that takes nothing from the row before it is appended, and is no other one when it comes again", async () => {
    await using stage = await Stage.of(harness, users);
    await change(stage, 10n, [
      { op: "c", after: ["1", "a", "one"] },
      { op: "c", after: ["2", "a", "two"] },
    ]);
    const whole: Plain[] = [
      { op: "u", after: ["1", "b", UNCHANGED] },
      { op: "u", after: ["7", "b", UNCHANGED], before: ["2", null, null] },
    ];
    await change(stage, 20n, whole);
    const expected: Expected[] = [
      ["c", 10n, 0, ["1", "a", "one"]],
      ["c", 10n, 1, ["2", "a", "two"]],
      ["u", 20n, 0, ["1", "b", "one"]],
      ["d", 20n, 1, ["2", null, null]],
      ["u", 20n, 1, ["7", "b", "two"]],
    ];
    await expectHistory(stage, expected);
    // The log is read again, while the table waits to be read.
    expect((await baseless(stage, 20n, whole)).incompletes).toEqual([]);
    await expectHistory(stage, expected);
    const partial: Plain[] = [
      { op: "u", after: ["1", "c", UNCHANGED] },
      { op: "u", after: ["8", "c", UNCHANGED], before: ["7", null, null] },
    ];
    const reported = await baseless(stage, 30n, partial);
    expect(reported.incompleteEntries).toHaveLength(2);
    const unknown: Expected[] = [
      ["u", 30n, 0, ["1", "c", null], ["note"]],
      ["d", 30n, 1, ["7", null, null]],
      ["u", 30n, 1, ["8", "c", null], ["note"]],
    ];
    await expectHistory(stage, [...expected, ...unknown]);
    await read(stage, 40n, [
      ["1", "c", "one"],
      ["8", "c", "two"],
    ]);
    await stage.restart(users);
    await change(stage, 30n, partial);
    await baseless(stage, 30n, partial);
    await expectHistory(stage, [
      ...expected,
      ...unknown,
      ["r", 40n, READ_OFFSET, ["1", "c", "one"]],
      ["r", 40n, READ_OFFSET, ["8", "c", "two"]],
    ]);
  });

  test("a key that could not be reported is reported when the batch comes again", async () => {
    await using stage = await Stage.of(harness, users);
    await change(stage, 10n, [{ op: "c", after: ["2", "a", "two"] }]);
    const changes: Plain[] = [
      { op: "u", after: ["1", "b", UNCHANGED], commit: 20n },
      { op: "u", after: ["3", "b", UNCHANGED], before: ["0", null, null], commit: 20n },
    ];
    const { tables } = compactedOf(stage, [changes]);
    const batch = { kind: "rows", tables, checkpoint: checkpointAt(21n) } as const;
    const killed = { incomplete: async () => Promise.reject(new Error("killed")), poison: async () => undefined };
    await expect(stage.apply(batch, killed)).rejects.toThrow();
    await stage.restart(users);
    const reports = new Reports();
    await stage.apply(batch, reports);
    expect(reports.incompleteEntries).toHaveLength(2);
    const found = (await history(stage)).map(({ op, cells, unchanged }) => [op, cells[0], unchanged]);
    expect(found).toEqual([
      ["c", "2", []],
      ["u", "1", ["note"]],
      ["d", "0", []],
      ["u", "3", ["note"]],
    ]);
  });

  test("nothing is taken from a deleted row", async () => {
    await using stage = await Stage.of(harness, users);
    await change(stage, 10n, [{ op: "c", after: ["1", "a", "old"] }]);
    await change(stage, 20n, [{ op: "d", before: ["1", null, null] }]);
    const reports = await change(stage, 30n, [{ op: "u", after: ["1", "b", UNCHANGED] }]);
    expect(reports.incompleteEntries).toEqual([0]);
    const together = await change(stage, 40n, [
      { op: "u", after: ["1", "c", "new"] },
      { op: "d", before: ["1", null, null] },
      { op: "u", after: ["1", "d", UNCHANGED] },
    ]);
    expect(together.incompleteEntries).toEqual([2]);
    expect((await history(stage)).map(({ unchanged }) => unchanged)).toEqual([[], [], ["note"], [], [], ["note"]]);
  });

  test("nothing is taken from a row that a truncate has removed: its insert may be one that a filter leaves out", async () => {
    await using stage = await Stage.of(harness, filtered);
    await change(
      stage,
      10n,
      [
        { op: "c", after: ["1", "a", "old"] },
        { op: "c", after: ["2", "a", "old"] },
      ],
      filtered,
    );
    await truncate(stage, 20n, filtered);
    await change(stage, 30n, [{ op: "c", after: ["2", "b", "new"] }], filtered);
    const reports = await change(
      stage,
      40n,
      [
        { op: "u", after: ["1", "c", UNCHANGED] },
        { op: "u", after: ["2", "c", UNCHANGED] },
        { op: "u", after: ["3", "c", UNCHANGED], before: ["1", null, null] },
      ],
      filtered,
    );
    expect(reports.incompleteEntries).toEqual([0, 2]);
    const found = (await history(stage)).filter(({ version }) => version > rowVersion(1, 20n));
    expect(found.map(({ op, cells, unchanged }) => [op, cells[0], cells[2], unchanged])).toEqual([
      ["c", "2", "new", []],
      ["u", "1", null, ["note"]],
      ["u", "2", "new", []],
      ["d", "1", null, []],
      ["u", "3", null, ["note"]],
    ]);
  });

  test("rows that are read are appended where the history says something else, and no twice", async () => {
    await using stage = await Stage.of(harness, users);
    const rows = Array.from({ length: 50 }, (_, i): Cells => [`${100 + i}`, "a", i % 2 === 0 ? null : `t${i}`]);
    for (const at of [0n, 0n, 5n]) await read(stage, at, rows);
    expect(await history(stage)).toHaveLength(50);
    await change(stage, 10n, [
      { op: "u", after: ["100", "b", null] },
      { op: "d", before: ["101", null, null] },
    ]);
    await stage.restart(users);
    // 100 as it is, 101 gone, 102 changed while nobody looked, 103 an older reading, 104 found to be gone.
    await read(stage, 20n, [
      ["100", "b", null],
      ["102", "lost", null],
    ]);
    await change(stage, 30n, [{ op: "u", after: ["103", "c", null] }]);
    await read(stage, 25n, [["103", "a", "t3"]]);
    const gone: Plain[] = ["101", "104", "999"].map((id) => ({ op: "d", before: [id, null, null], commit: 0n }));
    for (let i = 0; i < 2; i++) await batchOf(stage, gone, 40n, rowVersion(1, 40n));
    const news = (await history(stage)).slice(50).map(({ op, version, cells }) => [op, version, cells[0]]);
    expect(news).toEqual([
      ["u", rowVersion(1, 10n), "100"],
      ["d", rowVersion(1, 10n), "101"],
      ["r", rowVersion(1, 20n), "102"],
      ["u", rowVersion(1, 30n), "103"],
      ["d", rowVersion(1, 40n), "104"],
    ]);
  });

  test("types without equality are compared too when they are read again", async () => {
    await using stage = await Stage.of(harness, wide);
    const cells: Cells = ["1", null, '{a,NULL,"b c"}', '{"a": 1}', "NaN"];
    const others: Cells = ["2", "", "{{1},{2}}", "null", "-0"];
    for (const at of [0n, 10n]) await read(stage, at, [cells, others], wide);
    expect(await history(stage, wide)).toHaveLength(2);
    await read(stage, 20n, [["1", null, '{a,NULL,"b c"}', '{"a":  1}', "NaN"], others], wide);
    expect(await history(stage, wide)).toHaveLength(3);
  });

  test("after a whole table was read, what it did not have any more is deleted, once", async () => {
    await using stage = await Stage.of(harness, users);
    await read(stage, 0n, [
      ["1", "a", null],
      ["2", "a", null],
      ["3", "a", null],
    ]);
    await change(stage, 10n, [
      { op: "d", before: ["3", null, null] },
      { op: "c", after: ["4", "a", null] },
    ]);
    await read(stage, 20n, [["1", "a", null]]);
    await change(stage, 25n, [{ op: "c", after: ["5", "a", null] }]);
    for (const at of [30n, 31n]) {
      await stage.apply({
        kind: "sweep",
        sweeps: [{ table: users, below: rowVersion(1, 20n) }],
        checkpoint: checkpointAt(at),
      });
    }
    await stage.expectRows(users, [
      ["1", "a", null],
      ["5", "a", null],
    ]);
    const deletes = (await history(stage)).filter(({ op }) => op === "d");
    expect(deletes.map(({ cells, version }) => [cells[0], version])).toEqual([
      ["3", rowVersion(1, 10n)],
      ["2", rowVersion(1, 20n)],
      ["4", rowVersion(1, 20n)],
    ]);
  });

  test("a mirror is not turned into a history, nor a history into a mirror", async () => {
    await using stage = await Stage.of(harness, users);
    await stage.write(users, 10n, [put(["1", "a", null])]);
    const mirror = await stage.target.makeSink(MIRROR);
    await mirror.open(stage.lease + 1, timeout());
    for (const attempt of [
      () => mirror.presence!.missing([users], timeout()),
      () => mirror.prepare([users], timeout()),
    ]) {
      const error = await failure(attempt());
      expect(error).toMatchObject({ kind: "fatal", message: expect.stringMatching(/history.*mirror/) });
      expect(error.hint).toContain("schema");
    }
    await mirror.prepare([wide], timeout());
    await mirror.close();
    await stage.open(stage.lease + 2);
    const error = await failure(stage.sink.prepare([wide], timeout()));
    expect(error).toMatchObject({ kind: "fatal", message: expect.stringMatching(/mirror.*history/) });
    await stage.expectRows(users, [["1", "a", null]]);
  });

  test("a change of a row that a filter may have left out is appended where the history has the row, and reported where not", async () => {
    await using stage = await Stage.of(harness, filtered);
    await change(
      stage,
      10n,
      [
        { op: "c", after: ["1", "a", "one"] },
        { op: "c", after: ["2", "a", "two"] },
        { op: "c", after: ["3", "a", "three"] },
        { op: "d", before: ["2", null, null] },
      ],
      filtered,
    );
    const held = (id: string, name: string): Plain => ({ op: "u", after: [id, name, UNCHANGED], isIfHeld: true });
    const second = [held("1", "b"), held("2", "b"), held("9", "b"), held("1", "c"), held("3", "b")];
    const appended: Expected[] = [
      ["c", 10n, 0, ["1", "a", "one"]],
      ["c", 10n, 1, ["2", "a", "two"]],
      ["c", 10n, 2, ["3", "a", "three"]],
      ["d", 10n, 3, ["2", null, null]],
      ["u", 20n, 0, ["1", "b", "one"]],
      ["u", 20n, 3, ["1", "c", "one"]],
      ["u", 20n, 4, ["3", "b", "three"]],
    ];
    // Read again, it is the same.
    for (let i = 0; i < 2; i++) {
      expect((await change(stage, 20n, second, filtered)).incompleteEntries).toEqual([1, 2]);
      await expectHistory(stage, appended);
    }
    await truncate(stage, 30n, filtered);
    expect((await change(stage, 40n, [held("1", "d")], filtered)).incompleteEntries).toEqual([0]);
    await change(stage, 50n, [{ op: "c", after: ["3", "d", "new"] }], filtered);
    expect((await change(stage, 60n, [held("3", "e"), held("1", "e")], filtered)).incompleteEntries).toEqual([1]);
    const found = (await history(stage)).slice(appended.length);
    expect(found.map(({ op, cells }) => [op, cells[1], cells[2]])).toEqual([
      ["t", null, null],
      ["c", "d", "new"],
      ["u", "e", "new"],
    ]);
  });

  test("a large step of all kinds is appended whole, in order", async () => {
    await using stage = await Stage.of(harness, users);
    const changes: Plain[] = [];
    for (let i = 0; i < 300; i++) {
      changes.push({ op: "c", after: [`${i}`, "a", `t${i}`] });
      changes.push({ op: "u", after: [`${i}`, "b", UNCHANGED] });
      if (i % 3 === 0) changes.push({ op: "d", before: [`${i}`, null, null] });
    }
    await change(stage, 10n, changes);
    const found = await history(stage);
    expect(found.map(({ op, offset, cells }) => [op, offset, cells[0], cells[2]])).toEqual(
      changes.map(({ op, after, before }, i) => {
        const id = (after ?? before)![0];
        return [op, i, id, op === "d" ? null : `t${String(id)}`];
      }),
    );
    await stage.apply(rowsBatch(20n, [users, [put(["0", "z", null])]]));
    expect(await history(stage)).toHaveLength(found.length + 1);
  });
}

type Plain = Omit<Change, "table">;

/** Changes of one transaction, through the runtime, in a batch. */
async function change(stage: Stage, at: bigint, changes: readonly Plain[], table = users): Promise<Reports> {
  return await batchOf(
    stage,
    changes.map((one) => ({ commit: at, ...one })),
    at,
    undefined,
    table,
  );
}

/** The same while the rows of the history may be others than the log's. */
async function baseless(stage: Stage, at: bigint, changes: readonly Plain[]): Promise<Reports> {
  const { tables } = compactedOf(stage, [changes.map((one) => ({ commit: at, ...one }))]);
  for (const { action, fresh, count } of tables) for (let i = 0; i < count; i++) if (action[i] === PATCH) fresh[i] = 1;
  const reports = new Reports();
  await stage.apply({ kind: "rows", tables, checkpoint: checkpointAt(at + 1n) }, reports);
  return reports;
}

async function truncate(stage: Stage, at: bigint, table = users): Promise<void> {
  const record = { index: 0, commitTimeUs: 1_795_000_000_000_001n, xid: 0, origin: undefined };
  const batch = { kind: "truncate", table, version: rowVersion(1, at), record } as const;
  await stage.apply({ ...batch, checkpoint: checkpointAt(at + 1n) });
}

async function read(stage: Stage, at: bigint, rows: readonly Cells[], table = users): Promise<void> {
  const reads = rows.map((after): Plain => ({ op: "r", after, commit: 0n }));
  await batchOf(stage, reads, at, rowVersion(1, at), table);
}

async function batchOf(stage: Stage, changes: readonly Plain[], at: bigint, version?: bigint, table = users) {
  const { tables } = compactedOf(stage, [changes], version, table);
  const reports = new Reports();
  await stage.apply({ kind: "rows", tables, checkpoint: checkpointAt(at + 1n) }, reports);
  return reports;
}

/** Between two parts the table is truncated. */
function compactedOf(stage: Stage, parts: readonly (readonly Plain[])[], version?: bigint, table = users) {
  const slices = parts.map((changes): Slice => {
    const block = blockOf(changes.map((one) => ({ table, ...(version === undefined ? {} : { version }), ...one })));
    return { block, from: 0, to: block.count, emptied: new Set([table.id]) };
  });
  const compacted = new Compactor(stage.sink.form).compact(slices, () => true);
  expect(compacted.untold).toEqual([]);
  return compacted;
}

async function history(stage: Stage, table = users) {
  if (stage.target.readHistory === undefined) throw new Error("the harness can't show a history");
  return await stage.target.readHistory(table);
}

async function expectHistory(stage: Stage, expected: readonly Expected[]): Promise<void> {
  const rows = (await history(stage)).map(({ op, version, offset, cells, unchanged }) => {
    return [op, version, offset, cells, unchanged];
  });
  expect(rows).toEqual(
    expected.map(([op, at, offset, cells, unchanged]) => {
      return [op, rowVersion(1, at), offset, stage.landed(users, cells), unchanged ?? []];
    }),
  );
}
