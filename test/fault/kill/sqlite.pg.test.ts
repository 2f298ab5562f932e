/** The daemon is killed at each failpoint of a SQLite file, under load: nothing is lost, nothing is there twice. */
import { expect, test } from "vitest";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { faultsAfter, killAt } from "../../support/faults/kills.ts";
import { Random, testSeed } from "../../support/run/random.ts";

const POINTS = ["sqlite.target-made", "sqlite.rows-written", "sqlite.committed"] as const;
const KILLED = { withinMs: 120_000, everyMs: 1_000 };

test("killed at the failpoints of a SQLite file, the replica equals the source", { tags: "heavy" }, async () => {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 300);
  await using victim = await Victim.create(load, "embedded", ["sqlite"]);
  load.start(40);
  for (const point of POINTS) {
    const entry = `${point}=kill@${1 + random.below(8)}`;
    const provoke = point === "sqlite.target-made" ? () => load.changeShape(random) : undefined;
    await killAt(victim, entry, { ...KILLED, provoke });
  }
  expect(await faultsAfter(load, victim)).toEqual([]);
});
