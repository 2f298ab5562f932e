import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { deadline, systemClock } from "../../src/core/clock.ts";

const root = join(import.meta.dirname, "../..");

/** What asks the machine for time, timers or chance. */
const AMBIENT =
  /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(|\bset(Timeout|Interval|Immediate)\(|timers\/promises|AbortSignal\.timeout\(|Math\.random\(|\brandom(Bytes|UUID)\(|\bprocess\.(pid|hrtime)\b/;

/** Files that measure for metrics, say who they are, or wait for a server of their own. */
const ALLOWED: Readonly<Record<string, string>> = {
  "src/reconcile/schedule.ts": "the times of day at which comparisons are planned",
  "src/runtime/apply/measured-steps.ts": "a metric",
  "src/runtime/control.ts": "the process's number, for people",
  "src/state/sqlite/migrate.ts": "when a migration was applied, for people",
};

test("the runtime, the comparisons and the state take time and chance from a clock that they are given", () => {
  const files = globSync("src/{runtime,reconcile,state/sqlite}/**/*.ts", { cwd: root });
  files.push("src/state/patient.ts");
  expect(files.length).toBeGreaterThan(80);
  const found = files.filter((file) => AMBIENT.test(readFileSync(join(root, file), "utf8")));
  expect(found.toSorted()).toEqual(Object.keys(ALLOWED));
});

describe("a deadline", () => {
  test("is aborted when its time is up", async () => {
    using limit = deadline(systemClock, 5);
    await new Promise((resolve) => limit.signal.addEventListener("abort", resolve));
    expect(limit.signal.reason).toMatchObject({ name: "TimeoutError" });
  });

  test("is aborted with the signals that it is made of, and by nothing once it is disposed of", () => {
    const stopping = new AbortController();
    using limit = deadline(systemClock, 60_000, stopping.signal);
    const over = deadline(systemClock, 60_000, stopping.signal);
    over[Symbol.dispose]();
    stopping.abort();
    expect([limit.signal.aborted, over.signal.aborted]).toEqual([true, false]);
  });
});
