/** When rows that did not move are certain after changes of their table's shape, and when they are not. */
import { expect, test } from "vitest";
import { carriesRows, mayCarry } from "../../src/core/targets/carrying.ts";
import { followsByNote, lostColumns, noteOf } from "../../connectors/warehouse/following.ts";
import type { Column, Ruled, TableVersion } from "../../src/core/model/schema.ts";

/** `name:identity`, and the type where it is no int; the first is the key. */
function shape(version: number, columns: string, over: Partial<TableVersion> = {}): TableVersion {
  const parsed = columns.split(" ").map((text): Column => {
    const [name = "", identity, native = "integer"] = text.split(":");
    const type = native === "text" ? ({ kind: "text" } as const) : ({ kind: "int", bits: 32, signed: true } as const);
    return { name, type, native, nullable: true, identity: Number(identity) };
  });
  const names = { id: "public.t", schema: "public", table: "t", dialect: "postgres" as const };
  const since = { epoch: 1, commit: BigInt(version), index: 0 };
  const fixed = { relation: 7, key: [0], deferrableKey: false, fingerprint: columns };
  return { ...names, ...fixed, columns: parsed, version, since, ...over };
}

/** `added`: identities of columns that are null in older rows. */
function carries(shapes: readonly string[], added: readonly number[] = [], dropped: readonly number[] = []): boolean {
  const versions = shapes.map((columns, i) => shape(i + 1, columns));
  const isOk = versions.slice(1).every((version, i) => mayCarry(versions[i]!, version));
  return isOk && carriesRows(versions, { nullBefore: new Set(added), dropped });
}

test.for<readonly [what: string, shapes: readonly string[], added?: readonly number[], dropped?: readonly number[]]>([
  ["nothing that lies in rows", ["id:1 a:2", "id:1 a:2"]],
  ["a column added", ["id:1 a:2", "id:1 a:2 b:3"], [3]],
  ["several, one after the other", ["id:1", "id:1 b:2", "id:1 b:2 c:3"], [2, 3]],
  ["a column renamed", ["id:1 a:2", "id:1 z:2"]],
  ["the key renamed", ["id:1 a:2", "key:1 a:2"]],
  ["names swapped", ["id:1 a:2 b:3", "id:1 b:2 a:3"]],
  ["a rename and a column added", ["id:1 a:2", "id:1 z:2", "id:1 z:2 a:3"], [3]],
  ["a column dropped", ["id:1 a:2 b:3", "id:1 b:3"], [], [2]],
  ["all renamed as one was dropped", ["id:1 a:2 b:3", "id:1 a:3"], [], [2]],
  ["one dropped, one added", ["id:1 a:2", "id:1 c:3"], [3], [2]],
  ["columns dropped long ago", ["id:1 a:5", "id:1 a:5 b:6"], [6], [2, 3, 4]],
])("certain: %s", ([, shapes, added, dropped]) => {
  expect(carries(shapes, added, dropped)).toBe(true);
});

test.for<readonly [what: string, shapes: readonly string[], added?: readonly number[], dropped?: readonly number[]]>([
  ["a column added that old rows may have values in", ["id:1 a:2", "id:1 a:2 b:3"]],
  ["a column that was there before, and is published now", ["id:1 a:3", "id:1 b:2 a:3"], [2]],
  ["another type", ["id:1 a:2", "id:1 a:2:text"]],
  ["another type of the key", ["id:1 a:2", "id:1:bigint a:2"]],
  ["a column whose identity nobody knows", ["id:1 a:2", "id:1 z:-2"]],
  ["names that the catalogue had given to others by then", ["id:1 a:2 b:3", "id:1 a:3 b:2", "id:1 b:2 a:3"]],
  ["one of two dropped, and it may be the other", ["id:1 a:2 b:3 c:4", "id:1 z:3 c:4", "id:1 z:3"], [], [2, 4]],
  ["a name that is another column's by the end", ["id:1 a:2 b:3", "id:1 a:3 b:4"], [4], [2]],
  ["a column that came and went", ["id:1 a:2", "id:1 a:2 c:4"], [4], [3]],
])("read again: %s", ([, shapes, added, dropped]) => {
  expect(carries(shapes, added, dropped)).toBe(false);
});

