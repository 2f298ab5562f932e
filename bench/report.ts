import { inspect } from "node:util";
import Table from "cli-table3";

export interface BenchOptions {
  /** Scales the number of rows: 1 is the scale of the documented figures. */
  readonly scale: number;
  readonly runs: number;
  readonly log: (line: string) => void;
  /** Whether the part of the benchmark with this name runs. */
  readonly takes: (scene: string) => boolean;
}

/** One measured line: the work, the program that did it, and its figures. */
export interface Line {
  readonly work: string;
  readonly who: string;
  readonly figures: Readonly<Record<string, number>>;
}

export interface BenchReport {
  readonly name: string;
  readonly lines: readonly Line[];
  /** The guarantees: ratios of one figure of two lines of the same run. */
  readonly ratios: readonly Ratio[];
}

/** A benchmark that threw: its own measurements are lost, those of the others are not. */
export interface BenchFailure {
  readonly name: string;
  readonly failure: string;
}

export type Outcome = BenchReport | BenchFailure;

export interface Ratio {
  readonly what: string;
  readonly value: number;
  readonly target: number;
  /** Whether a larger ratio is better. */
  readonly atLeast: boolean;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Runs one benchmark; an error becomes its outcome. */
export async function outcomeOf(
  name: string,
  run: (options: BenchOptions) => Promise<BenchReport>,
  options: BenchOptions,
): Promise<Outcome> {
  try {
    return await run(options);
  } catch (error) {
    options.log(`${name} failed: ${inspect(error)}`);
    return { name, failure: error instanceof Error ? error.message : String(error) };
  }
}

export function render(outcome: Outcome): string {
  if ("failure" in outcome) return `${outcome.name}\nFAILED ${outcome.failure}`;
  const { name, lines, ratios } = outcome;
  const names = [...new Set(lines.flatMap((line) => Object.keys(line.figures)))];
  const table = new Table({ head: ["work", "who", ...names], style: { head: [], border: [] } });
  for (const { work, who, figures } of lines) {
    table.push([work, who, ...names.map((figure) => rounded(figures[figure]))]);
  }
  const verdicts = ratios.map(({ what, value, target, atLeast }) => {
    const met = atLeast ? value >= target : value <= target;
    return `${met ? "met   " : "MISSED"} ${what}: ${rounded(value)} (wanted ${atLeast ? "at least" : "at most"} ${target.toLocaleString("en")})`;
  });
  return [name, table.toString(), ...verdicts].join("\n");
}

export function rounded(value: number | undefined): string {
  if (value === undefined) return "";
  return value >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
}
