/**
 * Single faults of every kind, planted at random in every sink: `reconcile` finds each with its key and columns, and nothing else.
 * @module-tag heavy
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { runInFile } from "../support/warehouses/duckdb-file.ts";
import { changeSql, type Fault, faultsFor, lineOf, sourceSql } from "../support/planted/planted-rows.ts";
import { faultsInSql, plantInCache, plantInIndex } from "../support/planted/planting.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { driftOf, reconcile } from "../support/daemon/reconciled.ts";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";

const ROUND_COUNT = isLongForm() ? 5 : 1;
const ROW_COUNT = 2_000;
/** In each sink: with all of them more than a thousand. */
const FAULT_COUNT = 260;
const SINKS = ["postgres", "duckdb", "redis", "elasticsearch"] as const;

test(`${FAULT_COUNT * SINKS.length} planted faults are found, and nothing else; repaired, nothing is left`, async () => {
  const random = new Random(testSeed());
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      await source.query(sourceSql("planted", ROW_COUNT));
      await source.query(sourceSql("clean", 500));
    },
    { kinds: SINKS },
  );
  const stale = await versionIn(pipeline);
  await pipeline.run(changeSql("planted"));
  for (let round = 0; round < ROUND_COUNT; round++) {
    await pipeline.settled();
    await pipeline.daemon.stop();
    const planted = new Map(
      SINKS.map((sink) => [sink, faultsFor(random, ROW_COUNT, FAULT_COUNT, sink === "elasticsearch")]),
    );
    await pipeline.sinks.target!.query(faultsInSql("planted", planted.get("postgres")!, stale));
    const file = join(pipeline.installation.folder, "warehouse.duckdb");
    await runInFile(file, faultsInSql("planted", planted.get("duckdb")!, stale, true));
    await plantInCache(pipeline, "planted", planted.get("redis")!, stale);
    await plantInIndex(pipeline, "planted", planted.get("elasticsearch")!, stale);
    await pipeline.start();
    const { exitCode, found } = await reconcile(pipeline.installation, "--repair", "--sample", "1000");
    const lines = [...planted].map(([sink, faults]) => [sink, linesOf(faults)]);
    expect({ drift: driftOf(found), rest: found.notComparable }).toEqual({
      drift: Object.fromEntries(lines),
      rest: [],
    });
    expect(exitCode).toBe(3);
    for (const { table, compared, missing, extra, different, repaired } of found.tables) {
      expect({ table, compared, repaired }).toEqual({
        table,
        compared: table === "public.clean" ? 500 : ROW_COUNT,
        repaired: missing + extra + different,
      });
    }
    const again = await reconcile(pipeline.installation);
    expect({ exitCode: again.exitCode, drift: driftOf(again.found) }).toEqual({ exitCode: 0, drift: {} });
  }
});

/** Of the rows as they were copied. */
async function versionIn({ sinks: { target } }: RunningPipeline): Promise<string> {
  const { rows } = await target!.query<{ version: string }>(
    "select max(_millrace_version)::text as version from public.planted",
  );
  return rows[0]!.version;
}

function linesOf(faults: readonly Fault[]): readonly string[] {
  return faults.map((fault) => lineOf("public.planted", fault)).toSorted();
}
