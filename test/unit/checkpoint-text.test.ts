import { expect, test } from "vitest";
import {
  checkpointFromTexts,
  checkpointTexts,
  type CompleteTables,
  storedCompleteness,
  withoutTables,
  withTables,
} from "../../src/core/checkpoint.ts";
import { complete } from "../support/daemon/complete.ts";

const bond = { state: "ab", session: "cd", batch: 7, obligation: 3, resets: ["e5", "e6"] };
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

const many = complete(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`public.t${i}`, `${i}/1`])));
const change = (held: CompleteTables, i: number): CompleteTables =>
  i % 3 === 0
    ? withoutTables(held, new Set([`public.t${i}`]))
    : withTables(held, [[i % 3 === 1 ? `public.t${i}` : `public.new${i}`, storedCompleteness(`${i}/2`)]]);

test("changes of a few tables stand behind the bond; the list is written again after many", () => {
  const written = new Set<string>();
  let held = many;
  let longest = 0;
  for (let i = 0; i < 100; i++) {
    const content = { tables: held, place: "p", bond };
    const texts = checkpointTexts(content);
    expect(checkpointTexts(content)).toEqual(texts);
    expect(checkpointFromTexts(texts.tables, texts.bond)).toEqual(content);
    written.add(texts.tables);
    longest = Math.max(longest, texts.bond.length);
    held = change(held, i);
  }
  expect(written.size).toBeLessThan(10);
  expect(longest).toBeLessThan(1_000);
});

test("the same tables have one text in each place, however often and in which order they are asked for", () => {
  const next = change(many, 1);
  const of = (tables: CompleteTables, place: string) => checkpointTexts({ tables, place, bond });
  of(many, "p");
  const first = of(next, "p");
  of(many, "q");
  of(next, "q");
  expect(of(next, "p")).toEqual(first);
});

test("changes of another list are refused", () => {
  const first = checkpointTexts({ tables: many, place: "p", bond });
  const second = checkpointTexts({ tables: change(many, 1), place: "p", bond });
  const other = checkpointTexts({ tables, place: "p", bond });
  expect(second.tables).toBe(first.tables);
  expect(() => checkpointFromTexts(other.tables, second.bond)).toThrow("checkpoint");
  for (const behind of ["x", "{}", '["n"]', '["n",[["t",1]]]'])
    expect(() => checkpointFromTexts(first.tables, `${first.bond} ${behind}`)).toThrow();
});

test("what was never written there is refused", () => {
  const whole = '{"place":"p","name":"n","tables":{"t":"f/1"}}';
  expect(checkpointFromTexts(whole, "ab/cd/7/3")).toMatchObject({ bond: { ...bond, resets: [] } });
  for (const text of [
    "[]",
    "null",
    "{}",
    '{"t":"f/1"}',
    '{"place":"p","tables":{"t":"f/1"}}',
    '{"place":"p","name":"n","tables":{"t":1}}',
  ])
    expect(() => checkpointFromTexts(text, "ab/cd/7/3")).toThrow("checkpoint");
  expect(() => checkpointFromTexts(whole, "")).toThrow("bond");
});
