/**
 * `npm run bench -- NAME… [--json] [--scale 0.1] [--runs 3] [--scene NAME] [--report [FILE]]`: measures on real servers,
 * each figure with its limit or peer in the same run. Machines drift: compare ratios, not absolute figures. A benchmark
 * that throws is shown as failed, and makes the exit code 1.
 */
import { writeFileSync } from "node:fs";
import { Command } from "commander";
import { runsOf, scaleOf } from "./arguments.ts";
import { page } from "./page.ts";
import { type BenchOptions, type BenchReport, type Outcome, outcomeOf, render } from "./report.ts";

type Bench = (options: BenchOptions) => Promise<BenchReport>;

const benches: Readonly<Record<string, () => Promise<Bench>>> = {
  capture: async () => (await import("./capture.ts")).run,
  "capture-mysql": async () => (await import("./capture-mysql.ts")).run,
  "apply-postgres": async () => (await import("./apply-postgres.ts")).run,
  "apply-duckdb": async () => (await import("./apply-duckdb.ts")).run,
  "apply-ducklake": async () => (await import("./apply-ducklake.ts")).run,
  "apply-redis": async () => (await import("./apply-redis.ts")).run,
  "apply-clickhouse": async () => (await import("./apply-clickhouse.ts")).run,
  "apply-elasticsearch": async () => (await import("./apply-elasticsearch.ts")).run,
  files: async () => (await import("./files.ts")).run,
  kafka: async () => (await import("./kafka.ts")).run,
  "apply-kafka": async () => (await import("./apply-kafka.ts")).run,
  copy: async () => (await import("./copy.ts")).run,
  "copy-mysql": async () => (await import("./copy-mysql.ts")).run,
  reconcile: async () => (await import("./reconcile.ts")).run,
  verify: async () => (await import("./verify.ts")).run,
  proof: async () => (await import("./proof.ts")).run,
  latency: async () => (await import("./latency.ts")).run,
  "latency-kafka": async () => (await import("./latency-kafka.ts")).run,
  freshness: async () => (await import("./freshness.ts")).run,
  start: async () => (await import("./start.ts")).run,
  memory: async () => (await import("./memory.ts")).run,
  growth: async () => (await import("./growth.ts")).run,
  size: async () => (await import("./size.ts")).run,
  tables: async () => (await import("./tables.ts")).run,
  library: async () => (await import("./library.ts")).run,
  documents: async () => (await import("./documents.ts")).run,
};

const program = new Command("bench")
  .argument("<names...>", `some of ${Object.keys(benches).join(", ")}, or all`)
  .option("--json", "print one JSON document")
  .option("--scale <factor>", "share of the documented number of rows", scaleOf, 1)
  .option("--runs <count>", "interleaved runs, of which the median counts", runsOf, 3)
  .option("--scene <name>", "of tables, size, growth, proof and memory: one part alone, as it is called in the file")
  .option("--report [file]", "write an HTML page with charts too (default bench-report.html)")
  .parse();

const { json, scale, runs, scene, report } = program.opts<{
  json?: boolean;
  scale: number;
  runs: number;
  scene?: string;
  report?: string | true;
}>();
const names = program.args.includes("all") ? Object.keys(benches) : program.args;
const unknown = names.find((name) => !Object.hasOwn(benches, name));
if (unknown !== undefined)
  program.error(`error: there is no benchmark ${unknown}; there are ${Object.keys(benches).join(", ")}, and all`);
const path = report === true ? "bench-report.html" : report;
const context = { command: ["npm run bench --", ...process.argv.slice(2)].join(" "), at: new Date() };
const scenes = new Set<string>();
const takes = (name: string): boolean => {
  scenes.add(name);
  return scene === undefined || scene === name;
};
const log = (line: string) => process.stderr.write(`${line}\n`);
const outcomes: Outcome[] = [];
// Before the first benchmark too, so that a path that can't be written fails at once.
if (path !== undefined) writeFileSync(path, page(outcomes, context));
for (const name of names) {
  scenes.clear();
  const run: Bench = async (options) => {
    const report = await (await benches[name]!())(options);
    if (scene === undefined || scenes.size === 0 || scenes.has(scene)) return report;
    throw new Error(`nothing was measured: there is no part ${scene}; there are ${[...scenes].join(", ")}`);
  };
  outcomes.push(await outcomeOf(name, run, { scale, runs, log, takes }));
  // After each benchmark, because all of them take an hour, and the run may be interrupted.
  if (path !== undefined) writeFileSync(path, page(outcomes, context));
}
if (path !== undefined) log(`wrote ${path}`);
process.stdout.write(
  json === true ? `${JSON.stringify(outcomes, null, 2)}\n` : `${outcomes.map(render).join("\n\n")}\n`,
);
if (outcomes.some((outcome) => "failure" in outcome)) process.exitCode = 1;
