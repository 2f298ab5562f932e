/** Changes of a table's shape, as the runtime brings them: the sink forgets, follows, and is given all rows again. */
import { expect, test, type TestContext } from "vitest";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { type Cell, tableVersion, type TableSpec } from "../support/model/blocks.ts";
import { isNoMirror, type SinkHarness } from "./sink.ts";
import { type Cells, patch, checkpointAt, put, remove, Stage, timeout, UNCHANGED } from "./stage.ts";

const RELATION = 16_400;

function items(version: number, spec: Pick<TableSpec, "columns" | "key" | "identities">): TableVersion {
  return tableVersion({ table: "items", relation: RELATION, version, ...spec });
}

const before = items(1, {
  columns: { id: "int4", name: "text", note: "text", code: "int4" },
  key: ["id"],
});

/** Codes are other rows' ids: under a key over them each row takes the place of another one. */
const rowsBefore: readonly Cells[] = [
  ["1", "one", "first", "2"],
  ["2", "two", null, "3"],
  ["3", "three", "third", "1"],
  ["4", "12", "fourth", "4"],
  ["5", null, "fifth", "50"],
];

interface ShapeChange {
  readonly name: string;
  readonly after: TableVersion;
  readonly rows: readonly Cells[];
}

const swapped = items(2, {
  columns: { id: "int4", note: "text", name: "text", code: "int4" },
  key: ["id"],
});
const renamed = items(2, {
  columns: { id: "int4", title: "text", note: "text", code: "int4" },
  key: ["id"],
});
const rekeyed = items(2, {
  columns: { id: "int4", name: "text", note: "text", code: "int4" },
  key: ["code"],
});

const CHANGES: readonly ShapeChange[] = [
  {
    name: "a column added",
    after: items(2, {
      columns: { id: "int4", name: "text", note: "text", code: "int4", price: "int4" },
      key: ["id"],
    }),
    rows: rowsBefore.map((row, i) => [...row, i === 2 ? null : "9"]),
  },
  {
    name: "a column dropped",
    after: items(2, {
      columns: { id: "int4", name: "text", code: "int4" },
      key: ["id"],
      identities: { code: 4 },
    }),
    rows: rowsBefore.map(([id, name, , code]) => [id!, name!, code!]),
  },
  { name: "a column renamed", after: renamed, rows: rowsBefore },
  { name: "the names of two columns swapped", after: swapped, rows: rowsBefore },
  {
    name: "a column renamed onto the name that another one gave up",
    after: items(2, {
      columns: { id: "int4", note: "text", remark: "text", code: "int4" },
      key: ["id"],
    }),
    rows: rowsBefore,
  },
  {
    name: "a column dropped and added again",
    after: items(2, {
      columns: { id: "int4", name: "text", code: "int4", note: "text" },
      key: ["id"],
      identities: { code: 4, note: 5 },
    }),
    rows: rowsBefore.map(([id, name, , code], i) => [id!, name!, code!, i === 1 ? "new" : null]),
  },
  {
    name: "a type widened",
    after: items(2, {
      columns: { id: "int4", name: "text", note: "text", code: "int8" },
      key: ["id"],
    }),
    rows: rowsBefore.map((row, i) => (i === 0 ? [...row.slice(0, 3), "5000000000"] : row)),
  },
  {
    name: "a number made a text",
    after: items(2, {
      columns: { id: "int4", name: "text", note: "text", code: "text" },
      key: ["id"],
    }),
    rows: rowsBefore.map((row, i) => (i === 0 ? [...row.slice(0, 3), "no number"] : row)),
  },
  {
    name: "a text made a number, with values that did not fit",
    after: items(2, {
      columns: { id: "int4", name: "int4", note: "text", code: "int4" },
      key: ["id"],
    }),
    rows: rowsBefore.map(([id, name, ...rest]) => [id!, name === "12" ? "12" : null, ...rest]),
  },
  {
    name: "a number of the key made a text",
    after: items(2, {
      columns: { id: "text", name: "text", note: "text", code: "int4" },
      key: ["id"],
    }),
    rows: rowsBefore.map(([id, ...rest], i) => [i === 0 ? "a:1" : id!, ...rest]),
  },
  {
    name: "a column renamed onto the name of one that was dropped, of another type",
    after: items(2, {
      columns: { id: "int4", name: "text", note: "int4" },
      key: ["id"],
      identities: { note: 4 },
    }),
    rows: rowsBefore.map(([id, name, , code]) => [id!, name!, code!]),
  },
  { name: "the key changed to another column", after: rekeyed, rows: rowsBefore },
  {
    name: "the key made of two columns",
    after: items(2, {
      columns: before.columns.map(({ name, native }) => [name, native] as const),
      key: ["code", "id"],
    }),
    rows: rowsBefore,
  },
  {
    name: "nulls forbidden",
    after: {
      ...before,
      version: 2,
      fingerprint: "nulls forbidden",
      columns: before.columns.map((column) => ({ ...column, nullable: false })),
    },
    rows: rowsBefore.map((row) => row.map((cell) => cell ?? "none")),
  },
  {
    name: "another table under the name",
    after: { ...before, version: 2, fingerprint: "another table", relation: RELATION + 1 },
    rows: [
      ["2", "other", null, "7"],
      ["9", "other", "x", null],
    ],
  },
];

