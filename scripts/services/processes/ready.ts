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

/** Rejects unless this page is there. */
export async function isThere(url: string | URL): Promise<void> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  await answer.body?.cancel();
  if (!answer.ok) throw new Error(`${answer.status} is no answer of a server that is ready`);
}
