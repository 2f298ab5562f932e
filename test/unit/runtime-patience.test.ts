import { expect, test } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import { Patience } from "../../src/runtime/snapshot/first-copy.ts";

type Step = readonly [waitedFor: string | null, ms: number];

/** For so long `sinks` repeat these steps; tells which one goes on alone, and when. */
function alone(
  steps: readonly Step[],
  untilMs: number,
  sinks = ["fast", "a", "b"],
  isMuchSlower = false,
): string | null {
  let nowMs = 0;
  const patience = new Patience<string>({ ...systemClock, elapsed: () => nowMs });
  while (nowMs < untilMs) {
    for (const [sink, ms] of steps) {
      nowMs += ms;
      const passedMs = patience.passedMs();
      if (sink === null) continue;
      patience.waited(sink, passedMs);
      if (patience.isSpent(sink, sinks, isMuchSlower)) return `${sink} after ${nowMs} ms`;
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
  expect(alone(turns, 120_000, ["a", "b"])).toBeNull();
});

test("of sinks that wait for each other, one that a faster sink waits for goes on alone", () => {
  const turns: readonly Step[] = [
    ["a", 200],
    [null, 550],
    ["b", 250],
  ];
  expect(alone(turns, 120_000)).toBe("b after 8000 ms");
});

test.each([
  [1, "a after 4000 ms"],
  [4, "a after 10000 ms"],
  [6, null],
])("for each time that it waits for a sink, a faster one works %i times as long", (times, expected) => {
  const steps: readonly Step[] = [
    [null, 100 * times],
    ["a", 100],
  ];
  expect(alone(steps, 120_000)).toBe(expected);
});

test("one that is known to be much slower goes on alone soon, if others wait for it at all", () => {
  const steps = (ms: number): readonly Step[] => [
    [null, 500],
    ["a", ms],
  ];
  expect(alone(steps(50), 120_000, ["fast", "a"], true)).toBeNull();
  expect(alone(steps(250), 120_000, ["fast", "a"], true)).toBe("a after 750 ms");
});
