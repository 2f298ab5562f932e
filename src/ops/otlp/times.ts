import type { HrTime } from "@opentelemetry/api";

/** Seconds, and the nanoseconds of the last one. */
export function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
