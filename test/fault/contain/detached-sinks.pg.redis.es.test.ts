/**
 * Whatever happens to sinks that are detached, and around them: every sink comes to hold what the source holds.
 *
 * @module-tag long
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { BULK_TABLE, DetachScene } from "../../support/faults/detach-scene.ts";
import { Random } from "../../support/run/random.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { SINK_KINDS, type SinkKind } from "../../support/daemon/sink-set.ts";
import { endReaders, giveSlotsBack, takeSlots, temporarySlots } from "../../support/faults/slots.ts";
import { eventually } from "../../support/run/waiting.ts";

const BATCH_COUNT = isLongForm() ? 250 : 8;
const BATCH_MS_MAX = 700;
const PROXIED: readonly SinkKind[] = ["postgres", "redis", "elasticsearch"];
/** More than the byte budget of all queues together. */
const LARGE_ROW_COUNT = 30_000;
const SMALL_ROW_COUNT = 800;

type Happening = (scene: DetachScene, random: Random) => Promise<unknown>;

const sinkCommand = async (scene: DetachScene, path: string, sink: string): Promise<unknown> =>
  await scene.victim.installation.ask("POST", path, { sink });

const leaves: Happening = (scene, random) => scene.leave(random.pick(PROXIED));
const returns: Happening = (scene, random) => scene.back(random.pick(PROXIED));

const HAPPENINGS: Readonly<Record<string, Happening>> = {
  leaves,
  "leaves too": leaves,
  returns,
  "returns too": returns,
  "all return": async (scene) => {
    for (const kind of PROXIED) await scene.back(kind);
  },
  slow: (scene, random) => scene.back(random.pick(PROXIED), 200_000 + random.below(3_000_000)),
  flaps: async (scene, random) => {
    const kind = random.pick(PROXIED);
    for (let i = 0; i < 3; i++) {
      await scene.leave(kind);
      await sleep(random.below(600));
      await scene.back(kind);
      await sleep(random.below(600));
    }
  },
  pause: (scene, random) => sinkCommand(scene, "/api/v1/pause", random.pick(SINK_KINDS)),
  resume: async (scene) => await scene.victim.installation.ask("POST", "/api/v1/resume", {}),
  "resume all": async (scene) => await scene.victim.installation.ask("POST", "/api/v1/resume", {}),
  snapshot: (scene, random) =>
    scene.victim.installation.ask("POST", "/api/v1/snapshots", {
      sinks: [random.pick(SINK_KINDS)],
      tables: ["public.line"],
    }),
  "first session ends": (scene) => endReaders(scene.source, "first"),
  "second sessions end": (scene) => endReaders(scene.source, "second"),
  "slots are taken": (scene) => takeSlots(scene.source),
  "slots are free": (scene) => giveSlotsBack(scene.source),
  killed: (scene) => scene.kill(),
  "killed while it catches up": async (scene) => {
    for (const kind of PROXIED) await scene.back(kind);
    const deadline = performance.now() + 2_000;
    while ((await temporarySlots(scene.source)).length === 0 && performance.now() < deadline) await sleep(5);
    await scene.kill();
  },
  restarted: (scene) => scene.restart(),
  "large transaction": (scene, random) => scene.bulk(random.chance(0.3) ? LARGE_ROW_COUNT : SMALL_ROW_COUNT),
  "large change": (scene) => scene.source.query(`update ${BULK_TABLE} set body = body || 'x' where id % 3 = 0`),
  truncate: (scene) => scene.source.query(`truncate ${BULK_TABLE}`),
  "new table": (scene, random) => scene.load.addTable(`added_${random.below(1_000_000)}`),
  "new column": (scene, random) =>
    scene.source.query(
      `alter table ${random.pick([BULK_TABLE, "line"])} add column c${random.below(1_000_000)} int default 7`,
    ),
};

test(
  `${BATCH_COUNT} things happen at random`,
  async () => {
    await using scene = await DetachScene.create(SINK_KINDS, { max_replication_slots: 5 });
    const random = new Random(scene.seed);
    const names = Object.keys(HAPPENINGS);
    const happened: string[] = [];
    try {
      for (let i = 0; i < BATCH_COUNT; i++) {
        const name = random.pick(names);
        happened.push(name);
        await HAPPENINGS[name]!(scene, random);
        expect(scene.daemon.exited ? scene.daemon.said : "").toBe("");
        await sleep(random.below(BATCH_MS_MAX));
      }
      for (const kind of PROXIED) await scene.back(kind);
      await giveSlotsBack(scene.source);
      await eventually(async () => (await scene.victim.installation.ask("POST", "/api/v1/resume", {})) !== undefined);
      await scene.expectEqual();
    } catch (error) {
      process.stdout.write(`what happened: ${happened.join(", ")}\n`);
      throw error;
    }
  },
  BATCH_COUNT * 6_000 + 240_000,
);
