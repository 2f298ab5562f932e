import * as fc from "fast-check";
import { expect, test } from "vitest";
import { documentField, indexName, shortened } from "../../src/core/targets/names.ts";

const name = fc.oneof(
  fc.string({ unit: fc.constantFrom("%", "2", "5", "E", "e", ".", "_", "i", "d", " "), minLength: 1, maxLength: 6 }),
  fc.string({ unit: "binary", minLength: 1, maxLength: 100 }),
);

test("different columns have different fields, without dots", () => {
  fc.assert(
    fc.property(name, name, (a, b) => {
      expect(documentField(a) === documentField(b)).toBe(a === b);
      expect(documentField(a)).not.toContain(".");
    }),
    { numRuns: 5000 },
  );
});

test("tables whose names differ in more than case have different indexes", () => {
  fc.assert(
    fc.property(name, name, (a, b) => {
      expect(indexName("", "s", a) === indexName("", "s", b)).toBe(a.toLowerCase() === b.toLowerCase());
    }),
    { numRuns: 5000 },
  );
});

test("a shortened name is whole text within the limit", () => {
  fc.assert(
    fc.property(name, fc.integer({ min: 9, max: 80 }), (text, limit) => {
      const result = shortened(text, limit);
      expect(Buffer.byteLength(result)).toBeLessThanOrEqual(limit);
      expect(result.isWellFormed()).toBe(true);
      expect(result).not.toContain("\ufffd");
    }),
  );
});
