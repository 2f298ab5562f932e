import { expect, test } from "vitest";
import { checkpointTexts, checkpointFromTexts } from "../../src/core/checkpoint/checkpoint-text.ts";
import { complete } from "../support/daemon/complete.ts";

const bond = { state: "ab", session: "cd", batch: 7, obligation: 3 };
const tables = complete({ "public.t": "f/1", bond: "no bond but a table", tables: "too", place: "too" });

test("tables, their place and bond come back as they were", () => {
  for (const place of ['"schema"."table"', ""]) {
    for (const held of [tables, complete({})]) {
      const content = { tables: held, place, bond };
      const texts = checkpointTexts(content);
      expect(checkpointFromTexts(texts.tables, texts.bond)).toEqual(content);
    }
  }
});

test("what was never written there is refused", () => {
  const whole = '{"place":"p","tables":{"t":"f/1"}}';
  expect(checkpointFromTexts(whole, "ab/cd/7/3")).toMatchObject({ bond });
  for (const text of ["[]", "null", "{}", '{"t":"f/1"}', '{"tables":{"t":"f/1"}}', '{"place":"p","tables":{"t":1}}'])
    expect(() => checkpointFromTexts(text, "ab/cd/7/3")).toThrow("checkpoint");
  expect(() => checkpointFromTexts(whole, "")).toThrow("bond");
});
