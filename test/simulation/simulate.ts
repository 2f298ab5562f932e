/**
 * `npm run simulate -- [--seeds N] [--from N] [--minutes N] [--seed N [--trace]] [--case FILE]`: the runtime on virtual time,
 * one run per seed. Prints each seed that fails, with the shortest list of events that fails in the same way.
 * `--mutant NAME`: the same with a planted fault. `--mutants`: looks for each planted fault, and says what it took.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Mutant, mutants, plant } from "./mutants.ts";
import { type Plan, planOf } from "./plan.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    minutes: { type: "string" },
    seed: { type: "string" },
    case: { type: "string" },
    trace: { type: "boolean", default: false },
    "failures-max": { type: "string", default: "3" },
    quick: { type: "boolean", default: false },
    mutant: { type: "string" },
    mutants: { type: "boolean", default: false },
  },
});

// Millions of errors are thrown and caught here; where they come from is asked of one seed.
Error.stackTraceLimit = values.seed === undefined ? 0 : 20;
if (values.mutants) process.exit((await findMutants()) ? 0 : 1);
if (values.mutant !== undefined) plant(values.mutant);
// Behind the planted fault.
const { runPlan, runSeed } = await import("./runner.ts");
const { shrink } = await import("./shrink.ts");
const { storyOf } = await import("./story.ts");
const failed = values.seed !== undefined || values.case !== undefined ? await one() : await many();
process.exit(failed ? 1 : 0);

async function one(): Promise<boolean> {
  const plan: Plan =
    values.case === undefined
      ? planOf(Number(values.seed))
      : // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by this program
        (JSON.parse(readFileSync(values.case, "utf8")) as Plan);
  const { failure, trace } = await runPlan(plan, values.trace);
  if (values.trace) process.stdout.write(`${trace.join("\n")}\n`);
  if (failure === null) {
    process.stdout.write(`seed ${plan.seed}: everything holds\n`);
    return false;
  }
  await tell(plan, failure);
  return true;
}

async function many(): Promise<boolean> {
  const from = Number(values.from);
  const endMs = values.minutes === undefined ? Infinity : performance.now() + Number(values.minutes) * 60_000;
  const count = values.minutes === undefined ? Number(values.seeds) : Infinity;
  const failuresMax = Number(values["failures-max"]);
  const beganMs = performance.now();
  let failures = 0;
  let seed = from;
  for (; seed < from + count && performance.now() < endMs && failures < failuresMax; seed++) {
    const { failure } = await runSeed(seed);
    if (failure === null) continue;
    failures++;
    if (values.quick) process.stdout.write(`seed ${seed} fails: ${failure}\n`);
    else await tell(planOf(seed), failure);
  }
  const { user, system } = process.cpuUsage();
  const runs = seed - from;
  const seconds = (performance.now() - beganMs) / 1000;
  const rate = `${Math.round(runs / seconds)} a second, ${Math.round((runs * 1e6) / (user + system))} a second of one core`;
  process.stdout.write(
    `seeds ${from} to ${seed - 1}: ${failures} failed; ${runs} runs in ${seconds.toFixed(1)} s (${rate})\n`,
  );
  return failures > 0;
}

async function tell(plan: Plan, failure: string): Promise<void> {
  process.stdout.write(`seed ${plan.seed} fails: ${failure}\n`);
  const smallest = await shrink(plan, failure);
  process.stdout.write(`${await storyOf(smallest)}\nas a case:\n${JSON.stringify(smallest)}\n`);
}

/** False where one was not found. */
async function findMutants(): Promise<boolean> {
  let missed = 0;
  for (const mutant of mutants()) {
    const { seed, seconds, failure } = await find(mutant);
    if (seed === null) missed++;
    const found = seed === null ? `NOT FOUND within ${values.seeds} seeds` : `seed ${seed}`;
    process.stdout.write(`${mutant.name}: ${found}, ${seconds.toFixed(1)} s\n  ${mutant.about}\n  ${failure}\n`);
  }
  process.stdout.write(`${mutants().length} planted faults, ${missed} not found\n`);
  return missed === 0;
}

/** In a process of its own, as sources are loaded once. */
async function find({ name }: Mutant): Promise<{ seed: number | null; seconds: number; failure: string }> {
  const options = ["--mutant", name, "--seeds", values.seeds, "--from", values.from, "--failures-max", "1", "--quick"];
  const beganMs = performance.now();
  const child = spawn(process.execPath, [import.meta.filename, ...options], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (data: Buffer) => void (said += data.toString()));
  await new Promise((resolve) => child.on("close", resolve));
  const match = /^seed (\d+) fails: (.*)$/m.exec(said);
  const seconds = (performance.now() - beganMs) / 1000;
  return { seed: match === null ? null : Number(match[1]), seconds, failure: match?.[2] ?? said.trim() };
}
