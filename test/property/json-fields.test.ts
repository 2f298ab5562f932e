import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { withoutDuplicateFields } from "../../connectors/elasticsearch/write/bulk.ts";
import { JsonFields } from "../../src/core/targets/json-fields.ts";

/** JSON text in many spellings: white space, escapes, long numbers. */
const space = fc.constantFrom("", "", " ", "\n\t ");
const scalar = fc.oneof(
  fc.constantFrom("null", "true", "1e400", "-0", "123456789012345678901234567890.10", '"\\u007d\\"\\\\{["', '"}],:"'),
  fc.string().map((text) => JSON.stringify(text)),
);
const name = fc.oneof(fc.constantFrom("a", "b", "__proto__", "", "\u{1F600}"), fc.string({ maxLength: 3 }));
const { value } = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    scalar,
    fc.tuple(space, fc.array(tie("value"), { maxLength: 4 })).map(([gap, items]) => `[${gap}${items.join(`${gap},`)}]`),
    objectOf(tie("value")),
  ),
}));

function objectOf(item: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const field = fc.tuple(name, space, item).map(([key, gap, text]) => `${JSON.stringify(key)}${gap}:${gap}${text}`);
  return fc
    .tuple(space, fc.array(field, { maxLength: 5 }))
    .map(([gap, fields]) => `{${gap}${fields.join(`${gap},`)}${gap}}`);
}

describe("fields of a JSON object in its bytes", () => {
  test("each value is found as it is written", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.tuple(name, value), { selector: ([key]) => key, maxLength: 6 }),
        space,
        (fields, gap) => {
          const text = `${gap}{${fields.map(([key, item]) => `${gap}${JSON.stringify(key)}${gap}:${gap}${item}`).join(`${gap},`)}}`;
          const wanted = ["a", "", "missing", ...fields.map(([key]) => key)];
          const found = new JsonFields(wanted);
          const bytes = Buffer.from(`${text}   `);
          expect(found.read(bytes)).toBe(Buffer.byteLength(text));
          for (const [i, key] of wanted.entries()) {
            // The last of equal names in the list has the ordinal.
            if (wanted.lastIndexOf(key) !== i) continue;
            const field = fields.find(([other]) => other === key);
            expect(found.has(i)).toBe(field !== undefined);
            if (field !== undefined) expect(bytes.toString("utf8", found.start[i], found.end[i])).toBe(field[1]);
          }
        },
      ),
    );
  });

  test("what is cut off is an error, not a loop", () => {
    const text = Buffer.from('{"a": [1, {"b": "c"}], "d": "e"}');
    for (let end = 0; end < text.length; end++) {
      expect(() => new JsonFields(["a"]).read(text.subarray(0, end))).toThrow(/invariant/);
    }
  });
});

describe("objects that name a field twice", () => {
  test("the last one wins, as in jsonb, at every depth", () => {
    fc.assert(
      fc.property(objectOf(value), (text) => {
        const cleaned = withoutDuplicateFields(Buffer.from(text));
        const parsed: unknown = JSON.parse(text);
        if (cleaned === null) return;
        expect(JSON.parse(cleaned.toString("utf8"))).toEqual(parsed);
        expect(withoutDuplicateFields(cleaned)).toBeNull();
      }),
    );
  });

  test("digits and escapes of what stays are kept", () => {
    const text = '{"x": {"a": 1, "b": 1e400, "a": 2.50}, "y": [{"k": "\\u00e9", "k": "\\""}]}';
    expect(withoutDuplicateFields(Buffer.from(text))?.toString("utf8")).toBe(
      '{"x":{"b":1e400,"a":2.50},"y":[{"k":"\\""}]}',
    );
    expect(withoutDuplicateFields(Buffer.from('{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}'))).toBeNull();
  });
});
