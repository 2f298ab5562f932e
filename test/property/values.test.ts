import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ByteWriter } from "../../src/core/bytes.ts";
import { CELL_BINARY, CELL_NULL, CELL_TEXT, CELL_UNCHANGED } from "../../src/core/model/tuple.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { writeUnixTimeJson } from "../../src/core/values/calendar.ts";
import { writeJson } from "../../src/core/values/json.ts";
import { readText } from "../../src/core/values/text.ts";

function json(type: ColumnType, kind: number, cell: Uint8Array): string {
  const out = new ByteWriter(1);
  writeJson(out, type, kind, cell, 0, cell.length);
  return out.view().toString();
}

test("every text is a JSON string that reads back as the same text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
      const written = json({ kind: "text" }, CELL_TEXT, Buffer.from(text));
      expect(JSON.parse(written)).toBe(text);
      expect(written).not.toMatch(/\p{Cc}(?<!\x7f|[\x80-\x9f])/u);
    }),
    { numRuns: 1000 },
  );
});

test("all bytes survive base64, from hex and from binary", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const expected = JSON.stringify(Buffer.from(bytes).toString("base64"));
      expect(json({ kind: "bytes" }, CELL_BINARY, bytes)).toBe(expected);
      const hex = Buffer.from(`\\x${Buffer.from(bytes).toString("hex")}`);
      expect(json({ kind: "bytes" }, CELL_TEXT, hex)).toBe(expected);
    }),
  );
});

test("64-bit numbers keep every digit", () => {
  const cell = Buffer.alloc(8);
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), (value) => {
      cell.writeBigInt64BE(value);
      expect(readText({ kind: "int", bits: 64, signed: true }, CELL_BINARY, cell, 0, 8)).toBe(String(value));
    }),
    { numRuns: 2000 },
  );
});

test("commit times are the same instant in RFC 3339", () => {
  fc.assert(
    fc.property(fc.bigInt(-62_167_219_200_000_000n, 253_402_300_799_999_999n), (timeUs) => {
      const out = new ByteWriter(1);
      writeUnixTimeJson(out, timeUs);
      const ms = timeUs >= 0n ? timeUs / 1000n : (timeUs - 999n) / 1000n;
      const expected = new Date(Number(ms))
        .toISOString()
        .replace("Z", `${String(timeUs - ms * 1000n).padStart(3, "0")}Z`);
      expect(out.view().toString()).toBe(expected);
    }),
  );
});

test.each<[ColumnType, string, string]>([
  [{ kind: "int", bits: 64, signed: false }, "18446744073709551615", "18446744073709551615"],
  [{ kind: "time" }, "-838:59:59.5", '"-838:59:59.500000"'],
  [{ kind: "time" }, "12:00:00", '"12:00:00.000000"'],
  [{ kind: "array", of: { kind: "array", of: { kind: "text" } } }, '{"{a,\\"b c\\"}"}', '[["a","b c"]]'],
  [{ kind: "json" }, '{\r\n "a":\t1\n}', '{   "a":\t1 }'],
])("%j: the JSON of %s is %s", (type, text, expected) => {
  expect(json(type, CELL_TEXT, Buffer.from(text))).toBe(expected);
});

test("a null is null; an unchanged cell and a time of another zone are refused, never shown as something else", () => {
  const type: ColumnType = { kind: "timestamp", zone: true };
  expect(json(type, CELL_NULL, Buffer.alloc(0))).toBe("null");
  expect(() => json(type, CELL_UNCHANGED, Buffer.alloc(0))).toThrow("an unchanged cell is left out");
  expect(() => json(type, CELL_TEXT, Buffer.from("2024-01-01 00:00:00+02"))).toThrow("in UTC");
});
