/** The names that tools for online changes give to their tables, and which of them a glob leaves out. */
import { expect, test } from "vitest";
import { copiedNames, copyRefusal, isLoggedCopy } from "../../connectors/kit/online-copies.ts";

const LONG = "a_table_whose_name_is_as_long_as_the_server_lets_it_be_of_customers";

const original = (table: string, names: readonly string[], schema = "shop"): string | null => {
  const refusal = copyRefusal({ schema, table }, [...names, table]);
  return refusal === null ? null : (/ of shop\.(\S+)/.exec(refusal.reason)?.[1] ?? "unnamed");
};

test.each([
  ["_users_gho", "users"],
  ["_users_ghc", "users"],
  ["_users_del", "users"],
  ["_users_20240101120000_del", "users"],
  ["_users_ghk", "users"],
  ["~users_1713164823_gho", "users"],
  ["_users_new", "users"],
  ["__users_new", "users"],
  ["___________users_old", "users"],
  ["_users_old_20240101_120000", "users"],
  ["_users_chkpnt", "users"],
  ["lhmn_users", "users"],
  ["lhma_2012_05_01_12_00_00_000_users", "users"],
  ["lhma_2012_05_01_12_00_00_000_users_failed", "users"],
  ["__osc_new_users", "users"],
  ["__osc_old_users", "users"],
  ["__osc_chg_users", "users"],
  ["__oak_users", "users"],
  ["pgosc_st_users_ab12cd", "users"],
  ["pgosc_at_users_ab12cd", "users"],
  ["pgosc_op_table_users", "users"],
  ["_Users_New", "users"],
  ["_vt_vrp_6ace8bcef73211ea87e9f875a4d24e90_20200915120410_", "unnamed"],
  ["_vt_HOLD_6ace8bcef73211ea87e9f875a4d24e90_20200915120410", "unnamed"],
  ["_4e5dcf80_354b_11eb_82cd_f875a4d24e90_20201203114014_vrepl", "unnamed"],
  ["#sql-ib1234-5678", "unnamed"],
])("%s is a copy", (table, of) => {
  expect(original(table, ["users", "other"])).toBe(of);
});

test.each(["users_new", "_users", "news", "users_old", "_users_renewed", "lhm_users", "_vt_users", "table_16384"])(
  "%s is a table like any other",
  (table) => {
    expect(original(table, ["users"])).toBeNull();
  },
);

test("without the table that it would be a copy of, a table is captured as any other", () => {
  expect(original("_users_new", ["customers"])).toBeNull();
});

test("the name of a table that begins with underscores itself, and one that is cut", () => {
  expect(original("__users_new", ["_users"])).toBe("_users");
  expect(original(`_${LONG.slice(0, 59)}_gho`, [LONG.slice(0, 64)])).toBe(LONG.slice(0, 64));
  expect(original("_a_table_gho", [LONG.slice(0, 64)])).toBeNull();
  const table = LONG.slice(0, 63);
  for (const copy of [`pgosc_st_${table}_ab12cd`, `pgosc_at_${LONG.slice(0, 50)}_ab12cd`, `pgosc_op_table_${table}`])
    expect(original(copy.slice(0, 63), [table])).toBe(table);
});

test("what a table may be a copy of is told in its spelling", () => {
  expect(copiedNames({ schema: "shop", table: "_Users_New" })).toEqual(["Users"]);
  expect(copiedNames({ schema: "shop", table: "__users_gho" })).toEqual(["_users", "users"]);
  expect(copiedNames({ schema: "shop", table: "users" })).toEqual([]);
});

test("pg_repack's tables lie in a schema of their own", () => {
  expect(original("table_16384", [], "repack")).toBe("unnamed");
  expect(original("log_16384", [], "repack")).toBe("unnamed");
});

test("in a log, a table is a copy of one that was followed before, unless it flows itself", async () => {
  const isCopy = async (
    table: string,
    { known = [], flowing = [], names = [] }: Partial<Record<"known" | "flowing" | "names", readonly string[]>>,
  ): Promise<boolean> => {
    const isOneOf = (tables: readonly string[]) => (id: string) => tables.some((one) => id === `shop.${one}`);
    const options = { isKnown: isOneOf(known), isFlowing: isOneOf(flowing) };
    return await isLoggedCopy({ schema: "shop", table }, options, async () => names);
  };
  expect(await isCopy("_users_gho", { known: ["users"] })).toBe(true);
  expect(await isCopy("_users_gho", { names: ["users"] })).toBe(true);
  expect(await isCopy("_users_gho", { names: ["_users_gho"] })).toBe(false);
  expect(await isCopy("_users_gho", { known: ["users", "_users_gho"], flowing: ["users", "_users_gho"] })).toBe(false);
  // It was captured once, and dropped.
  expect(await isCopy("_users_gho", { known: ["users", "_users_gho"], flowing: ["users"] })).toBe(true);
  expect(await isCopy("users", { known: ["users"], flowing: ["users"], names: ["users"] })).toBe(false);
});

test("the catalogue of a lake is known by its tables together", () => {
  const names = ["ducklake_snapshot", "orders"];
  const refused = ["ducklake_snapshot", "ducklake_metadata", "ducklake_inlined_data_3_7", "ducklake_orders"];
  for (const table of refused) {
    expect(copyRefusal({ schema: "shop", table }, names)?.reason).toBe(
      "it is part of the catalogue of a lake, as its name says (DuckLake)",
    );
  }
  expect(copyRefusal({ schema: "shop", table: "orders" }, names)).toBeNull();
  expect(copyRefusal({ schema: "shop", table: "ducklake_orders" }, ["orders"])).toBeNull();
});
