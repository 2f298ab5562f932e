/** Which table stands for which one in `millrace verify`: by names, by convention, by a map; what is unclear is named. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import type { CapturedTables } from "../../src/core/contracts/catalog.ts";
import { type Pairs, pairsOf, suggested } from "../../src/reconcile/foreign/pairs.ts";
import { type TableSpec, tableVersion } from "../support/model/blocks.ts";

const NO_MAP = { tables: {} };

function captured(
  ...names: readonly (readonly [schema: string, table: string, columns?: TableSpec["columns"]])[]
): CapturedTables {
  const tables = names.map(([schema, table, columns = [["id", "int4"]]]) => ({
    ...tableVersion({ table, columns, key: ["id"] }),
    schema,
    id: `${schema}.${table}`,
  }));
  return { tables, refused: [], generations: new Map() };
}

const told = ({ pairs, unpaired }: Pairs) => [
  ...pairs.map(({ source, target }) => `${source.id} ${target.id}`),
  ...unpaired.map(({ table, reason }) => `${table}: ${reason}`),
];

test("the first convention that fits one table decides, and several are named", () => {
  const source = captured(
    ["shop", "orders"],
    ["shop", "lineItems"],
    ["shop", "users"],
    ["shop", "gone"],
    ["shop", "twice"],
  );
  const target = captured(
    ["shop", "orders"],
    ["dw", "orders"],
    ["dw", "line_items"],
    ["dw", "topic_shop_users"],
    ["a", "twice"],
    ["b", "twice"],
  );
  expect(told(pairsOf(source, target, NO_MAP))).toEqual([
    "shop.orders shop.orders",
    "shop.lineItems dw.line_items",
    "shop.users dw.topic_shop_users",
    "shop.gone: the target has no table for it; name one in --map",
    "shop.twice: the target has several tables for it: a.twice, b.twice; name one in --map",
  ]);
});

test("an index may have something before its table's name, and another table's name that ends alike is none", () => {
  const source = captured(["shop", "orders"], ["shop", "lineItems"], ["shop", "items"]);
  const target = captured(["", "app-orders"], ["", "app.line-items"], ["", "order_items"]);
  expect(told(pairsOf(source, target, NO_MAP))).toEqual([
    "shop.orders .app-orders",
    "shop.lineItems .app.line-items",
    "shop.items: the target has no table for it; name one in --map",
  ]);
});

test("a map decides over all conventions, and what it names must be there", () => {
  const source = captured(
    [
      "s",
      "a",
      [
        ["id", "int4"],
        ["x", "text"],
        ["y", "text"],
      ],
    ],
    ["s", "b"],
    ["s", "c"],
  );
  const target = captured(
    ["s", "a", [["id", "int4"]]],
    [
      "t",
      "z",
      [
        ["id", "int4"],
        ["xx", "text"],
      ],
    ],
  );
  const one = { columns: {}, ignore: [] };
  const pairs = pairsOf(source, target, {
    tables: {
      "s.a": { target: "t.z", columns: { x: "xx" }, ignore: ["y"] },
      "s.b": { ...one, target: "t.none" },
      "s.c": { ...one, target: "t.z", ignore: ["nothing"] },
      "s.d": one,
    },
  });
  expect(told(pairs)).toEqual([
    "s.a t.z",
    "s.b: the target has no table t.none",
    "s.c: the map names its column nothing, which the source does not have",
    "s.d: the map names it, and the source has no such table",
  ]);
  expect(pairs.pairs[0]).toMatchObject({ gaps: [], columns: [{ name: "id" }, { name: "x", target: 1 }] });
});

test("a key that can't be compared leaves its table out, another column itself; a suggestion names both", () => {
  const source = captured(
    [
      "s",
      "a",
      [
        ["id", "int4"],
        ["at", "timestamptz"],
        ["n", "int4"],
      ],
    ],
    ["s", "k"],
  );
  const target = captured(
    [
      "s",
      "a",
      [
        ["id", "numeric"],
        ["at", "int8"],
      ],
    ],
    ["s", "k", [["id", "bytea"]]],
  );
  const pairs = pairsOf(source, target, NO_MAP);
  expect(pairs.pairs[0]?.gaps).toEqual([
    "column at is timestamptz at the source and int8 at the target; leave it out by `ignore` in --map",
    "column n has no counterpart; name it under `columns` or `ignore` in --map",
  ]);
  expect(pairs.unpaired).toEqual([{ table: "s.k", reason: expect.stringContaining("its key can't be compared") }]);
  expect(suggested(pairs)).toEqual({ tables: { "s.a": { target: "s.a", ignore: ["at", "n"] }, "s.k": {} } });
});

test.each([
  ["tables: { public.a: { ignore: [! secret] } }\n", /line 1: a tag/],
  ["tables: {}\n---\ntables: {}\n", /line 2: not valid YAML/],
  ["tables: { a.b: {}, a.b: {} }\n", /line 1: this key is given twice/],
])("a map that would lose something is refused: %j", async (map, message) => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("map.yaml"), map);
  const urls = ["--source", "postgres://u@127.0.0.1:1/d", "--target", "x.duckdb"];
  const { exitCode, stderr } = await runCli(["verify", ...urls, "--map", "map.yaml"], { folder: folder.path });
  expect([exitCode, stderr]).toEqual([2, expect.stringMatching(message)]);
});
