/**
 * The source is a standby (Postgres 16 and newer), and the daemon is killed at every named failpoint; in the middle the standby is
 * promoted.
 * @module-tag heavy
 */
import { beforeEach, expect, test } from "vitest";
import { expectAllWell, killAtEach, RUNNING, START } from "../../support/faults/failpoints.ts";
import { StandbyScene } from "../../support/faults/standby-scene.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";
import { isLeastMode } from "../../support/postgres/least-mode.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { needsPostgres } from "../../support/run/services.ts";

const PAUSE_MS = 150;

beforeEach((context) => {
  needsPostgres(16, context);
  context.skip(isLeastMode, "a standby takes no roles");
});

test.for([
  ["with", true],
  ["without", false],
] as const)(
  "killed at the failpoints, promoted, and killed again, %s primaryUrl: every sink equals the source",
  async ([, hasPrimary]) => {
    const random = new Random(testSeed());
    await using scene = await StandbyScene.set({ seed: random.seed, kinds: CHOSEN_KINDS, hasPrimary });
    const { pair, load, victim } = scene;
    await load.addTurning();
    load.start(PAUSE_MS);
    {
      await using _ = hasPrimary ? null : pair.logRunning();
      await killAtEach({ ...START, ...RUNNING }, { load, victim, random });
    }
    const isPrimaryLost = random.chance(0.5);
    await killAtEach(RUNNING, { load, victim, random }, async (daemon) => {
      await Promise.race([daemon.streaming().catch(() => undefined), daemon.ended]);
      await (isPrimaryLost ? pair.losePrimary() : pair.leavePrimary());
      await pair.promote();
    });
    await expectAllWell(load, victim);
    expect((await load.source.query("select pg_is_in_recovery() as standby")).rows).toEqual([{ standby: false }]);
  },
);