test("of a column that the sink does not hold nothing need be null, but a change of names counts", () => {
  const facts = { nullBefore: new Set<number>(), dropped: [] };
  const [before, after, swapped] = [shape(1, "id:1 a:2"), shape(2, "id:1 a:2 b:3"), shape(3, "id:1 b:2 a:3")];
  expect(carriesRows([before, after], facts)).toBe(false);
  expect(carriesRows([before, after], facts, before)).toBe(true);
  expect(carriesRows([before, after, swapped], facts, shape(3, "id:1 a:3"))).toBe(false);
});

test("another table, another kind of key, rules, and a step back are read again", () => {
  const before = shape(1, "id:1 a:2");
  const now = (over: Partial<TableVersion>, version = 2) => shape(version, "id:1 a:2 b:3", over);
  expect(mayCarry(before, now({}))).toBe(true);
  const ruled: Ruled = { rules: "r", source: before, lineage: [], filtered: true, fault: null };
  for (const over of [{ relation: 8 }, { key: [1] }, { key: [0, 1] }, { deferrableKey: true }, { ruled }])
    expect({ over, may: mayCarry(before, now(over)) }).toEqual({ over, may: false });
  expect(mayCarry(before, now({}, 1))).toBe(false);
});

test("a target goes along where its note is what the shape of before left, and nothing lies under a new name", () => {
  const before = shape(1, "id:1 a:2");
  const now = shape(2, "id:1 z:2 b:3");
  const wanted = (table: TableVersion) =>
    table.columns.map(({ name, identity, native }) => ({ name, identity, type: native }));
  const goes = (found: readonly string[], note = noteOf(before, wanted(before), undefined), to = now) =>
    followsByNote(found, note, before.columns, to, wanted(to));
  expect(goes(["id", "a", "retired"])).toBe(true);
  expect(goes(["id", "a", "b"])).toBe(false);
  expect(goes(["id"])).toBe(false);
  expect(goes(["id", "a"], noteOf({ ...before, relation: 8 }, wanted(before), undefined))).toBe(false);
  expect(goes(["id", "a"], noteOf(before, [{ name: "id", identity: 1, type: "integer" }], undefined))).toBe(false);
  expect(goes(["id", "a"], undefined, shape(2, "id:1 z:2:text"))).toBe(false);
  expect(followsByNote(["id", "a"], null, before.columns, now, wanted(now))).toBe(false);
});

test.for<readonly [what: string, found: readonly string[], now: string, lost: readonly string[]]>([
  ["nothing", ["id", "a"], "id:1 a:2", []],
  ["a column that somebody dropped", ["id"], "id:1 a:2", ["a"]],
  ["one that is also renamed at the source", ["id"], "id:1 z:2", ["a"]],
  ["one that the source dropped too", ["id"], "id:1", []],
  ["one whose name another column has by now", ["id"], "id:1 a:3", []],
  ["one of a source without identities", ["id"], "id:0 a:0", ["a"]],
  ["none of another table", ["id"], "id:1 a:2 other", []],
])("values that a target lost: %s", ([, found, now, lost]) => {
  const noted = shape(1, "id:1 a:2");
  const spelt = (name: string): string => `${name}_there`;
  const wanted = noted.columns.map(({ name, identity }) => ({ name: spelt(name), identity, type: "integer" }));
  const isOther = now.endsWith(" other");
  const table = shape(2, now.replace(" other", ""), isOther ? { relation: 8 } : {});
  const names = table.columns.map(({ name }) => spelt(name));
  expect(lostColumns(found.map(spelt), noteOf(noted, wanted, undefined), table, names)).toEqual(lost.map(spelt));
});
