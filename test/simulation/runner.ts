/** Runs plans one after the other, in one process: what is expensive to make is made once. */
import { MemoryState } from "./memory-state.ts";
import type { Plan } from "./happenings.ts";
import { planOf, type SizeName } from "./plan.ts";
import { wholly } from "./tracing.ts";
import { type Result, World } from "./world.ts";

let shared: MemoryState | null = null;
let unhandled: unknown = null;

/** Errors that nobody catches end a process: here, the run. */
process.on("unhandledRejection", (error) => {
  unhandled ??= error;
});

export async function runPlan(plan: Plan, isTraced = false): Promise<Result> {
  shared ??= new MemoryState();
  unhandled = null;
  // Most of what an error costs; each signal that is aborted makes one.
  const { stackTraceLimit } = Error;
  if (!isTraced) Error.stackTraceLimit = 0;
  let result: Result;
  try {
    result = await new World(plan, shared, isTraced).run();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  // Where nobody caught a rejection, it is told when the microtasks are done.
  await new Promise((resolve) => setImmediate(resolve));
  const stray: unknown = unhandled;
  if (stray === null || result.failure !== null) return result;
  return { ...result, failure: `nobody caught ${wholly(stray)}` };
}

export async function runSeed(seed: number, size: SizeName, isTraced = false): Promise<Result> {
  return await runPlan(planOf(seed, size), isTraced);
}
