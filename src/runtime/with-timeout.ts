import { type Clock, scopeOf } from "../core/clock.ts";

/** The promise's value, or null if it takes longer. */
export async function withTimeout<T>(
  clock: Clock,
  ms: number,
  promise: Promise<T>,
  signal: AbortSignal,
): Promise<T | null> {
  const waiting = scopeOf(signal);
  try {
    const late = clock.sleep(ms, waiting.signal).then(() => null);
    return await Promise.race([promise, late]);
  } finally {
    waiting.end();
  }
}
