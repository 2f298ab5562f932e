/** What the capturing daemon tells of foreign keys and collations: by the names of the log, and nothing of what rules hide. */
import { expect, test } from "vitest";
import { joinsOf } from "../../connectors/kafka/log/calls.ts";
import type { Equality, ForeignKey, TableShape } from "../../src/core/contracts/catalog.ts";
import type { Lineage, Mask } from "../../src/core/model/schema.ts";
import { tableVersion } from "../support/model/blocks.ts";

const [CASELESS, PADDED]: readonly Equality[] = [
  { by: "utf8mb4_general_ci", alike: { isPadded: true, isFolded: true } },
  { by: "utf8mb4_bin", alike: { isPadded: true, isFolded: false } },
];

function ruled(table: string, lineage: readonly Lineage[] | null): TableShape {
  const shape = tableVersion({ table, columns: { id: "int4", code: "text", parent: "int4" } });
  if (lineage === null) return shape;
  const { columns, key, fingerprint } = shape;
  return {
    ...shape,
    ruled: { rules: "r", source: { columns, key, fingerprint }, lineage, filtered: false, fault: null },
  };
}

function lineage(source: string, target: string | null = source, mask: Mask | null = null): Lineage {
  return { source, target, mask };
}

function foreignKey(from: string, column: string, to: string): ForeignKey {
  return {
    table: { schema: "public", table: from },
    columns: [column],
    references: { schema: "public", table: to },
    referenced: ["id"],
  };
}

test("renamed columns have the log's names, and those that are dropped or masked join nothing", async () => {
  const tables = [
    ruled("plain", null),
    ruled("renamed", [lineage("id", "number"), lineage("code", "sku"), lineage("parent")]),
    ruled("hidden", [lineage("id"), lineage("code", "code", "hash"), lineage("parent", null)]),
    ruled("masked", [lineage("id"), lineage("code", null), lineage("parent", "parent", "hash")]),
  ];
  const equalities = new Map(tables.map(({ id }) => [id, new Map([["code", CASELESS!]])]));
  equalities.get("public.plain")!.set("note", PADDED!);
  const keys = [
    foreignKey("plain", "parent", "renamed"),
    foreignKey("renamed", "parent", "plain"),
    foreignKey("hidden", "parent", "plain"),
    foreignKey("masked", "parent", "plain"),
    foreignKey("plain", "parent", "elsewhere"),
  ];
  const catalog = { foreignKeys: async () => keys, equalities: async () => equalities };
  const { foreignKeys, equalities: told } = await joinsOf(catalog, tables, AbortSignal.timeout(1_000));
  expect(foreignKeys).toEqual([{ ...keys[0], referenced: ["number"] }, keys[1]]);
  expect(told).toEqual([
    ["public.plain", "code", CASELESS],
    ["public.plain", "note", PADDED],
    ["public.renamed", "sku", CASELESS],
    ["public.hidden", "code", { ...CASELESS, alike: null }],
  ]);
  expect(await joinsOf({}, tables, AbortSignal.timeout(1_000))).toEqual({ foreignKeys: null, equalities: null });
});
