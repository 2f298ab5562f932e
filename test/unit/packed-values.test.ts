/** Dates, times and uuids in the nest: few bytes, the same text again, and the order of the texts. */
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { momentSql, momentText, packedText, uuidSql, uuidText } from "../../connectors/sqlite/packed.ts";
import type { ColumnType } from "../../src/core/model/types.ts";

const DATE: ColumnType = { kind: "date" };
const TIME: ColumnType = { kind: "time" };
const PLAIN: ColumnType = { kind: "timestamp", zone: false };
const ZONED: ColumnType = { kind: "timestamp", zone: true };
const UUID: ColumnType = { kind: "uuid" };

test.each([
  [DATE, ["0000-01-01", "0001-01-01", "1999-12-31", "2024-02-29", "2024-10-01", "9999-12-31"]],
  [TIME, ["00:00:00.000000", "00:00:00.000001", "09:59:59.999999", "24:00:00.000000", "99:59:59.999999"]],
  [PLAIN, ["0000-02-29T00:00:00.000000", "2023-12-31T23:59:59.999999", "2024-01-01T00:00:00.000000"]],
  [ZONED, ["1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00.000000Z", "2024-02-29T12:00:00.500000Z"]],
] as const)("%j: moments are integers in their order", (type, texts) => {
  using database = new DatabaseSync(":memory:");
  const inSql = database.prepare(`SELECT ${momentSql(type, "?1")} AS text`);
  const packed = texts.map((text) => packedText(type, text));
  for (const [i, value] of packed.entries()) {
    if (typeof value !== "bigint") throw new Error(`${texts[i]} is not packed`);
    expect([momentText(type, value), inSql.get(value)?.["text"]]).toEqual([texts[i], texts[i]]);
    const before = packed[i - 1] ?? -1n;
    expect(typeof before === "bigint" && before < value).toBe(true);
  }
});

test.each([
  [DATE, ["infinity", "-infinity", "-000043-03-15", "+010000-01-01", "2024-13-01", "2024-02-2x", "2024-02-29 "]],
  [TIME, ["-00:00:01.000000", "100:00:00.000000", "12:00:00", "12:60:00.000000"]],
  [PLAIN, ["2024-02-29T12:00:00.500000Z", "2024-02-29 12:00:00.500000", "2024-02-29T12:00:00.5"]],
  [ZONED, ["2024-02-29T12:00:00.500000", "2024-02-29T12:00:00.500000z", ""]],
  [
    UUID,
    [
      "",
      "6F1D2C3B-4A59-4687-9AAB-BCCDDEEFF001",
      "6f1d2c3b4a5946879aabbccddeeff001",
      "6f1d2c3b-4a59-4687-9aab-bccddeeff00-",
    ],
  ],
] as const)("%j: what has no such form stays text", (type, texts) => {
  for (const text of texts) expect(packedText(type, text)).toBe(text);
});

test("a uuid is 16 bytes, which sort as its text", () => {
  using database = new DatabaseSync(":memory:");
  const text = "6f1d2c3b-4a59-4687-9aab-bccddeeff001";
  const packed = packedText(UUID, text);
  if (!(packed instanceof Uint8Array)) throw new Error("it is not packed");
  expect(packed.length).toBe(16);
  expect([uuidText(packed), database.prepare(`SELECT ${uuidSql("?1")} AS text`).get(packed)?.["text"]]).toEqual([
    text,
    text,
  ]);
});
