/** A row of the nest that changes without its joining columns: SQLite leaves the indexes over these as they are. */
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { indexesOf } from "../../connectors/nest/indexes.ts";
import { createSql, layoutOf, MirrorSql } from "../../connectors/sqlite/tables/layout.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";
import type { Document } from "../../src/documents/document.ts";
import { columnsIndexed } from "../../src/documents/places.ts";
import { tableVersion } from "../support/model/blocks.ts";

const orders = tableVersion({ table: "orders", columns: { id: "int4" } });
const items = tableVersion({
  table: "items",
  columns: { id: "int4", order_id: "int4", product_id: "int4", at: "timestamptz", score: "float8", body: "text" },
});
const products = tableVersion({ table: "products", columns: { id: "int4", title: "text" } });

const field = (column: string) => ({ name: column, column });
const NOTHING = { through: null, where: null, orderBy: [], limit: null, value: null };
const product = {
  ...NOTHING,
  name: "product",
  many: false,
  on: [{ above: "product_id", below: "id" }],
  node: { table: products, fields: [field("title")], relations: [], transform: null },
};
const node = { table: items, fields: [field("body")], relations: [product], transform: null };
const lines = { ...NOTHING, many: true, on: [{ above: "id", below: "order_id" }], node };
const by = (column: string) => ({ name: column, orderBy: [{ column, isDescending: true }], limit: 2 });
const DOCUMENT: Document = {
  name: "orders",
  where: null,
  root: {
    table: orders,
    fields: [field("id")],
    relations: [
      { ...lines, ...by("at") },
      { ...lines, ...by("score") },
    ],
    transform: null,
  },
};

const layouts = new Map(
  [orders, items, products].map((table) => {
    const indexed = columnsIndexed([DOCUMENT]).get(table.id) ?? new Set<string>();
    const rest = { form: DEFAULT_FORM, dropsColumns: false };
    return [table.id, layoutOf(table, table.table, rest, true, { indexed })] as const;
  }),
);

function opened(): DatabaseSync {
  const database = new DatabaseSync(":memory:");
  for (const layout of layouts.values()) database.exec(createSql(layout));
  for (const { sql } of indexesOf([DOCUMENT], layouts)) database.exec(sql);
  return database;
}

test("only what the document joins by, or orders rows of which it takes some by, counts as indexed", () => {
  expect([...columnsIndexed([DOCUMENT])].map(([id, columns]) => [id, [...columns].toSorted()])).toEqual([
    [orders.id, ["id"]],
    [items.id, ["at", "order_id", "product_id", "score"]],
    [products.id, ["id"]],
  ]);
});

test("a change opens no index that it can leave, and one of an indexed column is left to the whole statement", () => {
  using database = opened();
  /** The indexes that a statement writes. */
  const written = (sql: string): readonly unknown[] => {
    const names = new Map(
      database
        .prepare("SELECT rootpage, name FROM sqlite_schema")
        .all()
        .map((row) => [row["rootpage"], row["name"]]),
    );
    const steps = database.prepare(`EXPLAIN ${sql}`).all();
    return steps.flatMap(({ opcode, p2 }) =>
      opcode === "OpenWrite" && names.get(p2) !== "items" ? [names.get(p2)] : [],
    );
  };
  const sql = new MirrorSql(layouts.get(items.id)!);
  const { change, patch } = { change: sql.change!, patch: sql.patch("tttttu") };
  const ofScore = expect.stringContaining('"score" DESC');
  expect(written(sql.put)).toHaveLength(3);
  expect(written(patch.patch)).toHaveLength(3);
  // Two zeros are equal to SQLite, and differ.
  expect(written(change)).toEqual([ofScore]);
  expect(written(patch.change!)).toEqual([ofScore]);
  expect(sql.patch("tuuuut").change).toBeNull();
  expect(new MirrorSql(layouts.get(orders.id)!).change).toBeNull();

  const run = (statement: string, ...values: (number | string | null)[]) =>
    Number(database.prepare(statement).run(...values).changes);
  const rows = () =>
    database
      .prepare("SELECT * FROM items")
      .all()
      .map((row) => Object.values(row));
  expect(run(change, 1, 10, null, 5, -0, "a", 1, "")).toBe(0);
  expect(run(sql.put, 1, 10, null, 5, -0, "a", 1, "")).toBe(1);
  expect(run(change, 1, 10, null, 5, 0, "b", 2, "")).toBe(1);
  expect(run(change, 1, 10, null, 5, 0, "older", 1, "")).toBe(0);
  expect(run(change, 1, 10, 20, 5, 0, "elsewhere", 3, "")).toBe(0);
  expect(rows()).toEqual([[1, 10, null, 5, 0, "b", 2, ""]]);
  expect(run(patch.change!, 1, 11, null, 5, 0, 4, "")).toBe(0);
  expect(run(patch.patch, 1, 11, null, 5, 0, 4, "")).toBe(1);
  expect(run(patch.change!, 1, 11, null, 5, 1, 5, "")).toBe(1);
  expect(rows()).toEqual([[1, 11, null, 5, 1, "b", 5, ""]]);
});
