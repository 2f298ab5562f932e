/** Postgres into a lake by the real command line: types, queries, and reconciliation beside other writers of the lake. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { DuckDBInstance } from "@duckdb/node-api";
import { duckdbExtensions } from "../../scripts/services/duckdb-extensions.ts";
import { IN_WAREHOUSES, ITEMS, STATEMENTS } from "../support/planted-items.ts";
import { EDGE_TYPES, edgeValues } from "../support/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../support/postgres-further-values.ts";
import { roundTrip } from "../support/postgres-round-trip.ts";
import { driftOf, reconcile } from "../support/reconciled.ts";
import { RunningPipeline } from "../support/running-pipeline.ts";
import { eventually } from "../support/waiting.ts";

test("all types, in a mirror and in a history", { tags: "long" }, async () => {
  const kinds = ["ducklake", "ducklake-history"] as const;
  await roundTrip([...edgeValues, ...furtherValues], `${EDGE_TYPES}; ${FURTHER_TYPES}`, kinds);
});

test("faults that another writer plants are found and repaired, and a query sees the rows", async () => {
  await using pipeline = await RunningPipeline.start(ITEMS, { kinds: ["ducklake"] });
  const { installation } = pipeline;
  await pipeline.expectEqual(["item", "moving"]);
  const clean = await reconcile(installation);
  expect({ exitCode: clean.exitCode, drift: driftOf(clean.found) }).toEqual({ exitCode: 0, drift: {} });
  await runInLake(join(installation.folder, "ducklake.db"), STATEMENTS.split("; "));
  const planted = await reconcile(installation);
  expect(driftOf(planted.found)).toEqual({ ducklake: IN_WAREHOUSES });
  const asked = await installation.command("query", "select name from public.item where id = 10", "--json");
  expect(JSON.parse(asked.stdout)).toMatchObject({ sink: "ducklake", rows: [{ name: "wrong" }] });
  await reconcile(installation, "--repair");
  await pipeline.expectEqual(["item", "moving"]);
});

/** As another program would write, while the daemon has the lake open. */
async function runInLake(catalog: string, statements: readonly string[]): Promise<void> {
  const instance = await DuckDBInstance.create(":memory:", { allow_unsigned_extensions: "true" });
  const connection = await instance.connect();
  const extensions = await duckdbExtensions();
  for (const name of ["ducklake", "sqlite_scanner"]) {
    await connection.run(`LOAD '${extensions}/${name}.duckdb_extension'`);
  }
  await connection.run(`ATTACH 'ducklake:sqlite:${catalog}' AS lake (META_BUSY_TIMEOUT 5000); USE lake`);
  // Of two writers at the same moment one is refused.
  for (const sql of statements) await eventually(async () => void (await connection.run(sql)));
  connection.disconnectSync();
  instance.closeSync();
}
