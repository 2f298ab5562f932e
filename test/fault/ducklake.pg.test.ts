/** The daemon is killed at each failpoint of a lake, under load: nothing is lost, nothing is there twice. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Load, Victim } from "../support/fault-load.ts";
import { Random, testSeed } from "../support/random.ts";
import { eventually } from "../support/waiting.ts";

const POINTS = ["duckdb.target-made", "duckdb.rows-written", "ducklake.committed", "ducklake.maintaining"] as const;
const PROVOKE_EVERY_MS = 1_000;
const KILLED_WITHIN_MS = 120_000;

test("killed at the failpoints of a lake, mirror and history equal the source", async () => {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 300);
  await using victim = await Victim.create(load, "lake", ["ducklake", "ducklake-history"]);
  load.start(40);
  for (const point of random.some(POINTS)) {
    const entry = `${point}=kill@${1 + random.below(8)}`;
    const daemon = victim.run({ MILLRACE_FAILPOINTS: entry });
    const deadline = performance.now() + KILLED_WITHIN_MS;
    while (!daemon.exited && performance.now() < deadline) {
      if (point === "duckdb.target-made") await load.changeShape(random);
      await Promise.race([daemon.ended, sleep(PROVOKE_EVERY_MS)]);
    }
    const { signal, stderr } = await daemon.ended;
    expect({ [entry]: signal }, stderr.slice(-2_000)).toEqual({ [entry]: "SIGKILL" });
  }
  const last = victim.run();
  await last.streaming();
  const before = load.workload.transactionCount;
  await eventually(() => load.workload.transactionCount >= before + 50, { withinMs: 60_000 });
  await load.stop();
  expect((await victim.verdict(last)).faults).toEqual([]);
});
