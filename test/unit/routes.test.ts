import { expect, test } from "vitest";
import { areApart } from "../../src/core/model/schema.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { Routes } from "../../src/routes/routes.ts";
import { wideColumn } from "../../src/routes/routed-tables.ts";

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

test("columns of a shared table are as wide as any of their kind", () => {
  const wide = (native: string, type: ColumnType, dialect: "postgres" | "mysql" = "postgres") => {
    const made = wideColumn({ name: "c", type, native, nullable: true, identity: 1 }, dialect);
    return [made.native, made.type];
  };
  const int = (bits: 8 | 32 | 64, signed = true): ColumnType => ({ kind: "int", bits, signed });
  expect(wide("integer", int(32))).toEqual(["bigint", int(64)]);
  expect(wide("int unsigned", int(32, false), "mysql")).toEqual(["bigint", int(64)]);
  expect(wide("bigint unsigned", int(64, false), "mysql")).toEqual(["bigint unsigned", int(64, false)]);
  expect(wide("character varying(9)", { kind: "text" })).toEqual(["text", { kind: "text" }]);
  expect(wide("a.mood", { kind: "enum", labels: ["x"] })).toEqual(["text", { kind: "text" }]);
  expect(wide("numeric(6,2)", { kind: "decimal", precision: 6, scale: 2 })).toEqual([
    "numeric(38,2)",
    { kind: "decimal", precision: 38, scale: 2 },
  ]);
  const timestamp: ColumnType = { kind: "timestamp", zone: true };
  expect(wide("timestamp(3) with time zone", timestamp)).toEqual(["timestamp with time zone", timestamp]);
  expect(wide("datetime", timestamp, "mysql")).toEqual(["datetime(6)", timestamp]);
});
