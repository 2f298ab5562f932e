/** The same program in several processes: each takes its share of the seeds, or looks for planted faults of its own. */
import { fork } from "node:child_process";
import { join } from "node:path";
import { type Mutant, mutants } from "./mutants.ts";
import { DOCUMENTS, KAFKA } from "./plans.ts";

export interface Tally {
  readonly failures: number;
  readonly runs: number;
  readonly seconds: number;
  readonly coreSeconds: number;
}

/** As the command line has them. */
export interface JobOptions {
  readonly seeds: string;
  readonly from: string;
  readonly minutes?: string | undefined;
  readonly jobs: string;
  readonly size: string;
  readonly quick: boolean;
  readonly mutant?: string | undefined;
  readonly "failures-max": string;
}

/** To whoever started this process, or else to people. */
export function report(tally: Tally): void {
  if (process.send !== undefined) process.send(tally);
  else process.stdout.write(`${told(tally)}\n`);
}

/** Whether everything holds. */
export async function inProcesses(options: JobOptions): Promise<boolean> {
  const jobs = Number(options.jobs);
  const [seeds, from] = [Number(options.seeds), Number(options.from)];
  const tallies = await Promise.all(
    Array.from({ length: Math.min(jobs, seeds) }, async (_, i) => {
      const share = Math.ceil((seeds - i) / jobs);
      return await run(options, { from: from + i, step: jobs, seeds: share }, process.stdout);
    }),
  );
  const known = tallies.filter((tally) => tally !== null);
  const sum = (of: (tally: Tally) => number): number => known.reduce((total, tally) => total + of(tally), 0);
  if (known.length < tallies.length) process.stdout.write("a process ended without a word of how many seeds it ran\n");
  const failures = sum((tally) => tally.failures);
  const seconds = Math.max(...known.map((tally) => tally.seconds));
  report({ failures, runs: sum(({ runs }) => runs), seconds, coreSeconds: sum(({ coreSeconds }) => coreSeconds) });
  return failures === 0 && known.length === tallies.length;
}

/**
 * Each in plans of the size that found it, then of the others. False where one was not found. A seed that fails without the planted
 * fault too has found nothing.
 */
export async function findMutants(options: JobOptions, sizes: readonly string[]): Promise<boolean> {
  const all = mutants().filter((mutant) => fitting(mutant, sizes).length > 0);
  const waiting = [...all];
  let missed = 0;
  const hunt = async (): Promise<void> => {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const { found, text } = await find(mutant, options, fitting(mutant, sizes));
      if (!found) missed++;
      process.stdout.write(text);
    }
  };
  await Promise.all(Array.from({ length: Number(options.jobs) }, hunt));
  process.stdout.write(`${all.length} planted faults, ${missed} not found\n`);
  return missed === 0;
}

/** What only Kafka has, or was found with it, or documents have, is looked for only there; else the size that found it comes first. */
function fitting({ changes, foundIn }: Mutant, sizes: readonly string[]): readonly string[] {
  const areIn = (...folders: readonly string[]): boolean =>
    [...changes.keys()].every((file) => folders.some((folder) => file.startsWith(`connectors/${folder}/`)));
  if (areIn("nest", "sqlite")) return sizes.filter((size) => size === DOCUMENTS);
  const isOfKafka = areIn("kafka") || foundIn?.startsWith(KAFKA) === true;
  return sizes
    .filter((size) => size !== DOCUMENTS && size.startsWith(KAFKA) === isOfKafka)
    .toSorted((a, b) => Number(b === foundIn) - Number(a === foundIn));
}

async function find(
  { name, about }: Mutant,
  options: JobOptions,
  sizes: readonly string[],
): Promise<{ found: boolean; text: string }> {
  const { seeds, from } = options;
  let where = `NOT FOUND within ${seeds} seeds`;
  for (const size of sizes) {
    const beganMs = performance.now();
    let said = "";
    const sink = { write: (text: string) => void (said += text) };
    await run({ ...options, size, mutant: name, quick: true, "failures-max": "1" }, { from, step: 1, seeds }, sink);
    const match = /^seed (\d+) fails: (.*)$/m.exec(said);
    const seconds = ((performance.now() - beganMs) / 1000).toFixed(1);
    if (match !== null) {
      const [, seed, failure] = match;
      const without = await run(
        { ...options, minutes: undefined, size, quick: true },
        { from: seed!, step: 1, seeds: 1 },
        { write: () => undefined },
      );
      const found = without?.failures === 0;
      const how = found ? `${size} seed ${seed}, ${seconds} s` : `NOT FOUND: ${size} seed ${seed} fails without it too`;
      return { found, text: `${name}: ${how}\n  ${about}\n  ${failure}\n` };
    }
    where += `, of ${size} plans in ${seconds} s`;
  }
  return { found: false, text: `${name}: ${where}\n  ${about}\n` };
}

/** Null: it ended without a word. */
async function run(
  { minutes, size, quick, mutant, "failures-max": failuresMax }: JobOptions,
  share: Readonly<Record<"from" | "step" | "seeds", number | string>>,
  out: { write: (text: string) => void },
): Promise<Tally | null> {
  const shared = Object.entries(share).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const options = [
    ...shared,
    "--jobs",
    "1",
    "--failures-max",
    failuresMax,
    "--size",
    size,
    ...(minutes === undefined ? [] : ["--minutes", minutes]),
    ...(quick ? ["--quick"] : []),
    ...(mutant === undefined ? [] : ["--mutant", mutant]),
  ];
  const child = fork(join(import.meta.dirname, "simulate.ts"), options, {
    stdio: ["ignore", "pipe", "inherit", "ipc"],
    // What a run allocates is garbage when it ends: few young objects outlive a collection of a dozen runs, and 16 MB fit into
    // the processor's cache. Each core has a process of its own, so helper threads gain nothing.
    execArgv: [
      ...process.execArgv,
      "--min-semi-space-size=16",
      "--max-semi-space-size=16",
      "--single-threaded-gc",
      "--always-sparkplug",
    ],
  });
  let said = "";
  let tally: Tally | null = null;
  child.stdout!.on("data", (data: Buffer) => void (said += data.toString()));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- sent by `report`
  child.on("message", (message) => void (tally = message as Tally));
  await new Promise((resolve) => child.on("close", resolve));
  out.write(said);
  return tally;
}

function told({ failures, runs, seconds, coreSeconds }: Tally): string {
  const rate = `${Math.round(runs / seconds)} a second, ${Math.round(runs / coreSeconds)} a second of one core`;
  return `${runs} seeds: ${failures} failed; ${seconds.toFixed(1)} s (${rate})`;
}
