/**
 * Daemons and servers are killed under load: ClickHouse equals the source afterwards, in every form.
 * @module-tag heavy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { faultsAfter, killAt } from "../../support/faults/kills.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { COLUMN_KINDS } from "../../support/daemon/sink-set.ts";

interface Failpoint {
  /** Killed at a random passage up to this one. */
  readonly countMax: number;
  /** What makes a running daemon pass there. Default: any load does. */
  readonly provoke?: "read" | "shape" | "type" | "table";
}

/** The first one is only on a first start. */
const OWN: Readonly<Record<string, Failpoint>> = {
  "copy.block-queued": { countMax: 4 },
  "clickhouse.target-made": { countMax: 1, provoke: "table" },
  "clickhouse.rows-written": { countMax: 10 },
  "clickhouse.committed": { countMax: 10 },
  "clickhouse.target-rebuilt": { countMax: 1, provoke: "type" },
};
const OF_ALL_SINKS: Readonly<Record<string, Failpoint>> = {
  "fan-out.dispatched": { countMax: 50 },
  "sink.prepared": { countMax: 5, provoke: "shape" },
  "sink.applied": { countMax: 20 },
  "ack.computed": { countMax: 3 },
  "ack.stored": { countMax: 3 },
  "snapshot.chunk-read": { countMax: 2, provoke: "read" },
  "snapshot.chunk-durable": { countMax: 2, provoke: "read" },
  "snapshot.swept": { countMax: 2, provoke: "read" },
};
const KILLED = { withinMs: 90_000, everyMs: 1_000 };

test("killed at its failpoints, it goes on where it was, and every form equals the source", async () => {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 300);
  await load.addTurning();
  await using victim = await Victim.create(
    load,
    "columns",
    isLongForm() ? COLUMN_KINDS : ["clickhouse", "clickhouse-history"],
  );
  load.start(150);
  const points = isLongForm() ? { ...OWN, ...OF_ALL_SINKS } : OWN;
  for (const [name, { countMax, provoke }] of random.some(Object.entries(points))) {
    const entry = `${name}=kill@${1 + random.below(countMax)}`;
    await killAt(victim, entry, {
      ...KILLED,
      // What a daemon that was just killed does not answer is asked of the next one.
      provoke: provoke && ((round) => provoked(provoke, round).catch(() => undefined)),
    });
  }
  expect(await faultsAfter(load, victim)).toEqual([]);

  async function provoked(what: NonNullable<Failpoint["provoke"]>, round: number): Promise<unknown> {
    if (what === "shape") return await load.changeShape(random);
    if (what === "table") return await load.addTable(`added_${load.tables.length}`);
    if (what === "type") return round % 20 === 0 ? await load.changeType() : undefined;
    const tables = [`public.${random.pick(load.tables)}`];
    return await victim.installation.ask("POST", "/api/v1/snapshots", { tables });
  }
});

test("answers that are lost, and connections that are cut, leave every form equal", { tags: "long" }, async () => {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 200);
  await using victim = await Victim.create(load, "cut", COLUMN_KINDS, true);
  load.start(100);
  const daemon = victim.run();
  await daemon.streaming();
  for (let round = 0; round < 12; round++) {
    await sleep(200 + random.below(400));
    for (const proxy of victim.sinks.proxies.values()) proxy.cut();
  }
  await load.stop();
  expect((await victim.verdict(daemon)).faults).toEqual([]);
});
