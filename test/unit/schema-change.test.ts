import { describe, expect, test } from "vitest";
import { describeChange, isCompatible, type SchemaChange, schemaChanges } from "../../src/core/model/schema-change.ts";
import { decodeNote, encodeNote, follow, noteOf, renamesOf } from "../../connectors/warehouse/following.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { tableVersion, type TableSpec } from "../support/model/blocks.ts";

const shape = (columns: TableSpec["columns"], more: Partial<TableSpec> = {}): TableVersion =>
  tableVersion({ table: "t", key: ["id"], columns, ...more });

const OLD = shape([
  ["id", "integer"],
  ["a", "text"],
  ["b", "integer"],
]);

const told = (to: TableVersion, from = OLD): readonly string[] => schemaChanges(from, to).map(describeChange);

describe("what changed", () => {
  test("nothing", () => expect(told(OLD)).toEqual([]));

  test("columns that were renamed are told from others that were dropped and added", () => {
    const renamed = shape([
      ["id", "integer"],
      ["z", "text"],
      ["b", "integer"],
    ]);
    expect(told(renamed)).toEqual(['column renamed: "a" to "z"']);
    const another = shape(
      [
        ["id", "integer"],
        ["b", "integer"],
        ["z", "text"],
      ],
      { identities: { b: 3, z: 4 } },
    );
    expect(told(another)).toEqual(['column added: "z" text', 'column dropped: "a" text']);
    const again = shape(
      [
        ["id", "integer"],
        ["b", "integer"],
        ["a", "text"],
      ],
      { identities: { b: 3, a: 4 } },
    );
    expect(told(again)).toEqual(['column added: "a" text', 'column dropped: "a" text']);
  });

  test("two names swapped", () => {
    const swapped = shape(
      [
        ["id", "integer"],
        ["b", "text"],
        ["a", "integer"],
      ],
      { identities: { b: 2, a: 3 } },
    );
    expect(told(swapped)).toEqual(['column renamed: "a" to "b"', 'column renamed: "b" to "a"']);
  });

  test("types, keys and whole tables", () => {
    const other = shape(
      [
        ["id", "bigint"],
        ["a", "text"],
        ["b", "text"],
      ],
      { key: ["id", "b"] },
    );
    expect(told(other)).toEqual([
      'type changed: "id" from integer to bigint',
      'type changed: "b" from integer to text',
      'null forbidden: "b"',
      'key changed: from "id" to "id", "b"',
    ]);
    const replaced = shape(
      [
        ["id", "integer"],
        ["a", "text"],
        ["b", "integer"],
      ],
      { relation: 2, identities: { b: 7 } },
    );
    expect(told(replaced)).toEqual(["another table has the name now"]);
  });
});

test("which changes either side of a compatibility allows", () => {
  const added: SchemaChange = { kind: "column added", column: "c", type: "text", nullable: false };
  const dropped = (nullable: boolean): SchemaChange => ({
    kind: "column dropped",
    column: "c",
    type: "text",
    nullable,
  });
  const retyped = (widens: boolean): SchemaChange => ({
    kind: "type changed",
    column: "c",
    from: "x",
    to: "y",
    widens,
  });
  const renamed: SchemaChange = { kind: "column renamed", column: "c", to: "d" };
  const allowed = (change: SchemaChange) =>
    (["backward", "forward", "full", "none"] as const).filter((wanted) => isCompatible(change, wanted));
  expect(allowed(added)).toEqual(["backward", "forward", "full", "none"]);
  expect(allowed(dropped(true))).toEqual(["backward", "forward", "full", "none"]);
  expect(allowed(dropped(false))).toEqual(["backward", "none"]);
  expect(allowed(retyped(true))).toEqual(["backward", "none"]);
  expect(allowed(retyped(false))).toEqual(["none"]);
  expect(allowed(renamed)).toEqual(["none"]);
  expect(allowed({ kind: "null allowed", column: "c" })).toEqual(["backward", "none"]);
  expect(allowed({ kind: "null forbidden", column: "c" })).toEqual(["forward", "none"]);
  expect(allowed({ kind: "key changed", from: ["a"], to: ["b"] })).toEqual(["none"]);
});

