import type { Clock } from "../../core/clock.ts";
import type { Position } from "../../core/model/position.ts";
import type { News } from "../../core/waiting.ts";
import type { FanOut } from "./fan-out.ts";
import type { GoBack } from "./catch-up.ts";
import { lifeOf, type SinkLife } from "../sink/sink-life.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";

/** The pause between two looks is at least this long, and a sink holds nearly all for at least this long. */
const REST_MS = 100;
/** By then it also looks at what is announced by no event. */
const LOOK_MS = 60_000;
/** A sink that holds half of the budget for this long is detached. */
const HALF_MS_MAX = 10_000;
/** A sink that holds nearly all of it stops the others: it is detached soon. */
const NEARLY_ALL = 0.75;

/**
 * A sink that the others already wait for is known to be slow, and a large row takes its time in each sink: such a sink is
 * detached only if it makes no progress at all.
 */
const STALLED_MS_MAX = 60_000;

interface StalledSink {
  readonly sinceMs: number;
  readonly covered: Position | null;
}

interface DetachParts {
  readonly clock: Clock;
  /** Told when a sink has made progress. */
  readonly news: News;
  readonly fanOut: FanOut;
  readonly goBack: GoBack;
  readonly lives: readonly SinkLife[];
}

/**
 * Detaches the sinks that can't keep up, so that the others don't wait. A sink that is alone delays no other. It looks
 * when a sink becomes crowded, while one is also when any sink makes progress, and when a slow sink's time is up.
 */
export async function detachSlowSinks(parts: DetachParts, signal: AbortSignal): Promise<never> {
  const { clock, news, fanOut } = parts;
  const slow = new Map<SinkWorker, StalledSink>();
  for (;;) {
    const [begunMs, crowded, moved] = [clock.elapsed(), fanOut.crowding.count, news.count];
    const dueMs = look(parts, slow);
    const isAnyCrowded = [...fanOut.sinks].some((worker) => fanOut.isCrowded(worker));
    // The others become idle by their own progress, also while nothing more arrives.
    if (isAnyCrowded) await news.after(moved, clock, dueMs, signal);
    else await fanOut.crowding.after(crowded, clock, dueMs, signal);
    await clock.sleep(Math.max(0, begunMs + REST_MS - clock.elapsed()), signal);
  }
}

/** Returns after which time to look again even if nothing happens. */
function look({ clock, fanOut, goBack, lives }: DetachParts, slow: Map<SinkWorker, StalledSink>): number {
  let dueMs = LOOK_MS;
  const sinks = [...fanOut.sinks];
  for (const worker of sinks) {
    const heldBytes = fanOut.heldBytes(worker);
    const othersWait = sinks.some((other) => other !== worker && fanOut.heldBytes(other) < heldBytes / 4);
    if (!fanOut.isCrowded(worker) || !othersWait) {
      slow.delete(worker);
      continue;
    }
    const nowMs = clock.elapsed();
    const isWaited = goBack.isCatchingUp(worker) || fanOut.holdsLarge(worker);
    const before = slow.get(worker);
    const hasMoved = isWaited && before?.covered !== worker.position.covered;
    const held = before === undefined || hasMoved ? { sinceMs: nowMs, covered: worker.position.covered } : before;
    slow.set(worker, held);
    const limitMs = isWaited ? STALLED_MS_MAX : heldBytes < fanOut.byteBudget * NEARLY_ALL ? HALF_MS_MAX : REST_MS;
    const leftMs = held.sinceMs + limitMs - nowMs;
    if (leftMs > 0) {
      dueMs = Math.min(dueMs, leftMs);
      continue;
    }
    slow.delete(worker);
    lifeOf(lives, worker.name)?.detach();
  }
  return dueMs;
}
