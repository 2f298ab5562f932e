import { setTimeout as sleep } from "node:timers/promises";

/** The promise's value, or null when it takes longer. */
export async function within<T>(ms: number, promise: Promise<T>, signal: AbortSignal): Promise<T | null> {
  const ended = new AbortController();
  try {
    return await Promise.race([promise, sleep(ms, null, { signal: AbortSignal.any([signal, ended.signal]) })]);
  } finally {
    ended.abort();
  }
}
