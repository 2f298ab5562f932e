import { setTimeout as delay } from "node:timers/promises";

const POLL_MS = 20;

/** Tries until an attempt succeeds. When the signal aborts first, its reason is thrown. */
export async function waitUntilReady(attempt: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch {
      // Not yet; the reason of the last one is in the server's log.
      await delay(POLL_MS);
    }
  }
}
