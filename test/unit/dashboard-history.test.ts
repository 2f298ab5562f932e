import { expect, test } from "vitest";
import { joined } from "../../src/ops/dashboard/history.ts";
import type { HistoryPoint, SinkPoint } from "../../src/ops/dashboard/view.ts";

const sink = (name: string, given: Partial<SinkPoint>): SinkPoint => ({
  name,
  lagSeconds: 0,
  lagBytes: 0,
  rowsPerSecond: 0,
  latencySeconds: null,
  ...given,
});

test("a point of the day has lags at their worst, and means of what flowed; a moment without a figure counts for nothing", () => {
  const points: HistoryPoint[] = [
    {
      at: "2026-01-01T00:00:05Z",
      source: { lagSeconds: 3, lagBytes: null, retainedBytes: 10 },
      sinks: [sink("a", { lagSeconds: 9, rowsPerSecond: 10, latencySeconds: 0.2 }), sink("gone", {})],
    },
    {
      at: "2026-01-01T00:00:10Z",
      source: { lagSeconds: 1, lagBytes: null, retainedBytes: 30 },
      sinks: [sink("a", { lagSeconds: null, lagBytes: 7, rowsPerSecond: 20 })],
    },
  ];
  expect(joined(points)).toEqual({
    at: "2026-01-01T00:00:10Z",
    source: { lagSeconds: 3, lagBytes: null, retainedBytes: 30 },
    sinks: [{ name: "a", lagSeconds: 9, lagBytes: 7, rowsPerSecond: 15, latencySeconds: 0.2 }],
  });
});
