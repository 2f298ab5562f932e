import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { ByteWriter } from "../../src/core/bytes.ts";
import { keyOfRowId, keyText, rowIdOf, writeRowId } from "../../src/core/model/row-id.ts";
import { CellMap } from "../../src/core/model/tuple.ts";
import { listedKeys } from "../../connectors/kit/listed-keys.ts";
import { tableVersion, tupleOf } from "../support/model/blocks.ts";

test.each([
  [["42"], "42"],
  [["a", "b"], "a:b"],
  [["a:b", "50%"], "a%3Ab:50%25"],
  [["", "%"], "%:%25"],
  [["x".repeat(512)], "x".repeat(512)],
  // As the id of a long key looks.
  [
    ["sha256", "a".repeat(64)],
    `sha256:${createHash("sha256")
      .update(`sha256:${"a".repeat(64)}`)
      .digest("hex")}`,
  ],
  [["sha256", "a".repeat(63)], `sha256:${"a".repeat(63)}`],
  [["x".repeat(513)], `sha256:${createHash("sha256").update("x".repeat(513)).digest("hex")}`],
])("the id of key %j is %s", (key, id) => {
  expect(rowIdOf(key)).toBe(id);
});

test("binary and text cells of one key give one id", () => {
  const table = tableVersion({
    table: "t",
    columns: { at: "timestamptz", id: "int8", u: "uuid" },
    key: ["id", "at", "u"],
  });
  const uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
  const binary = tupleOf([
    Buffer.from("0000000000000001", "hex"),
    Buffer.from("ffffffffffffffff", "hex"),
    Buffer.from(uuid.replaceAll("-", ""), "hex"),
  ]);
  const text = tupleOf(["2000-01-01 00:00:00.000001+00", "-1", uuid]);
  for (const tuple of [binary, text]) {
    const out = new ByteWriter(16);
    const cells = new CellMap();
    cells.read(tuple, 0);
    writeRowId(out, table, tuple, cells);
    expect(out.view().toString()).toBe(`-1:2000-01-01 00%3A00%3A00.000001+00:${uuid}`);
    expect(keyText(table, tuple, 0)).toEqual(["-1", "2000-01-01 00:00:00.000001+00", uuid]);
  }
});

const typed = tableVersion({ table: "t", columns: { n: "int2", s: "text", at: "timestamptz" }, key: ["n", "s", "at"] });

test.each([
  ["-7", "", "2000-01-01 00:00:00.5+00"],
  ["32767", "a:b%", "infinity"],
  ["0", "%", "0044-03-15 10:00:00+00 BC"],
])("the key in an id is the key that it was made of: %s, %s, %s", (...key) => {
  expect(keyOfRowId(typed, rowIdOf(key))).toEqual(key);
});

test.each([
  ["of another number of parts", "1:a"],
  ["a number beyond its type", "32768:a:infinity"],
  ["a number in another spelling", "01:a:infinity"],
  ["no number", "one:a:infinity"],
  ["no time", "1:a:yesterday"],
  ["spelt as no id is", "1::infinity"],
  ["a digest", rowIdOf(["1", "x".repeat(600), "infinity"])],
])("an id that no row has, or that does not hold its key, has none: %s", (_what, id) => {
  expect(keyOfRowId(typed, id)).toBeNull();
});

test("a key column without value is a broken promise of the source, and its value is not in the message", () => {
  const table = tableVersion({ table: "t", columns: { id: "text" } });
  expect(() => keyText(table, tupleOf([null]), 0)).toThrow("invariant broken: a key column has a value");
});

test("a row that is gone before its key was read is not listed; one whose values do not make its id is", async () => {
  const table = tableVersion({ table: "t", columns: { id: "text" }, key: ["id"] });
  const idOf = (letter: string) => rowIdOf([letter.repeat(600)]);
  const [gone, odd, here] = [idOf("g"), idOf("o"), idOf("h")];
  const rowsOf = async () => [
    { id: odd, key: null },
    { id: here, key: ["h".repeat(600)] },
  ];
  expect(await listedKeys(table, ["short", gone, odd, here], rowsOf)).toEqual([
    { id: "short", key: ["short"] },
    { id: odd, key: null },
    { id: here, key: ["h".repeat(600)] },
  ]);
});
