import type { HistoryPoint } from "./dashboard/view.ts";

/** The slope is taken over this time, and not before so much of it has passed. */
const WINDOW_MS = 600_000;
const WINDOW_MS_MIN = 30_000;

interface Retained {
  readonly safeBytes: number | null;
  readonly safeSeconds: number | null;
}

/**
 * Seconds until the source may drop log that a sink still needs: what the source tells, and what the slope of the kept log
 * says. Null: no end is in sight.
 */
export function retentionSeconds({ safeBytes, safeSeconds }: Retained, points: readonly HistoryPoint[]): number | null {
  const slope = bytesPerSecond(points);
  const bySlope = safeBytes === null || slope === null || slope <= 0 ? null : Math.max(0, safeBytes) / slope;
  if (safeSeconds === null || bySlope === null) return safeSeconds ?? bySlope;
  return Math.min(safeSeconds, bySlope);
}

/** Growth of the log that the source keeps. Null: unknown. */
function bytesPerSecond(points: readonly HistoryPoint[]): number | null {
  const known = points.flatMap(({ at, source }) =>
    source.retainedBytes === null ? [] : [{ ms: Date.parse(at), bytes: source.retainedBytes }],
  );
  const last = known.at(-1);
  const first = last && known.find(({ ms }) => ms >= last.ms - WINDOW_MS);
  if (last === undefined || first === undefined || last.ms - first.ms < WINDOW_MS_MIN) return null;
  return ((last.bytes - first.bytes) * 1000) / (last.ms - first.ms);
}