/** A column that the target kept when the table lost it, and whose name another one gets later. */
interface Returned {
  readonly name: string;
  readonly there: readonly [native: string, value: string];
  readonly returns: readonly [native: string, value: string];
  /** Each shape is of another table under the name. */
  readonly isMadeAnew?: boolean;
}

const RETURNED: readonly Returned[] = [
  { name: "a number after a text", there: ["text", "old"], returns: ["int4", "7"] },
  { name: "the same type", there: ["text", "old"], returns: ["text", "new"] },
  { name: "more digits", there: ["numeric(10,2)", "1.50"], returns: ["numeric(20,4)", "1.5000"] },
  { name: "a longer text", there: ["varchar(10)", "short"], returns: ["varchar(20)", "longer than ten"] },
  {
    name: "in another table under the name",
    there: ["numeric(7,3)", "1.250"],
    returns: ["real", "0.5"],
    isMadeAnew: true,
  },
];

interface Carried {
  readonly name: string;
  readonly after: TableVersion;
  /** The first row, changed; the cell at `carried` is not. */
  readonly unchanged: Cells;
  readonly carried: number;
}

const CARRIED: readonly Carried[] = [
  { name: "renamed", after: renamed, unchanged: ["1", UNCHANGED, "new", "2"], carried: 1 },
  { name: "swapped", after: swapped, unchanged: ["1", UNCHANGED, "new", "2"], carried: 1 },
  { name: "another key", after: rekeyed, unchanged: ["1", "new", UNCHANGED, "2"], carried: 2 },
];