test.each([
  ["integer", "bigint", true],
  ["bigint", "integer", false],
  ["numeric(10,2)", "numeric(12,2)", true],
  ["numeric(10,2)", "numeric(11,4)", false],
  ["numeric(10,2)", "numeric", true],
  ["varchar(10)", "varchar(20)", true],
  ["varchar(20)", "varchar(10)", false],
  ["varchar(20)", "text", true],
  ["text", "integer", false],
])("from %s to %s", (from, to, widens) => {
  const changes = schemaChanges(
    shape([
      ["id", "integer"],
      ["a", from],
    ]),
    shape([
      ["id", "integer"],
      ["a", to],
    ]),
  );
  expect(changes).toMatchObject([{ kind: "type changed", widens }]);
});

describe("how a target goes on", () => {
  const wantedOf = (table: TableVersion) =>
    table.columns.map(({ name, identity, native }) => ({ name, identity, type: native }));
  const note = noteOf(OLD, wantedOf(OLD), undefined);
  const following = (to: TableVersion, found = ["id", "a", "b"], noted: typeof note | null = note) =>
    follow(found, noted, to, wantedOf(to), (_, i) => to.columns[i]!.native === "text");

  test("a note survives being stored, and other comments are none", () => {
    expect(decodeNote(encodeNote(note))).toEqual(note);
    for (const text of [null, "", "of the table", "millrace", "millrace {", "millrace {}", 'millrace {"relation":1}']) {
      expect(decodeNote(text)).toBe(null);
    }
  });

  test("a swap goes through a name of its own", () => {
    const to = shape(
      [
        ["id", "integer"],
        ["b", "text"],
        ["a", "integer"],
      ],
      { identities: { b: 2, a: 3 } },
    );
    const plan = following(to);
    expect(plan).toEqual({ from: ["id", "a", "b"], retired: [], replaced: [] });
    const columns = wantedOf(to).map((wanted, i) => ({ wanted, from: { name: plan.from[i] ?? "" } }));
    expect(renamesOf(columns)).toEqual([
      { from: "a", to: "_millrace_renamed_1" },
      { from: "b", to: "_millrace_renamed_2" },
      { from: "_millrace_renamed_1", to: "b" },
      { from: "_millrace_renamed_2", to: "a" },
    ]);
  });

  test("a column of the same name that is another one takes the old one's place", () => {
    const to = shape(
      [
        ["id", "integer"],
        ["b", "integer"],
        ["a", "text"],
      ],
      { identities: { b: 3, a: 4 } },
    );
    expect(following(to)).toEqual({ from: ["id", "b", null], retired: [], replaced: ["a"] });
  });

  test("a retired column whose name comes back goes on only with its own type", () => {
    const back = (native: string) =>
      shape([
        ["id", "integer"],
        ["a", "text"],
        ["b", "integer"],
        ["y", native],
      ]);
    const found = ["id", "a", "b", "y"];
    expect(following(back("text"), found)).toEqual({ from: found, retired: [], replaced: [] });
    const from = ["id", "a", "b", null];
    expect(following(back("integer"), found)).toEqual({ from, retired: [], replaced: ["y"] });
    expect(following({ ...back("integer"), relation: 9 }, found)).toEqual({ from, retired: [], replaced: ["y"] });
  });

  test("without a note, or of another table, names decide", () => {
    const to = shape([
      ["id", "integer"],
      ["z", "text"],
      ["b", "integer"],
    ]);
    expect(following(to, ["id", "a", "b"], null)).toEqual({ from: ["id", null, "b"], retired: ["a"], replaced: [] });
    const other = shape(
      [
        ["id", "integer"],
        ["a", "text"],
      ],
      { relation: 9, identities: { id: 5, a: 1 } },
    );
    expect(following(other)).toEqual({ from: ["id", "a"], retired: ["b"], replaced: [] });
  });

  test("an identity that can't be told is no other column", () => {
    const to = shape(
      [
        ["id", "integer"],
        ["a", "text"],
      ],
      { identities: { id: -1, a: -2 } },
    );
    expect(following(to)).toEqual({ from: ["id", "a"], retired: ["b"], replaced: [] });
  });
});
