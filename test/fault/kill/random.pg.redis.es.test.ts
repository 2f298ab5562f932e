/** The daemon is killed at random moments, under load, with every kind of sink: nothing lost, nothing twice. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { historyFaults, keepLog } from "../../support/compare/history.ts";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";
import { WORKLOAD_KEYS } from "../../support/load/workload.ts";

const CYCLE_COUNT = isLongForm() ? 100 : 3;
/** Some die while they start, the others at some moment after they began to stream. */
const DIES_STARTING = 0.3;
const START_MS_MAX = 2_500;
const STREAMING_MS_MAX = 1_500;
const CYCLE_MS_MAX = 15_000;

test(
  `killed ${CYCLE_COUNT} times at random, every sink equals the source`,
  { tags: "heavy", timeout: CYCLE_COUNT * CYCLE_MS_MAX + 800_000 },
  async () => {
    const random = new Random(testSeed());
    await using load = await Load.create(random.seed, 300);
    await using victim = await Victim.create(load, "random", [...CHOSEN_KINDS, "postgres-history"]);
    await keepLog(load.source);
    load.start(50);
    for (let cycle = 0; cycle < CYCLE_COUNT; cycle++) {
      const daemon = victim.run();
      if (random.chance(DIES_STARTING)) {
        await sleep(random.below(START_MS_MAX));
      } else {
        await daemon.streaming();
        await sleep(random.below(STREAMING_MS_MAX));
      }
      if (random.chance(0.3)) await victim.evict(random, 20);
      expect(daemon.exited ? daemon.said : "").toBe("");
      await victim.kill(daemon);
    }
    const last = victim.run();
    await last.streaming();
    await load.stop();
    const { faults, effectCount, lookCounts } = await victim.verdict(last);
    expect(faults).toEqual([]);
    expect(effectCount).toBeGreaterThan(CYCLE_COUNT * 8);
    const history = await historyFaults(load.source, victim.sinks.target!, "history", WORKLOAD_KEYS);
    expect(history.faults).toEqual([]);
    expect(history.changeCount).toBeGreaterThan(CYCLE_COUNT * 40);
    expect(Math.min(...Object.values(lookCounts))).toBeGreaterThan(CYCLE_COUNT);
  },
);
