/**
 * A daemon that works for a long time under a load that it can carry: it does not grow, no alert rule fires, comparisons
 * find nothing, and nothing is lost. Half an hour, or as many minutes as MILLRACE_TEST_SOAK_MINUTES says.
 * @module-tag long
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { AlertWatch, scrapedDaemon } from "../../support/daemon/alert-watch.ts";
import { testSeed } from "../../support/run/random.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

const MINUTES = Number(process.env["MILLRACE_TEST_SOAK_MINUTES"] ?? 30);
const ROW_COUNT = 2_000;
/** Of each of the three writers, after each transaction. */
const PAUSE_MS = 40;
const COMPARED_TIMES = 4;
/** Between the second quarter, when all is loaded and compiled, and the last one. */
const GROWTH_BYTES_MAX = 48 * 1024 * 1024;
const GROWTH_FILES_MAX = 5;

/** DuckDB keeps what it reads until its limit: it is to be there when the second quarter ends. */
function smallWarehouse(config: PipelineConfig): PipelineConfig {
  const { duckdb } = config.sinks;
  return { ...config, sinks: { ...config.sinks, duckdb: { ...duckdb, memoryLimit: "64MB" } } };
}

const timeout = (MINUTES + 15) * 60_000;

test(`${MINUTES} minutes under load: no growth, no alert, no drift, nothing lost`, { timeout }, async () => {
  const scraped = await scrapedDaemon();
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      await new Workload(source.url, 0).createTables(ROW_COUNT);
    },
    {
      kinds: ["postgres", "duckdb", "redis"],
      configure: (config) => ({ ...smallWarehouse(config), admin: scraped.admin }),
    },
  );
  await pipeline.settled();
  await using alerts = await AlertWatch.start(scraped);
  await alerts.quiet();
  const begunMs = performance.now();
  await using workload = new Workload(pipeline.source.url, testSeed());
  workload.start(PAUSE_MS);
  const quarterMs = (MINUTES * 60_000) / COMPARED_TIMES;
  for (let quarter = 1; quarter <= COMPARED_TIMES; quarter++) {
    // A time, not a condition: what may happen in it is what the test looks for.
    await sleep(begunMs + quarter * quarterMs - performance.now());
    const compared = await pipeline.installation.command("reconcile");
    expect({ quarter, exitCode: compared.exitCode, said: compared.stderr }).toMatchObject({ quarter, exitCode: 0 });
  }
  const seconds = Math.ceil((performance.now() - begunMs) / 1000);
  const fired = await alerts.query(`count_over_time(ALERTS{alertstate="firing"}[${seconds}s])`);
  const quarter = Math.floor(seconds / 4);
  const value = async (expr: string): Promise<number> => Number((await alerts.query(expr))[0]?.value[1]);
  const median = (metric: string, agoSeconds: number): Promise<number> =>
    value(`quantile_over_time(0.5, ${metric}[${quarter}s]${agoSeconds === 0 ? "" : ` offset ${agoSeconds}s`})`);
  const growth = async (metric: string) => (await median(metric, 0)) - (await median(metric, 2 * quarter));
  const figures = {
    seconds,
    fired: fired.map(({ metric }) => metric),
    transactions: workload.transactionCount,
    residentBytes: await median("process_resident_memory_bytes", 0),
    residentGrowthBytes: await growth("process_resident_memory_bytes"),
    heapGrowthBytes: await growth("nodejs_heap_size_used_bytes"),
    openFiles: await median("process_open_fds", 0),
    openFilesGrowth: await growth("process_open_fds"),
    delayP99Seconds: await median("nodejs_eventloop_lag_p99_seconds", 0),
    lagMaxSeconds: await value(`max(max_over_time(millrace_sink_lag_seconds[${seconds}s]))`),
  };
  console.log(JSON.stringify(figures));
  expect(figures.fired).toEqual([]);
  expect(figures.residentGrowthBytes).toBeLessThan(GROWTH_BYTES_MAX);
  expect(figures.openFilesGrowth).toBeLessThan(GROWTH_FILES_MAX);
  await workload.stop();
  await pipeline.expectEqual(WORKLOAD_TABLES);
  expect((await pipeline.installation.status()).conditions).toEqual([]);
});
