/**
 * A drill from one source to sinks of every kind that holds rows: everything breaks, each recovery is waited for, and all sinks
 * are equal. `npm run faults` makes docs/faults.md of what is found.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { RunningPipeline } from "../daemon/running-pipeline.ts";
import type { SinkKind } from "../daemon/sink-set.ts";
import type { MysqlPipeline } from "../mysql/mysql-pipeline.ts";
import { LONG } from "../run/service-suffixes.ts";

export const DRILLED_KINDS: readonly SinkKind[] = [
  "postgres",
  "duckdb",
  "sqlite",
  "redis",
  "elasticsearch",
  "clickhouse",
];
export const DRILLED_TABLE = [
  "create table orders (id int primary key, n int)",
  "insert into orders values (1, 1), (2, 2), (3, 3)",
];

/** The folder for what is found. */
const FOUND = process.env["MILLRACE_TEST_FAULTS"];
/** Longer than the drill, its recoveries, and the comparison. */
export const DRILL = { tags: FOUND === undefined ? [LONG] : [], timeout: 20 * 60_000 };

const MINUTES = "3.6";
const WRITE_MS = 100;

interface Report {
  readonly breaks: readonly { readonly what: string; readonly on: string; readonly recoveryMs: number | null }[];
}

/** `url`: of the source. `others`: by name, what else the daemon connects to for it. */
export async function drillThrough(
  pipeline: RunningPipeline | MysqlPipeline,
  name: string,
  url: string,
  others: Readonly<Record<string, string>> = {},
): Promise<void> {
  await pipeline.settled();
  await pipeline.daemon.stop();
  const stopping = new AbortController();
  const writing = (async () => {
    for (let i = 0; !stopping.signal.aborted; i++) {
      await pipeline.run(`insert into orders values (${100 + i}, 0)`);
      await pipeline.run("update orders set n = n + 1 where id < 4");
      if (i % 10 === 9) await pipeline.run(`delete from orders where id = ${100 + i - 5}`);
      await sleep(WRITE_MS);
    }
  })();
  let report: Report;
  try {
    const drilled = await pipeline.installation.command("drill", "--minutes", MINUTES, "--yes", "--json");
    expect(drilled.exitCode, drilled.stdout + drilled.stderr).toBe(0);
    report = JSON.parse(drilled.stdout);
  } finally {
    stopping.abort();
    await writing;
  }
  const broke = new Set(report.breaks.map(({ what }) => what));
  expect(broke).toEqual(new Set(["kill", "cut", "stall", "refuse", "pause", "stop"]));
  pipeline.daemon = pipeline.installation.run();
  await pipeline.daemon.streaming();
  if (FOUND === undefined) return;
  const beside = Object.entries(others).map(([what, at]) => ({ name: what, port: new URL(at).port }));
  const sinks = Object.entries(pipeline.sinks.config).map(([kind, sink]) => ({
    name: kind,
    port: "url" in sink ? new URL(String(sink.url)).port : null,
  }));
  const found = { source: { name, port: new URL(url).port }, sinks: [...beside, ...sinks], breaks: report.breaks };
  writeFileSync(join(FOUND, `${name}.json`), JSON.stringify(found));
}
