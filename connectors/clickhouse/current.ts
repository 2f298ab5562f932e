import { setTimeout as sleep } from "node:timers/promises";

/** How long what this process has written may be missing in answers. */
const STALE_MS_MAX = 5_000;
/** How long an answer is doubted that something which was there is gone, or is another's. */
export const DOUBT_MS_MAX = 1_000;
const PAUSE_MS = 50;
const PAUSE_MS_MAX = 1_000;

/**
 * Reads until an answer is as new as what was written: a replica may answer that has not received it. If none comes in time:
 * what is there.
 */
export async function current<T>(
  read: () => Promise<T>,
  isCurrent: (answer: T) => boolean,
  signal: AbortSignal,
  waitMs = STALE_MS_MAX,
): Promise<T> {
  const endMs = performance.now() + waitMs;
  for (let pauseMs = PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
    const answer = await read();
    if (isCurrent(answer) || performance.now() >= endMs) return answer;
    await sleep(pauseMs, undefined, { signal });
  }
}
