import { expect, test } from "vitest";
import { checkpointTexts, checkpointFromTexts } from "../../src/core/checkpoint/checkpoint-text.ts";
import { complete } from "../support/daemon/complete.ts";

const bond = { state: "ab", session: "cd", step: 7, obligation: 3 };
const tables = complete({ "public.t": "f/1", bond: "no bond but a table", tables: "too" });

test("tables, their place and bond come back as they were", () => {
  const place = '"schema"."table"';
  const contents = [{ tables, bond }, { tables }, { tables: complete({}) }, { tables: complete({}), bond }];
  for (const content of [...contents, ...contents.map((one) => ({ ...one, place }))]) {
    const texts = checkpointTexts(content);
    expect(checkpointFromTexts(texts.tables, texts.bond)).toEqual(content);
  }
});

test("what earlier versions wrote into one text is understood, and a bond beside it counts", () => {
  const both = JSON.stringify({ bond: "ab/cd/7/3", tables: { "public.t": "f/1" } });
  expect(checkpointFromTexts(both, null)).toEqual({ tables: { "public.t": "f/1" }, bond });
  expect(checkpointFromTexts(both, "ab/cd/8/3")).toMatchObject({ bond: { step: 8 } });
  expect(checkpointFromTexts('{"public.t":"f/1"}', undefined)).toEqual({ tables: { "public.t": "f/1" } });
});

test("what was never written there is refused", () => {
  for (const text of ["[]", "null", '{"public.t":1}', '{"bond":"ab/cd/7/3","tables":{"t":1}}']) {
    expect(() => checkpointFromTexts(text, "")).toThrow("checkpoint");
  }
});
