/**
 * `npm run simulate -- [--seeds N] [--from N] [--minutes N] [--size NAME] [--jobs N] [--seed N [--trace]] [--case FILE]`: the
 * runtime on virtual time, one run per seed. Prints each seed that fails, with the shortest list of events that fails in the
 * same way. `--size small`, the default: little happens in each run; `dense`: things happen while others last; `full`: much
 * happens for a second; `documents`: the nest of documents, in real time, on a real file. `--through kafka`: one daemon captures into Kafka, and processes share its tables; with `--partitions N`
 * the tables' topics have so many, and few keys have most of the changes. `--jobs`: so many processes; left out: one for each core. `--mutant NAME`: with a planted fault.
 * `--mutants`: looks for each planted fault, in small plans, then in dense and full ones, those of Kafka in its own, and says what it took.
 */
import { readFileSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { findMutants, inProcesses, report } from "./jobs.ts";
import { plant } from "./mutants.ts";
import { type AnyPlan, DOCUMENTS, isKind, KAFKA, KINDS, planNamed } from "./plans.ts";

const { values } = parseArgs({
  options: {
    /** Left out: 1000, and for each planted fault 20,000. */
    seeds: { type: "string" },
    from: { type: "string", default: "1" },
    /** From one seed to the next. */
    step: { type: "string", default: "1" },
    minutes: { type: "string" },
    seed: { type: "string" },
    case: { type: "string" },
    size: { type: "string" },
    through: { type: "string" },
    partitions: { type: "string" },
    jobs: { type: "string", default: String(availableParallelism()) },
    trace: { type: "boolean", default: false },
    "failures-max": { type: "string", default: "3" },
    quick: { type: "boolean", default: false },
    mutant: { type: "string" },
    mutants: { type: "boolean", default: false },
  },
});

const MUTANT_SEEDS = "20000";

const chosen = kindOf(values);
const sizes = chosen === null ? ["small", "dense", "full", KAFKA, DOCUMENTS] : [chosen];
const size = chosen ?? "small";
const options = { ...values, size, seeds: values.seeds ?? "1000" };
const isOne = values.seed !== undefined || values.case !== undefined;
// Millions of errors are thrown and caught here; where they come from is asked of one seed.
Error.stackTraceLimit = isOne ? 20 : 0;
if (values.mutants) {
  const found = await findMutants({ ...options, seeds: values.seeds ?? MUTANT_SEEDS }, sizes);
  process.exit(found ? 0 : 1);
}
if (!isOne && Number(values.jobs) > 1) process.exit((await inProcesses(options)) ? 0 : 1);
if (values.mutant !== undefined) plant(values.mutant);
// Compiling what a run needs costs each process a quarter of a second, once.
enableCompileCache();
// Behind the planted fault.
const { runPlan, runSeed } = await import("./runner.ts");
const { shrink } = await import("./shrink.ts");
const { storyOf } = await import("./story.ts");
process.exitCode = (await (isOne ? one() : many())) ? 0 : 1;
process.disconnect?.();

interface Chosen {
  readonly size?: string | undefined;
  readonly through?: string | undefined;
  readonly partitions?: string | undefined;
}

/** Null: none is chosen. */
function kindOf({ size: named, through, partitions }: Chosen): string | null {
  if (through !== undefined && through !== KAFKA) throw new Error(`--through takes ${KAFKA}`);
  if (partitions !== undefined) return kindNamed(`${KAFKA}-${partitions}`);
  if (through !== undefined) return through;
  return named === undefined ? null : kindNamed(named);
}

function kindNamed(name: string): string {
  if (!isKind(name)) throw new Error(`--size takes ${KINDS.join(", ")}`);
  return name;
}

/** Whether everything holds. */
async function one(): Promise<boolean> {
  const plan: AnyPlan =
    values.case === undefined
      ? planNamed(Number(values.seed), size)
      : // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by this program
        (JSON.parse(readFileSync(values.case, "utf8")) as AnyPlan);
  const { failure, trace } = await runPlan(plan, values.trace);
  if (values.trace) process.stdout.write(`${trace.join("\n")}\n`);
  if (failure === null) process.stdout.write(`seed ${plan.seed}: everything holds\n`);
  else await tell(plan, failure);
  return failure === null;
}

async function many(): Promise<boolean> {
  const [from, step] = [Number(values.from), Number(values.step)];
  const failuresMax = Number(values["failures-max"]);
  const beganMs = performance.now();
  const endMs = values.minutes === undefined ? Infinity : beganMs + Number(values.minutes) * 60_000;
  const count = values.minutes === undefined ? Number(options.seeds) : Infinity;
  let failures = 0;
  let runs = 0;
  for (; runs < count && performance.now() < endMs && failures < failuresMax; runs++) {
    const seed = from + runs * step;
    const { failure } = await runSeed(seed, size);
    if (failure === null) continue;
    failures++;
    if (values.quick) process.stdout.write(`seed ${seed} fails: ${failure}\n`);
    else await tell(planNamed(seed, size), failure);
  }
  const { user, system } = process.cpuUsage();
  report({ failures, runs, seconds: (performance.now() - beganMs) / 1000, coreSeconds: (user + system) / 1e6 });
  return failures === 0;
}

async function tell(plan: AnyPlan, failure: string): Promise<void> {
  process.stdout.write(`seed ${plan.seed} fails: ${failure}\n`);
  const smallest = await shrink(plan, failure);
  process.stdout.write(`${await storyOf(smallest)}\nas a case:\n${JSON.stringify(smallest)}\n`);
}
