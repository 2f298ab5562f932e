import { describe, expect, test } from "vitest";
import { digitsOf, expectedJson, expectedPlain, normalJson, plainOf } from "../../src/core/targets/expected-json.ts";

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

  test.each(["number:5", "text:number:5", "text:", "", "5", "plain"])(
    "the text %j is itself between quotes",
    (text) => {
      expect(expectedPlain(TEXT, text)).toBe(text);
      expect(plainOf(normalJson(JSON.stringify(text)))).toBe(text);
    },
  );
});
