import { describe, expect, test } from "vitest";
import {
  digitsOf,
  expectedJson,
  expectedPlain,
  normalFields,
  normalJson,
  sourceText,
  sourceTextOfPlain,
} from "../../src/core/targets/expected-json.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { VALUES } from "../conformance/values.ts";

const TEXT = { kind: "text" } as const;
const INT = { kind: "int", bits: 32, signed: true } as const;

describe("JSON as it has to land", () => {
  test("a number and a string of its spelling are two values, in documents and inside of JSON columns", () => {
    expect(normalJson('{"a": "number:5"}')).not.toBe(normalJson('{"a": 5}'));
    expect(normalJson('["text:number:5"]')).not.toBe(normalJson('["number:5"]'));
    expect(expectedJson(TEXT, "number:5")).toBe(normalJson('"number:5"'));
    expect(expectedJson(INT, "5")).toBe(normalJson("5"));
    expect(digitsOf(normalJson('"number:5"'))).toBeNull();
    expect(digitsOf(normalJson("5"))).toBe("5");
  });

  test("the order of fields does not count: it changes where a name that comes twice is cleared away", () => {
    expect(normalJson('{"a": 1, "b": [{"d": 2, "c": 3}], "a": 4}')).toBe(
      normalJson('{"b": [{"c": 3, "d": 2}], "a": 4}'),
    );
    expect(normalFields('{"x": {"b": 1, "a": 2}}')?.get("x")).toBe(normalJson('{"a": 2, "b": 1}'));
    expect(normalJson('{"a": [1, 2]}')).not.toBe(normalJson('{"a": [2, 1]}'));
  });

  test("JSON that is nested more deeply than the stack reaches is compared like any other", () => {
    const depth = 4_000;
    const around = (value: string) => `${'[1.0, {"b": '.repeat(depth)}${value}${', "a": "x"}]'.repeat(depth)}`;
    const same = around('"\\u0061 [{"')
      .replaceAll(" {", "\n{")
      .replaceAll(/, "a": "x"\}/g, ',"a" :"\\u0078"}');
    expect(expectedJson({ kind: "json" }, around('"a [{"')) === normalJson(same)).toBe(true);
    expect(normalJson(around("5")) === normalJson(around('"5"'))).toBe(false);
    const fields = normalFields(`{"n": 1, "deep": ${around("5")}, "z": "number:1", "n": 2}`);
    expect([...(fields?.keys() ?? [])]).toEqual(["n", "deep", "z"]);
    expect(fields?.get("deep") === expectedJson({ kind: "json" }, around("5"))).toBe(true);
    expect([fields?.get("n"), fields?.get("z")]).toEqual([normalJson("2"), normalJson('"number:1"')]);
    expect(() => normalJson(`${around("5")}]`)).toThrow(SyntaxError);
    expect(normalFields(around("5"))).toBeNull();
  });

  test.each(["number:5", "text:number:5", "text:", "", "5", "plain"])(
    "the text %j is itself between quotes",
    (text) => {
      expect(expectedPlain(TEXT, text)).toBe(text);
      expect(sourceText(TEXT, normalJson(JSON.stringify(text)))).toBe(text);
    },
  );
});

test.each(Object.keys(VALUES).filter((native) => !["json", "jsonb[]"].includes(native)))(
  "the way back from what must appear: %s",
  (native) => {
    const { type } = tableVersion({ table: "t", columns: [["c", native]], key: ["c"] }).columns[0]!;
    for (const text of VALUES[native]!) {
      const normal = expectedJson(type, text);
      // JSON does not tell a null of a json column, or lower bounds.
      if (normal === null || /^\[-?\d+:/.test(text)) continue;
      expect(sourceText(type, normal)).toBe(text);
      expect(sourceTextOfPlain(type, expectedPlain(type, text))).toBe(text);
    }
  },
);
