import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ByteWriter } from "../../src/core/bytes.ts";
import { keyText, rowIdOf, writeRowId } from "../../src/core/model/row-id.ts";
import { CellMap } from "../../src/core/model/tuple.ts";
import { tableVersion, tupleOf } from "../support/model/blocks.ts";

const table = tableVersion({ table: "t", columns: { b: "text", body: "text", a: "text" }, key: ["a", "b"] });
const part = fc.oneof(
  fc.string({ unit: fc.constantFrom("%", ":", "2", "5", "A", "x"), maxLength: 5 }),
  fc.string({ unit: "binary", maxLength: 300 }),
);
const key = fc.tuple(part, part);

function idOf(tuple: Buffer): string {
  const cells = new CellMap();
  cells.read(tuple, 0);
  const out = new ByteWriter(1);
  out.ascii("%:start");
  const length = writeRowId(out, table, tuple, cells);
  expect(out.length).toBe(7 + length);
  return out.view().toString("utf8", 7);
}

test("no two keys share an id, and every key has one of at most 512 bytes", () => {
  fc.assert(
    fc.property(key, key, (a, b) => {
      const [idA, idB] = [rowIdOf(a), rowIdOf(b)];
      expect(idA === idB).toBe(a[0] === b[0] && a[1] === b[1]);
      expect(Buffer.byteLength(idA)).toBeLessThanOrEqual(512);
      expect(idA).not.toBe("");
    }),
    { numRuns: 2000 },
  );
});

test("a key's short id can be taken apart again", () => {
  fc.assert(
    fc.property(key, (values) => {
      fc.pre(Buffer.byteLength(values.join("")) < 150);
      const parts = rowIdOf(values).split(":");
      expect(parts.map((text) => (text === "%" ? "" : text.replaceAll("%3A", ":").replaceAll("%25", "%")))).toEqual(
        values,
      );
    }),
  );
});

test("a row's id is the id of its key's texts, in key order", () => {
  fc.assert(
    fc.property(key, ([a, b]) => {
      const tuple = tupleOf([b, null, a]);
      expect(keyText(table, tuple, 0)).toEqual([a, b]);
      expect(idOf(tuple)).toBe(rowIdOf([a, b]));
    }),
  );
});
