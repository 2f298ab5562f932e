/** The runtime on virtual time: what no seed may bring about, and that one seed is one run. */
import { spawn } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { mutants, mutated } from "./mutants.ts";
import type { AnyPlan } from "./plans.ts";
import { runPlan, runSeed } from "./runner.ts";

/** From seed 1 on, and how many more in continuous integration. */
const FIXED = [
  { size: "full", count: 60, more: 340 },
  { size: "small", count: 2_000, more: 16_400 },
  { size: "dense", count: 150, more: 1_050 },
  { size: "kafka", count: 16, more: 104 },
  { size: "kafka-10", count: 1, more: 5 },
  { size: "documents", count: 8, more: 107 },
] as const;
const RANDOM_COUNT = 20_000;

/** Found within some seeds; the others by `npm run simulate -- --mutants`. */
const QUICK = [
  ["acknowledges-early", "small"],
  ["barrier-on-all-but-one", "kafka"],
  ["lists-after-commit", "documents"],
] as const;
const TRACED = [
  { size: "full", count: 20 },
  { size: "kafka", count: 6 },
] as const;

test.each(TRACED)("one seed of $size plans is one run, to the last byte of its trace", async ({ size, count }) => {
  let lineCount = 0;
  for (let seed = 1; seed <= count; seed++) {
    const first = await runSeed(seed, size, true);
    const again = await runSeed(seed, size, true);
    expect(again.trace).toEqual(first.trace);
    lineCount += first.trace.length;
  }
  expect(lineCount).toBeGreaterThan(10 * count);
});

test.each(FIXED)("the fixed seeds of $size plans hold", async ({ size, count }) => {
  expect(await simulate("--size", size, "--seeds", String(count))).toMatchObject({ code: 0 });
});

test.each(FIXED)("further fixed seeds of $size plans hold", { tags: "heavy" }, async ({ size, count, more }) => {
  const range = ["--from", String(count + 1), "--seeds", String(more)];
  expect(await simulate("--size", size, ...range)).toMatchObject({ code: 0 });
});

test.each([
  ["full", RANDOM_COUNT],
  ["kafka", RANDOM_COUNT / 10],
  ["kafka-100", 100],
  ["kafka-1000", 20],
])(
  "seeds of %s plans that nobody has tried hold, and are printed",
  { timeout: 1_200_000, tags: "long" },
  async (size, count) => {
    const from = 1_000_000 + Math.floor(Math.random() * 1_000_000_000);
    const range = ["--size", size, "--from", String(from), "--seeds", String(count)];
    process.stdout.write(`npm run simulate -- ${range.join(" ")}\n`);
    expect(await simulate(...range)).toMatchObject({ code: 0 });
  },
);

const cases = globSync("cases/*.json", { cwd: import.meta.dirname });

test.each(cases)("%s, which failed once, holds", async (file) => {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by the simulation
  const plan = JSON.parse(readFileSync(join(import.meta.dirname, file), "utf8")) as AnyPlan;
  expect(await runPlan(plan)).toMatchObject({ failure: null });
});

test("each planted fault fits the sources that it is of", () => {
  const found = mutants();
  expect(found.length).toBeGreaterThan(20);
  for (const mutant of found) {
    expect.soft(mutant.about).toMatch(/\.$/);
    for (const file of mutant.changes.keys()) expect.soft(() => mutated(mutant, file)).not.toThrow();
  }
});

test.each(QUICK)("the planted fault %s is found", async (name, size) => {
  const { code, said } = await simulate(
    "--mutant",
    name,
    "--size",
    size,
    "--seeds",
    "1000",
    "--failures-max",
    "1",
    "--quick",
  );
  expect({ code, said }).toMatchObject({ code: 1, said: expect.stringMatching(/^seed \d+ fails/) });
});

/** In a process of its own, by the program that people use. */
async function simulate(...options: readonly string[]): Promise<{ code: number | null; said: string }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "simulate.ts"), ...options]);
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (data: Buffer) => void (said += data.toString()));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, said };
}