export function shapeTests(harness: SinkHarness): void {
  const cantFollow = (after: TableVersion, context: TestContext) =>
    hasOtherKey(after) && isNoMirror(harness, context, "a history can't follow another key");

  test.for(CHANGES)("$name: after the rows were read again the sink equals them", async ({ after, rows }, context) => {
    if (cantFollow(after, context)) return;
    await using stage = await Stage.of(harness, before);
    await fill(stage, before, rowsBefore, 10n);
    await follow(stage, after, 11n);
    // Half of the rows, and the process ends.
    await stage.write(
      after,
      20n,
      rows.slice(0, 2).map((row) => put(row)),
    );
    await stage.restart(after);
    await fill(stage, after, rows.slice(2), 20n);
    await stage.expectRows(after, rows);
    await stage.restart(after);
    await stage.expectRows(after, rows);
    await stage.write(after, 30n, [put(rows[1]!)]);
    await stage.expectRows(after, rows);
  });

  test.for(CHANGES)("$name: the log is read again from before it", async ({ after, rows }, context) => {
    const way = "a history can't follow a key to a type that has no room for its values";
    if (cantFollow(after, context) || (hasOtherKeyType(after) && isNoMirror(harness, context, way))) return;
    await using stage = await Stage.of(harness, before);
    await fill(stage, before, rowsBefore, 10n);
    await follow(stage, after, 11n);
    await fill(stage, after, rows, 20n);
    await stage.restart(after);
    await follow(stage, before, 8n);
    await stage.write(before, 9n, [...rowsBefore.map((row) => put(row)), put(["77", "gone", null, "77"])]);
    await follow(stage, after, 11n);
    await stage.write(after, 19n, [put(rows[0]!)]);
    await fill(stage, after, rows, 40n);
    await stage.expectRows(after, rows);
    await stage.sink.verify(timeout());
  });

  test("a shape after another that was not complete yet", async () => {
    await using stage = await Stage.of(harness, before);
    await fill(stage, before, rowsBefore, 10n);
    let held = before;
    const changes = CHANGES.filter(
      ({ after }) => harness.form?.mode !== "history" || !(hasOtherKey(after) || hasOtherKeyType(after)),
    );
    for (const [i, { after, rows }] of changes.entries()) {
      const at = BigInt(20 + 10 * i);
      await follow(stage, after, at - 1n);
      await stage.write(
        after,
        at,
        rows.slice(0, 3).map((row) => put(row)),
      );
      held = after;
    }
    const { rows } = changes.at(-1)!;
    await fill(stage, held, rows, 900n);
    await stage.expectRows(held, rows);
    await stage.sink.verify(timeout());
  });

  test("of a column that was dropped nothing is left in rows that are written anew", async () => {
    const { after, rows } = CHANGES.find(({ name }) => name === "a column dropped")!;
    await using stage = await Stage.of(harness, before);
    await fill(stage, before, rowsBefore, 10n);
    await follow(stage, after, 11n);
    await fill(stage, after, rows, 20n);
    await stage.expectRows(
      before,
      rowsBefore.map(([id, name, , code]) => [id!, name!, null, code!]),
    );
  });

  test.for(RETURNED)("a dropped column's name comes back, $name", async ({ there, returns, isMadeAnew = false }) => {
    const shape = (version: number, columns: TableSpec["columns"], identities: Readonly<Record<string, number>>) => {
      const relation = isMadeAnew ? RELATION + version : RELATION;
      return tableVersion({ table: "items", relation, version, columns, key: ["id"], identities });
    };
    const first = shape(
      1,
      [
        ["id", "int4"],
        ["y", there[0]],
      ],
      {},
    );
    const without = shape(2, [["id", "int4"]], {});
    const last = shape(
      3,
      [
        ["id", "int4"],
        ["y", returns[0]],
      ],
      isMadeAnew ? {} : { y: 3 },
    );
    const rows: readonly Cells[] = [
      ["1", returns[1]],
      ["2", null],
    ];
    await using stage = await Stage.of(harness, first);
    await fill(
      stage,
      first,
      [
        ["1", there[1]],
        ["2", there[1]],
        ["3", there[1]],
      ],
      10n,
    );
    await follow(stage, without, 19n);
    await fill(stage, without, [["1"], ["2"]], 20n);
    await follow(stage, last, 29n);
    await fill(stage, last, rows, 30n);
    await stage.expectRows(last, rows);
    await stage.restart(last);
    await stage.write(last, 40n, [put(["2", returns[1]])]);
    await stage.expectRows(last, [rows[0]!, ["2", returns[1]]]);
    // The log is read again from before it.
    await follow(stage, first, 8n);
    await stage.write(first, 9n, [put(["1", there[1]])]);
    await follow(stage, without, 19n);
    await follow(stage, last, 29n);
    await fill(stage, last, rows, 50n);
    await stage.expectRows(last, rows);
    await stage.sink.verify(timeout());
  });

  test.for(CARRIED)(
    "an unchanged value of a row from before is kept or asked for: $name",
    async ({ after, unchanged, carried }, context) => {
      if (cantFollow(after, context)) return;
      await using stage = await Stage.of(harness, before);
      await fill(stage, before, rowsBefore, 10n);
      await follow(stage, after, 11n);
      const { incompleteEntries } = await stage.write(after, 20n, [patch(unchanged)]);
      const whole = unchanged.map((cell, i): Cell => (i === carried ? rowsBefore[0]![namedBefore(after, i)]! : cell));
      const found = (await stage.target.readRows(after)).filter(({ version }) => version === rowVersion(1, 20n));
      const expected = incompleteEntries.length > 0 ? [] : [stage.landed(after, whole)];
      expect(found.map(({ cells }) => cells)).toEqual(expected);
      const rows = [whole, ...rowsBefore.slice(1)];
      await fill(stage, after, rows, 30n);
      await stage.write(after, 40n, [patch(unchanged.map((cell): Cell => (cell === "new" ? "newer" : cell)))]);
      await stage.expectRows(
        after,
        rows.map((row) => row.map((cell): Cell => (cell === "new" ? "newer" : cell))),
      );
    },
  );

  test("changes go on while a shape is being filled", async () => {
    const { after, rows } = CHANGES.find(({ name }) => name === "a number made a text")!;
    await using stage = await Stage.of(harness, before);
    await fill(stage, before, rowsBefore, 10n);
    await follow(stage, after, 11n);
    await stage.write(
      after,
      20n,
      rows.map((row) => put(row)),
    );
    await stage.write(after, 21n, [patch(["1", "changed", UNCHANGED, UNCHANGED]), remove(["2", null, null, null])]);
    const below = rowVersion(1, 20n);
    await stage.apply({ kind: "sweep", sweeps: [{ table: after, below }], checkpoint: checkpointAt(22n) });
    await complete(stage, after, 22n);
    const expected = [["1", "changed", ...rows[0]!.slice(2)], ...rows.slice(2)];
    await stage.expectRows(after, expected);
    await stage.apply({ kind: "truncate", table: after, version: rowVersion(1, 20n), checkpoint: checkpointAt(23n) });
    await stage.expectRows(after, [expected[0]!]);
  });
}

