import { expect, test } from "vitest";
import { BaseFloors, shapeNote, type ShapeNote } from "../../src/core/targets/base-rows.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { tableVersion, tupleOf, UNCHANGED } from "../support/model/blocks.ts";

/** Columns by name, with their identities. */
function shape(columns: Readonly<Record<string, number>>, key: readonly string[] = ["id"], relation = 1): TableVersion {
  const names = Object.keys(columns);
  return tableVersion({
    table: "t",
    columns: names.map((name) => [name, "text"] as const),
    key,
    relation,
    identities: columns,
  });
}

const before = shape({ id: 1, a: 2, b: 3 });

/** Per column the version from which on a row may lend it, after the shape changed when the sink stood at version 7. */
function floorsAfter(
  table: TableVersion,
  noted: ShapeNote | null = shapeNote(null, before, 0n),
): Record<string, number> {
  const floors = new BaseFloors(JSON.parse(JSON.stringify(shapeNote(noted, table, 7n))));
  const entries = table.columns.map(({ name }, i) => {
    const tuple = tupleOf(table.columns.map((_, c) => (c === i ? UNCHANGED : "x")));
    return [name, Number(floors.of(tuple, 0))];
  });
  return Object.fromEntries(entries);
}

test("rows that no shape was noted for are taken as they are", () => {
  expect(floorsAfter(before, null)).toEqual({ id: 0, a: 0, b: 0 });
});

test.each([
  { what: "nothing", table: before, floors: { id: 0, a: 0, b: 0 } },
  { what: "a column dropped", table: shape({ id: 1, b: 3 }), floors: { id: 0, b: 0 } },
  { what: "a column added", table: shape({ id: 1, a: 2, b: 3, c: 4 }), floors: { id: 0, a: 0, b: 0, c: 7 } },
  { what: "a column renamed", table: shape({ id: 1, z: 2, b: 3 }), floors: { id: 0, z: 7, b: 0 } },
  { what: "names swapped", table: shape({ id: 1, b: 2, a: 3 }), floors: { id: 0, b: 7, a: 7 } },
  { what: "a column made anew", table: shape({ id: 1, a: 4, b: 3 }), floors: { id: 0, a: 7, b: 0 } },
  { what: "the key column renamed", table: shape({ key: 1, a: 2, b: 3 }, ["key"]), floors: { key: 7, a: 0, b: 0 } },
  { what: "another key", table: shape({ id: 1, a: 2, b: 3 }, ["a"]), floors: { id: 7, a: 7, b: 7 } },
  { what: "a wider key", table: shape({ id: 1, a: 2, b: 3 }, ["id", "a"]), floors: { id: 7, a: 7, b: 7 } },
  { what: "another table", table: shape({ id: 1, a: 2, b: 3 }, ["id"], 2), floors: { id: 7, a: 7, b: 7 } },
])("after $what rows from before lend what they still show", ({ table, floors }) => {
  expect(floorsAfter(table)).toEqual(floors);
});

test("what was said of a column holds for the shapes after it, and the highest one counts for a change", () => {
  const renamed = shapeNote(shapeNote(null, before, 0n), shape({ id: 1, z: 2, b: 3 }), 5n);
  const added = shape({ id: 1, z: 2, b: 3, c: 4 });
  expect(floorsAfter(added, renamed)).toEqual({ id: 0, z: 5, b: 0, c: 7 });
  const floors = new BaseFloors(shapeNote(renamed, added, 7n));
  expect(floors.of(tupleOf(["1", UNCHANGED, UNCHANGED, UNCHANGED]), 0)).toBe(7n);
  expect(floors.of(tupleOf(["1", UNCHANGED, UNCHANGED, "x"]), 0)).toBe(5n);
});
