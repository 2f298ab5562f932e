/** Waiting for a condition with a deadline; tests never sleep for a time that somebody guessed. */
import { setTimeout as delay } from "node:timers/promises";

export interface WaitOptions {
  readonly withinMs?: number;
  readonly everyMs?: number;
}

/** The machines of continuous integration have other work too. */
const PATIENCE = process.env["CI"] === "true" ? 4 : 1;
const WITHIN_MS = 30_000;
/** Who asks more often keeps the processor from what it waits for. */
const EVERY_MS = 50;

/** How long to wait for what takes `ms` at most on a machine that does nothing else. What is promised is never measured by this. */
export function patient(ms: number): number {
  return ms * PATIENCE;
}

/**
 * Calls `attempt` until it neither throws nor returns false, and gives its result. At the deadline the last attempt's
 * own error is thrown, so a failed assertion inside shows what was expected and what was there.
 */
export async function eventually<T>(attempt: () => T | Promise<T>, options: WaitOptions = {}): Promise<T> {
  const { withinMs = WITHIN_MS, everyMs = EVERY_MS } = options;
  const deadline = performance.now() + patient(withinMs);
  for (;;) {
    let failure: unknown;
    try {
      const result = await attempt();
      if (result !== false) return result;
      failure = new Error("the condition is still false");
    } catch (error) {
      failure = error;
    }
    if (performance.now() >= deadline) throw lateError(failure, patient(withinMs));
    await delay(everyMs);
  }
}

/** The same error, so that the runner shows its difference and place, with the time it was given. */
function lateError(failure: unknown, withinMs: number): unknown {
  if (failure instanceof Error) failure.message = `not within ${withinMs} ms: ${failure.message}`;
  return failure;
}
