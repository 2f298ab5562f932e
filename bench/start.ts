/**
 * How long a command takes, compared with Node alone running an empty file, in turns: with Node's compile cache of an
 * earlier start, and without it. No connection is made.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { MAIN } from "./daemon.ts";
import { type BenchOptions, type BenchReport, type Line, median } from "./report.ts";

const ROUNDS = 30;
const START_MS_MAX = 150;
const COMMANDS: readonly (readonly string[])[] = [["version"], ["status", "--help"], ["help"]];

const start = promisify(execFile);

export async function run({ scale }: BenchOptions): Promise<BenchReport> {
  const rounds = Math.max(3, Math.round(ROUNDS * scale));
  const folder = mkdtempSync(join(tmpdir(), "millrace-bench-"));
  const empty = join(folder, "empty.js");
  writeFileSync(empty, "");
  const kept = { NODE_COMPILE_CACHE: join(folder, "compiled") };
  const uncached = { NODE_DISABLE_COMPILE_CACHE: "1" };
  const starts = [
    { work: "an empty file", who: "Node alone", args: [empty], environment: uncached },
    ...COMMANDS.flatMap((args) => {
      const work = `millrace ${args.join(" ")}`;
      return [
        { work, who: "compiled each time", args: [MAIN, ...args], environment: uncached },
        { work, who: "kept by Node", args: [MAIN, ...args], environment: kept },
      ];
    }),
  ];
  try {
    const samples = starts.map((): number[] => []);
    // The first round fills the cache.
    for (let round = 0; round <= rounds; round++) {
      for (const [at, { args, environment }] of starts.entries()) {
        const begin = performance.now();
        await start(process.execPath, args, { env: { ...process.env, ...environment } });
        if (round > 0) samples[at]!.push(performance.now() - begin);
      }
    }
    const lines: readonly Line[] = starts.map(({ work, who }, at) => ({
      work,
      who,
      figures: { "median ms": median(samples[at]!), "fastest ms": Math.min(...samples[at]!) },
    }));
    const ratios = lines
      .filter(({ who }) => who === "kept by Node")
      .map(({ work, figures }) => ({
        what: `${work}, ms`,
        value: figures["median ms"]!,
        target: START_MS_MAX,
        atLeast: false,
      }));
    return { name: "start", lines, ratios };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
