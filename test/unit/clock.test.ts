import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { deadline, scopeOf, systemClock } from "../../src/core/clock.ts";

const root = join(import.meta.dirname, "../..");

/** What asks the machine for time, timers or chance. */
const AMBIENT =
  /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(|\bset(Timeout|Interval|Immediate)\(|timers\/promises|AbortSignal\.timeout\(|Math\.random\(|\brandom(Bytes|UUID)\(|\bprocess\.(pid|hrtime)\b/;

/** Files that measure for metrics, say who they are, or wait for a server of their own. */
const ALLOWED: Readonly<Record<string, string>> = {
  "src/runtime/control/status.ts": "the process's number, for people",
  "src/state/sqlite/migrate.ts": "when a migration was applied, for people",
};

test("the runtime, the comparisons and the state take time and chance from a clock that they are given", () => {
  const files = globSync("src/{runtime,reconcile,state/sqlite}/**/*.ts", { cwd: root });
  files.push("src/state/patient.ts");
  expect(files.length).toBeGreaterThan(80);
  const found = files.filter((file) => AMBIENT.test(readFileSync(join(root, file), "utf8")));
  expect(found.toSorted()).toEqual(Object.keys(ALLOWED));
});

test("what takes longer than a timer of Node's can wait is not over at once", async () => {
  const day = 24 * 3_600_000;
  const stopping = new AbortController();
  let isOver = false;
  const takeBack = systemClock.after(30 * day, () => (isOver = true));
  const sleeping = systemClock.sleep(30 * day, stopping.signal).then(
    () => "over",
    () => "aborted",
  );
  await systemClock.sleep(20);
  expect(isOver).toBe(false);
  takeBack();
  stopping.abort();
  expect(await sleeping).toBe("aborted");
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
    expect(limit.signal.aborted).toBe(true);
    expect(over.signal.aborted).toBe(false);
  });
});

describe("a scope", () => {
  test("ends with what is around it, for the same reason, or when its owner says so", () => {
    const around = new AbortController();
    const [first, second] = [scopeOf(around.signal), scopeOf(around.signal)];
    second.end();
    expect([first.signal.aborted, around.signal.aborted]).toEqual([false, false]);
    expect(second.signal.reason).toMatchObject({ name: "AbortError" });
    const reason = new Error("stopped");
    around.abort(reason);
    expect(first.signal.reason).toBe(reason);
    expect(scopeOf(around.signal).signal.reason).toBe(reason);
  });
});
