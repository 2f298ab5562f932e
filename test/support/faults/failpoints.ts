/** The named failpoints of a daemon, what makes it pass each under load, and a daemon that is killed at one after the other. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { CALL_ROWS_MAX } from "../../../connectors/redis/write/script-call.ts";
import type { Daemon } from "../daemon/daemon-process.ts";
import type { Random } from "../run/random.ts";
import { eventually } from "../run/waiting.ts";
import type { Load, Victim } from "./fault-load.ts";

/** What makes a running daemon pass there; null: its start or any load does. */
type Provoke = ((place: Place) => Promise<unknown>) | null;

export interface Place {
  readonly load: Load;
  readonly victim: Victim;
  readonly random: Random;
  readonly round: number;
}

export interface Failpoint {
  /** Killed at a random passage up to this one. */
  readonly countMax: number;
  readonly provoke: Provoke;
}

const readAgain: Provoke = ({ load, victim, random }) =>
  victim.installation.ask("POST", "/api/v1/snapshots", { tables: [`public.${random.pick(load.tables)}`] });

/** So slowly that it takes several chunks; asked for again it would begin again. */
const readSlowly: Provoke = ({ victim, random, round }) =>
  round % 20 === 0
    ? victim.installation.ask("POST", "/api/v1/snapshots", {
        tables: [`public.${random.pick(["account", "line"])}`],
        where: "pg_sleep(0.01) is not null",
      })
    : sleep(0);

/** Many rows whose long values the log does not carry. */
const changeManyRows: Provoke = ({ load }) => load.burst();

const writeByMoreThanOneCall: Provoke = ({ load }) => load.flood(CALL_ROWS_MAX + 500);

const loseRows: Provoke = async (place) => {
  await place.victim.evict(place.random, 50);
  await changeManyRows?.(place);
};

const addTable: Provoke = ({ load, round }) =>
  round % 4 === 0 ? load.addTable(`added_${load.tables.length}`) : sleep(0);

const changeShape: Provoke = ({ load, random }) => load.changeShape(random);

/** So seldom that what it asks to be read again is complete in between; a sink is given that when it has caught up. */
const changeType: Provoke = async ({ load, victim, round }) => {
  if (round % 40 !== 0) return;
  const { sinks } = await victim.installation.status();
  if (sinks.every(({ catchingUp }) => !catchingUp)) await load.changeType();
};

/** A sink that was paused for a moment catches up by a stream of its own; one that a killed daemon left paused does too. */
const fallBehind: Provoke = async ({ victim, random, round }) => {
  if (round % 3 !== 0) return;
  await victim.installation.ask("POST", "/api/v1/pause", { sink: random.pick(victim.sinks.kinds) });
  await sleep(random.below(300));
  await victim.installation.ask("POST", "/api/v1/resume", {});
};

/** Only a first start passes these; in this order they leave a first copy to be killed in. */
export const START: Readonly<Record<string, Failpoint>> = {
  "source.announced": { countMax: 1, provoke: null },
  "source.created": { countMax: 1, provoke: null },
  "copy.block-queued": { countMax: 4, provoke: null },
};

export const COPY_END: Readonly<Record<string, Failpoint>> = {
  "copy.table-complete": { countMax: 4, provoke: null },
};

