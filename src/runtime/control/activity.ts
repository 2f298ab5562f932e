/** What the stream and the sinks do now, from what each part knows of itself. */
import type { SinkActivity, SinkStatus, SourceActivity, SourceStatus } from "../../core/contracts/status.ts";
import type { SinkLife } from "../sink/sink-life.ts";
import type { FanOut } from "../stream/fan-out.ts";

/** The log is read later than this only if the daemon, or the way to it, is slow. */
const SLOW_SECONDS = 10;

export interface Stream {
  readonly up: boolean;
  /** See `SourceFeed`. */
  readonly isSilent: boolean;
  /** Null while it starts. */
  readonly fanOut: FanOut | null;
  readonly lagSeconds: number | null;
}

export function sourceActivity({ up, isSilent, fanOut, lagSeconds }: Stream) {
  const blockedBy = up ? blockers(fanOut) : [];
  const activity = activityOf({ up, isSilent, fanOut, lagSeconds }, blockedBy.length > 0);
  return { activity, blockedBy } satisfies Pick<SourceStatus, "activity" | "blockedBy">;
}

function activityOf({ up, isSilent, fanOut, lagSeconds }: Stream, isBlocked: boolean): SourceActivity {
  if (isSilent) return "half-open";
  if (!up) return "away";
  if (isBlocked) return "blocked";
  if (lagSeconds !== null && lagSeconds > SLOW_SECONDS) return "slow";
  const isIdle = lagSeconds === 0 && [...(fanOut?.sinks ?? [])].every(({ idle }) => idle);
  return isIdle ? "idle" : "flowing";
}

/** The sinks for which the most waits, where the stream can't give them more. */
function blockers(fanOut: FanOut | null): readonly string[] {
  if (fanOut === null) return [];
  const sinks = [...fanOut.sinks];
  const crowded = sinks.filter((worker) => fanOut.isCrowded(worker));
  return (crowded.length === 0 && fanOut.isAtRest ? sinks : crowded).map(({ name }) => name);
}

export function sinkActivity(
  { state, worker }: Pick<SinkLife, "state" | "worker">,
  { catchingUp, waitsFor }: Pick<SinkStatus, "catchingUp" | "waitsFor">,
  fanOut: FanOut | null,
): SinkActivity {
  if (state !== "streaming" && state !== "retrying" && state !== "snapshot") return "stopped";
  if (worker.writer.watch.isWedged) return "wedged";
  if (state === "retrying") return "away";
  if (catchingUp || worker.writer.watch.isSlow || fanOut?.isCrowded(worker) === true) return "slow";
  if (waitsFor.length > 0) return "blocked";
  return worker.idle ? "idle" : "flowing";
}
