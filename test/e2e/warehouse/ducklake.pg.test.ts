/**
 * Postgres into a lake by the real command line: types, queries, and reconciliation beside other writers of the lake.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { runInLake } from "../../support/warehouses/ducklake-target.ts";
import { IN_WAREHOUSES, ITEMS, STATEMENTS } from "../../support/planted/planted-items.ts";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../../support/postgres/postgres-further-values.ts";
import { roundTrip } from "../../support/postgres/postgres-round-trip.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";

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
  await runInLake(join(installation.folder, "ducklake.db"), ...STATEMENTS.split("; "));
  const planted = await reconcile(installation);
  expect(driftOf(planted.found)).toEqual({ ducklake: IN_WAREHOUSES });
  const asked = await installation.command("query", "select name from public.item where id = 10", "--json");
  expect(JSON.parse(asked.stdout)).toMatchObject({ sink: "ducklake", rows: [{ name: "wrong" }] });
  await reconcile(installation, "--repair");
  await pipeline.expectEqual(["item", "moving"]);
});

test(
  "a lake's catalogue in the captured database is no table of the application, and check names it",
  { tags: "heavy" },
  async () => {
    await using source = await freshDatabase();
    await using pipeline = await RunningPipeline.start(ITEMS, {
      source,
      kinds: ["ducklake"],
      configure: (config) => ({
        ...config,
        sinks: { ducklake: { ...config.sinks["ducklake"], catalog: source.url } },
      }),
    });
    const { installation } = pipeline;
    const found = async () => {
      const { tables } = (await installation.ask<StatusDocument>("GET", "/api/v1/status"))!;
      return { captured: tables.captured, suspended: tables.suspended };
    };
    await pipeline.run("create table later (id int primary key); insert into later values (1)");
    await pipeline.settled();
    expect(await found()).toEqual({ captured: 3, suspended: [] });
    await pipeline.restart();
    await pipeline.run("insert into later values (2)");
    await pipeline.settled();
    expect(await found()).toEqual({ captured: 3, suspended: [] });
    const { stdout } = await installation.command("check");
    expect(stdout).toContain("public.ducklake_snapshot is left out: it is part of the catalogue of a lake");
    const { found: compared } = await reconcile(installation);
    expect({ drift: driftOf(compared), notComparable: compared.notComparable }).toEqual({
      drift: {},
      notComparable: [],
    });
  },
);
