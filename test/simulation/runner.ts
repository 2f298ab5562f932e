/** Runs plans one after the other, in one process: what is expensive to make is made once. */
import { MemoryState } from "./memory-state.ts";
import { DocumentWorld } from "./documents/world.ts";
import { KafkaWorld } from "./kafka/world.ts";
import { type AnyPlan, isOfDocuments, isThroughKafka, planNamed } from "./plans.ts";
import { wholly } from "./tracing.ts";
import { type Result, World } from "./world.ts";

/** One for each daemon that has a state of its own. */
const shared: MemoryState[] = [];
let unhandled: unknown = null;

/** Errors that nobody catches end a process: here, the run. */
process.on("unhandledRejection", (error) => {
  unhandled ??= error;
});

export async function runPlan(plan: AnyPlan, isTraced = false): Promise<Result> {
  const states = isThroughKafka(plan) ? plan.shares + 1 : 1;
  while (shared.length < states) shared.push(new MemoryState());
  unhandled = null;
  // Most of what an error costs; each signal that is aborted makes one.
  const { stackTraceLimit } = Error;
  if (!isTraced) Error.stackTraceLimit = 0;
  let result: Result;
  try {
    result = await worldOf(plan, isTraced).run();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  // Where nobody caught a rejection, it is told when the microtasks are done.
  await new Promise((resolve) => setImmediate(resolve));
  const stray: unknown = unhandled;
  if (stray === null || result.failure !== null) return result;
  return { ...result, failure: `nobody caught ${wholly(stray)}` };
}

function worldOf(plan: AnyPlan, isTraced: boolean): { run(): Promise<Result> } {
  if (isOfDocuments(plan)) return new DocumentWorld(plan, isTraced);
  return isThroughKafka(plan) ? new KafkaWorld(plan, shared, isTraced) : new World(plan, shared[0]!, isTraced);
}

export async function runSeed(seed: number, kind: string, isTraced = false): Promise<Result> {
  return await runPlan(planNamed(seed, kind), isTraced);
}
