import { expect, test } from "vitest";
import type { HistoryPoint } from "../../src/ops/dashboard/view.ts";
import { retentionSeconds } from "../../src/ops/gauges.ts";
import { holdsReads } from "../../src/runtime/stream/kept-log.ts";

/** Points of every 5 s, of a log that grows by so many bytes a second. */
function growing(bytesPerSecond: number, seconds: number): HistoryPoint[] {
  return Array.from({ length: seconds / 5 + 1 }, (_, i) => ({
    at: new Date(Date.UTC(2026, 10, 20) + i * 5000).toISOString(),
    source: { lagSeconds: 0, lagBytes: 0, retainedBytes: 1000 + i * 5 * bytesPerSecond },
    sinks: [],
  }));
}

const BYTES = { safeBytes: 36_000, safeSeconds: null };

test.each([
  ["the bytes that are left by the slope", BYTES, growing(10, 600), 3600],
  ["of the last ten minutes alone", BYTES, [...growing(0, 600), ...growing(10, 600)].slice(-60), 3600],
  ["no slope before half a minute has passed", BYTES, growing(10, 20), null],
  ["no end while the log does not grow", BYTES, growing(0, 600), null],
  ["no end while the log shrinks", BYTES, growing(-1, 600), null],
  ["no end without a limit", { safeBytes: null, safeSeconds: null }, growing(10, 600), null],
  ["now, when nothing is left", { safeBytes: -5, safeSeconds: null }, growing(10, 600), 0],
  ["the time that the server tells", { safeBytes: null, safeSeconds: 90 }, [], 90],
  ["the shorter of both", { safeBytes: 36_000, safeSeconds: 90 }, growing(10, 600), 90],
])("%s", (_what, left, points, seconds) => {
  expect(retentionSeconds(left, points)).toBe(seconds);
});

test.each([
  ["pauseSource", 1000, false, true],
  ["pauseSource", 999, false, false],
  ["pauseSource", 900, true, true],
  ["pauseSource", 899, true, false],
  ["alarm", 5000, false, false],
  ["dropSink", 5000, true, false],
] as const)("%s at %i bytes of 1000, reads paused: %s, pauses them: %s", (policy, bytes, isOn, isHeld) => {
  expect(holdsReads({ byteCountMax: 1000, policy }, bytes, isOn)).toBe(isHeld);
});
