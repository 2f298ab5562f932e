import { setTimeout as delay } from "node:timers/promises";

const POLL_MS = 20;

/** Tries until an attempt succeeds. If the signal aborts first, throws its reason. */
export async function waitUntilReady(attempt: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch {
      // Not yet; the server's log has the reason.
      await delay(POLL_MS);
    }
  }
}
