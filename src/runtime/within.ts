import type { Clock } from "../core/clock.ts";

/** The promise's value, or null when it takes longer. */
export async function within<T>(clock: Clock, ms: number, promise: Promise<T>, signal: AbortSignal): Promise<T | null> {
  const ended = new AbortController();
  try {
    const late = clock.sleep(ms, signal, ended.signal).then(() => null);
    return await Promise.race([promise, late]);
  } finally {
    ended.abort();
  }
}
