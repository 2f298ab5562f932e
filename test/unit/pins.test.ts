import { describe, expect, test } from "vitest";
import { DEFAULT_POLICY } from "../../src/core/model/schema-change.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { noMemory } from "../../src/rules/former-rules.ts";
import { isBefore, kept, namedAsKept } from "../../src/rules/pins.ts";
import { RuleBook } from "../../src/rules/rule-book.ts";
import { tableVersion } from "../support/model/blocks.ts";

type Spec = Omit<Parameters<typeof tableVersion>[0], "table">;
const shape = (columns: Spec["columns"], more: Partial<Spec> = {}): TableVersion =>
  tableVersion({ table: "t", columns, key: ["id"], ...more });

const pinned = shape([
  ["id", "int8"],
  ["a", "text"],
  ["n", "int4"],
]);
const nothingMasked = () => false;
const cellsOf = (now: TableVersion) => kept(pinned, now, nothingMasked);

test("columns are found again by their numbers; a new one is left out, a dropped one is null", () => {
  const renamed = shape(
    [
      ["id", "int8"],
      ["later", "text"],
      ["b", "text"],
    ],
    { identities: { later: 9, b: 2 } },
  );
  const found = cellsOf(renamed);
  expect(found).toEqual({
    cells: [
      { ordinal: 0, asText: false },
      { ordinal: 2, asText: false },
      { ordinal: null, asText: false },
    ],
  });
  if ("misfit" in found) return;
  expect(namedAsKept(pinned, renamed, found.cells).map(({ name }) => name)).toEqual(["id", "", "a"]);
});

test("where the source does not say which column it is, its name has to", () => {
  const named = shape(
    [
      ["id", "int8"],
      ["a", "text"],
    ],
    { identities: { a: -2 } },
  );
  expect(cellsOf(named)).toMatchObject({ misfit: expect.stringContaining('"n"') });
});

describe("types", () => {
  const typed = (type: string) =>
    shape([
      ["id", "int8"],
      ["a", "text"],
      ["n", type],
    ]);
  test("narrower ones go over as text, others do not", () => {
    expect(cellsOf(typed("int2"))).toMatchObject({ cells: [{}, {}, { ordinal: 2, asText: true }] });
    for (const type of ["int8", "text", "numeric"]) expect(cellsOf(typed(type))).toHaveProperty("misfit");
  });

  test("behind a mask any will do", () => {
    expect(kept(pinned, typed("text"), (ordinal) => ordinal === 2)).toMatchObject({
      cells: [{}, {}, { asText: false }],
    });
  });
});

test("another key and another table are no shape that could be kept", () => {
  const columns: Spec["columns"] = [
    ["id", "int8"],
    ["a", "text"],
    ["n", "int4"],
  ];
  expect(cellsOf(shape(columns, { key: ["n"] }))).toEqual({ misfit: "its key has changed" });
  expect(cellsOf(shape(columns, { relation: 2 }))).toHaveProperty("misfit");
});

test("a place of the log from before the shape that is kept is followed as it was", () => {
  const since = { epoch: 1, commit: 100n, index: 0 };
  const pin = { shape: pinned, since };
  const rules = {
    maskKey: null,
    selections: [],
    tables: [
      {
        pattern: "public.t",
        isOptional: false,
        key: null,
        zeroDates: "null" as const,
        columns: [],
        only: null,
        where: null,
        place: "f:1:1: t",
        policy: { ...DEFAULT_POLICY, schemaChange: "ignore" } as const,
        driftMax: 0,
        into: null,
        add: null,
        computed: [],
      },
    ],
  };
  const book = new RuleBook(rules, { ...noMemory(), pins: new Map([[pinned.id, pin]]) });
  const older = shape([
    ["id", "int8"],
    ["a", "text"],
  ]);
  expect(isBefore({ ...since, commit: 99n }, pin)).toBe(true);
  expect(book.plan(older, { ...since, commit: 99n })).toBeNull();
  expect(book.plan(older, since)?.shape.fingerprint).toBe(pinned.fingerprint);
});