export const RUNNING: Readonly<Record<string, Failpoint>> = {
  "fan-out.dispatched": { countMax: 50, provoke: null },
  "sink.prepared": { countMax: 10, provoke: changeShape },
  "sink.applied": { countMax: 60, provoke: null },
  "ack.computed": { countMax: 3, provoke: null },
  "ack.stored": { countMax: 3, provoke: null },
  "snapshot.chunk-read": { countMax: 2, provoke: readAgain },
  "snapshot.chunk-durable": { countMax: 2, provoke: readAgain },
  "snapshot.stored": { countMax: 2, provoke: readSlowly },
  "snapshot.swept": { countMax: 2, provoke: readAgain },
  "snapshot.keys-durable": { countMax: 2, provoke: loseRows },
  "catch-up.opened": { countMax: 2, provoke: fallBehind },
  "catch-up.collecting": { countMax: 2, provoke: fallBehind },
  "catch-up.handed-over": { countMax: 2, provoke: fallBehind },
  "duckdb.target-made": { countMax: 8, provoke: changeShape },
  "duckdb.rows-written": { countMax: 20, provoke: null },
  "duckdb.committed": { countMax: 20, provoke: null },
  "postgres-sink.table-made": { countMax: 8, provoke: addTable },
  "postgres-sink.before-send": { countMax: 2, provoke: changeManyRows },
  "postgres-sink.sent": { countMax: 2, provoke: changeManyRows },
  "postgres-sink.answered": { countMax: 2, provoke: changeManyRows },
  "postgres-sink.before-commit": { countMax: 2, provoke: changeManyRows },
  "redis.rows-written": { countMax: 2, provoke: writeByMoreThanOneCall },
};

/** Of the search engine, which takes as long for a batch as the others together. */
export const SEARCH: Readonly<Record<string, Failpoint>> = {
  "elasticsearch.index-made": { countMax: 1, provoke: changeType },
  "elasticsearch.alias-moved": { countMax: 1, provoke: changeType },
  "elasticsearch.rows-written": { countMax: 10, provoke: null },
};

const PROVOKE_EVERY_MS = 500;
const KILLED_WITHIN_MS = 240_000;
const LAG_SECONDS_MAX = 5;
const UNREAD_MAX = 100;

/** `meanwhile`: done while the first of these daemons runs. */
export async function killAtEach(
  points: Readonly<Record<string, Failpoint>>,
  place: Omit<Place, "round">,
  meanwhile?: (daemon: Daemon) => Promise<void>,
): Promise<void> {
  const { victim, random } = place;
  for (const [i, [name, { countMax, provoke }]] of random.some(Object.entries(points)).entries()) {
    const entry = `${name}=kill@${1 + random.below(countMax)}`;
    const daemon = victim.run({ MILLRACE_FAILPOINTS: entry });
    if (i === 0) await meanwhile?.(daemon);
    const deadline = performance.now() + KILLED_WITHIN_MS;
    let round = 0;
    while (!daemon.exited && performance.now() < deadline) {
      // What a daemon that was just killed does not answer is asked of the next one.
      if (provoke !== null && (await keepsUp(victim)))
        await provoke({ ...place, round: round++ }).catch(() => undefined);
      await Promise.race([daemon.ended, sleep(PROVOKE_EVERY_MS)]);
    }
    const standing = daemon.exited ? null : await victim.installation.status();
    expect({ [entry]: daemon.exited }, JSON.stringify(standing)).toEqual({ [entry]: true });
    const { signal, stderr } = await daemon.ended;
    expect({ [entry]: signal }, stderr.slice(-2_000)).toEqual({ [entry]: "SIGKILL" });
    await victim.lookAtFile();
    // A sink that was left paused would never come to what is next on the list.
    if (provoke === fallBehind) {
      expect(await victim.installation.command("resume")).toMatchObject({ exitCode: 0 });
    }
  }
}

/** On a slow machine a daemon that is given more before it has done the last would be ever later at what is asked for. */
async function keepsUp({ installation }: Victim): Promise<boolean> {
  const status = await installation.status().catch(() => undefined);
  if (status === undefined) return false;
  const running = status.sinks.filter(({ state }) => state !== "paused");
  return (
    status.unfinishedSnapshots <= UNREAD_MAX && running.every(({ lagSeconds }) => (lagSeconds ?? 0) <= LAG_SECONDS_MAX)
  );
}

export async function expectAllWell(load: Load, victim: Victim): Promise<void> {
  const last = victim.run();
  await eventually(async () => (await victim.installation.ask("POST", "/api/v1/resume", {})) !== undefined);
  await last.streaming();
  await load.workload.written(30);
  await load.stop();
  const { faults, effectCount } = await victim.verdict(last);
  expect(faults).toEqual([]);
  // Kills at few failpoints are soon over.
  expect(effectCount).toBeGreaterThan(10);
}
