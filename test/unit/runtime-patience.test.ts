import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { Patience } from "../../src/runtime/snapshot/patience.ts";

type Step = readonly [waitedFor: string | null, ms: number];

/** For so long all repeat these steps; tells which sink goes on alone, and when. */
function alone(steps: readonly Step[], untilMs: number): string | null {
  let nowMs = 0;
  const patience = new Patience<string>({ ...systemClock, elapsed: () => nowMs });
  while (nowMs < untilMs) {
    for (const [sink, ms] of steps) {
      nowMs += ms;
      const passedMs = patience.passedMs();
      if (sink === null) continue;
      patience.waited(sink, passedMs);
      if (patience.isSpent(sink)) return `${sink} after ${nowMs} ms`;
    }
  }
  return null;
}

test("a sink that takes a second longer to begin is no slow one", () => {
  expect(
    alone(
      [
        ["a", 1_200],
        [null, 60_000],
      ],
      60_000,
    ),
  ).toBeNull();
});

test("sinks of about the same pace, each waited for by turns, go on together", () => {
  const turns: readonly Step[] = [
    ["a", 200],
    [null, 550],
    ["b", 250],
  ];
  expect(alone(turns, 120_000)).toBeNull();
});

test("a sink that is waited for half of the time goes on alone, soon", () => {
  const steps: readonly Step[] = [
    [null, 100],
    ["slow", 100],
  ];
  expect(alone(steps, 120_000)).toBe("slow after 4000 ms");
});
