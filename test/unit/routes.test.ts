import { expect, test } from "vitest";
import { areApart } from "../../src/core/model/schema.ts";
import { Routes } from "../../src/routes/routes.ts";

const into = (text: string) => ({ schema: text.split(".")[0]!, table: text.split(".")[1]! });

const ROUTES = new Routes([
  { pattern: "tenant_*.orders", into: into("shared.orders"), add: { tenant: "$1" } },
  { pattern: "tenant_zed.*", into: null, add: { tenant: "the $$ of $1" } },
  { pattern: "a?.*", into: into("b$1.$2$2"), add: null },
]);

test("a table goes where the most exact glob says, with what the wildcards stand for", () => {
  expect(ROUTES.of({ schema: "tenant_acme", table: "orders" })).toEqual({
    into: into("shared.orders"),
    added: { tenant: "acme" },
  });
  expect(ROUTES.of({ schema: "tenant_zed", table: "lines" })).toEqual({
    into: { schema: "tenant_zed", table: "lines" },
    added: { tenant: "the $ of lines" },
  });
  expect(ROUTES.of({ schema: "a1", table: "t" })).toEqual({ into: into("b1.tt"), added: {} });
  expect(ROUTES.of({ schema: "public", table: "orders" })).toBeNull();
});

test("a dot in a schema's name is in the value; a `$` in a name is no reference", () => {
  expect(ROUTES.of({ schema: "tenant_a.b", table: "orders" })?.added).toEqual({ tenant: "a.b" });
  expect(ROUTES.of({ schema: "tenant_$1", table: "orders" })?.added).toEqual({ tenant: "$1" });
});

test("tables share a target if the same columns have other values", () => {
  expect(areApart({ tenant: "a" }, { tenant: "b" })).toBe(true);
  expect(areApart({ tenant: "a" }, { tenant: "a" })).toBe(false);
  expect(areApart({ tenant: "a" }, { region: "b" })).toBe(false);
  expect(areApart({ tenant: "a" }, { tenant: "b", region: "c" })).toBe(false);
  expect(areApart({ tenant: "a" }, null)).toBe(false);
});
