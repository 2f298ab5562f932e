import type { Clock } from "../../core/clock.ts";
import type { Position } from "../../core/model/position.ts";
import type { Lane } from "./lane.ts";
import type { SinkWorker } from "../apply/sink-worker.ts";

/** Bytes that all queues together may hold before the stream stops reading (the stream's own bound). */
export const BYTE_BUDGET = 24 * 1024 * 1024;
const INTERVAL_MS = 100;
/** A sink that holds half of the budget for this long is detached. */
const HALF_MS_MAX = 10_000;
/** A sink that holds nearly all of it stops the others: it is detached at once. */
const NEARLY_ALL = 0.75;

/** A sink that the others already wait for is known to be slow: it is detached only if it makes no progress at all. */
const STALLED_MS_MAX = 60_000;

interface Held {
  readonly sinceMs: number;
  readonly covered: Position | null;
}

/** Detaches the sinks that can't keep up, so that the others don't wait. A sink that is alone delays no other. */
export async function parkSlowSinks(
  { clock, lane }: { readonly clock: Clock; readonly lane: Lane },
  isWaitedFor: (worker: SinkWorker) => boolean,
  park: (worker: SinkWorker) => void,
  signal: AbortSignal,
): Promise<never> {
  const halfHeld = new Map<SinkWorker, Held>();
  for (;;) {
    await clock.sleep(INTERVAL_MS, signal);
    const sinks = [...lane.sinks];
    for (const worker of sinks) {
      const heldBytes = lane.heldBytes(worker);
      const othersWait = sinks.some((other) => other !== worker && lane.heldBytes(other) < heldBytes / 4);
      if (heldBytes < BYTE_BUDGET / 2 || !othersWait) {
        halfHeld.delete(worker);
        continue;
      }
      const nowMs = clock.elapsed();
      const held = halfHeld.get(worker) ?? { sinceMs: nowMs, covered: worker.covered };
      halfHeld.set(worker, held);
      const heldMs = nowMs - held.sinceMs;
      if (isWaitedFor(worker)) {
        if (worker.covered !== held.covered) halfHeld.delete(worker);
        else if (heldMs >= STALLED_MS_MAX) park(worker);
      } else if (heldBytes >= BYTE_BUDGET * NEARLY_ALL || heldMs >= HALF_MS_MAX) {
        halfHeld.delete(worker);
        park(worker);
      }
    }
  }
}