function hasOtherKey({ key, columns }: TableVersion): boolean {
  return key.length !== 1 || columns[key[0]!]!.identity !== before.columns[before.key[0]!]!.identity;
}

function hasOtherKeyType({ key, columns }: TableVersion): boolean {
  return columns[key[0]!]!.native !== before.columns[before.key[0]!]!.native;
}

/** Where the column lay before: what tells columns apart is their identity. */
function namedBefore(after: TableVersion, ordinal: number): number {
  return before.columns.findIndex(({ identity }) => identity === after.columns[ordinal]!.identity);
}

/** As the runtime does it: that the table is complete is forgotten first, and durably. The sink stands at `at`. */
async function follow(stage: Stage, table: TableVersion, at: bigint): Promise<void> {
  await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(at) });
  await stage.sink.prepare([table], timeout());
}

/** The rows as a re-read gives them: chunks, a sweep of what they have not renewed, and the word that it is complete. */
async function fill(stage: Stage, table: TableVersion, rows: readonly Cells[], at: bigint): Promise<void> {
  const half = Math.ceil(rows.length / 2);
  for (const chunk of [rows.slice(0, half), rows.slice(half)]) {
    if (chunk.length > 0)
      await stage.write(
        table,
        at,
        chunk.map((row) => put(row)),
      );
  }
  await stage.apply({
    kind: "sweep",
    sweeps: [{ table, below: rowVersion(1, at) }],
    checkpoint: checkpointAt(at + 1n),
  });
  await complete(stage, table, at + 1n);
}

async function complete(stage: Stage, table: TableVersion, at: bigint): Promise<void> {
  await stage.apply({ kind: "checkpoint", checkpoint: checkpointAt(at, { [table.id]: `${table.fingerprint}/1` }) });
}
