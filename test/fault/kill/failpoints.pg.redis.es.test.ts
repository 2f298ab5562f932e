/** The daemon is killed at every named failpoint, under load: it comes back by itself, nothing lost, nothing twice. */
import { globSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { CALL_ROWS_MAX } from "../../../connectors/redis/write/script-call.ts";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { CHOSEN_KINDS, type SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

/** What makes a running daemon pass there; null: its start or any load does. */
type Provoke = ((place: Place) => Promise<unknown>) | null;

interface Place {
  readonly load: Load;
  readonly victim: Victim;
  readonly random: Random;
  readonly round: number;
}

interface Failpoint {
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
const START: Readonly<Record<string, Failpoint>> = {
  "source.announced": { countMax: 1, provoke: null },
  "source.created": { countMax: 1, provoke: null },
  "copy.block-queued": { countMax: 4, provoke: null },
};

const COPY_END: Readonly<Record<string, Failpoint>> = {
  "copy.table-complete": { countMax: 4, provoke: null },
};

const RUNNING: Readonly<Record<string, Failpoint>> = {
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

const SEARCHED_KINDS = ["postgres", "elasticsearch"] as const;
/** Of the search engine, which takes as long for a batch as the others together. */
const SEARCH: Readonly<Record<string, Failpoint>> = {
  "elasticsearch.index-made": { countMax: 1, provoke: changeType },
  "elasticsearch.alias-moved": { countMax: 1, provoke: changeType },
  "elasticsearch.rows-written": { countMax: 10, provoke: null },
};

/**
 * In clickhouse, documents, ducklake, files, shapes, sqlite, upkeep and raw-copy beside this file, in kafka/topics, contain/no-second-slot,
 * one-writer/taken-over, e2e/schema/changes-without-read, e2e/snapshot/adopted-targets and e2e/operate/commands, and in the tests of `offsets` and `recover`.
 */
const ELSEWHERE = [
  "clickhouse.target-made",
  "clickhouse.target-rebuilt",
  "clickhouse.rows-written",
  "clickhouse.committed",
  "duckdb.engine-committing",
  "duckdb.engine-copying",
  "ducklake.committed",
  "ducklake.maintaining",
  "files.before-entry",
  "files.before-manifest",
  "files.entry-written",
  "files.fenced",
  "files.file-written",
  "files.manifest-written",
  "files.publication-done",
  "files.publication-stored",
  "kafka.fenced",
  "kafka.part-sent",
  "kafka.before-transaction",
  "kafka.after-transaction",
  "go-back.moved",
  "schema.registered",
  "sink.given-up",
  "sink.voided",
  "sink.taken",
  "sink.adoption-listed",
  "sink.carried",
  "reset.listed",
  "reset.expelled",
  "reset.noted",
  "reset.settled",
  "publication.leaving",
  "publication.left",
  "start.gap-listed",
  "recover.created",
  "recover.listed",
  "shares.moved",
  "postgres-sink.part-written",
  "postgres-sink.part-committed",
  "postgres-sink.key-made",
  "sink.table-suspended",
  "duckdb.rows-copied",
  "duckdb.took-place",
  "duckdb.rewritten",
  "sqlite.target-made",
  "sqlite.rows-written",
  "sqlite.committed",
  "nest.settled",
  "nest.lists-begun",
  "nest.climbed",
  "nest.marked",
  "nest.trimmed",
  "nest.read",
];

const PROVOKE_EVERY_MS = 500;
const KILLED_WITHIN_MS = 240_000;
const LAG_SECONDS_MAX = 5;
const UNREAD_MAX = 100;

test("every failpoint of the sources is on the list, and no other", () => {
  const root = new URL("../../../", import.meta.url).pathname;
  const found = new Set<string>();
  for (const file of globSync("{src,connectors}/**/*.ts", { cwd: root })) {
    for (const [, name] of readFileSync(root + file, "utf8").matchAll(/\bfailpoint\("([^"]+)"[,)]/g)) found.add(name!);
  }
  expect([...found].toSorted()).toEqual(
    [...Object.keys({ ...START, ...COPY_END, ...RUNNING, ...SEARCH }), ...ELSEWHERE].toSorted(),
  );
});

test(
  "killed in a first copy that has tables complete, the rest is read beside the stream",
  { tags: "heavy" },
  async () => {
    const random = new Random(testSeed());
    await using load = await Load.create(random.seed, 500);
    await using victim = await Victim.create(load, "copied", ["duckdb", "postgres"]);
    load.start(60);
    await killAtEach(COPY_END, { load, victim, random });
    await expectAllWell(load, victim);
  },
);

async function equalAfterKills(kinds: readonly SinkKind[], points: Readonly<Record<string, Failpoint>>): Promise<void> {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 300);
  await load.addTurning();
  await using victim = await Victim.create(load, "points", kinds);
  // The indices that are meant are those of changes.
  if (points === SEARCH) await copyFirst(victim);
  // Not more than a search engine can catch up with between two kills.
  load.start(150);
  await killAtEach(points, { load, victim, random });
  await expectAllWell(load, victim);
}

test("killed at the failpoints, every sink equals the source", async () => {
  await equalAfterKills(CHOSEN_KINDS, { ...START, ...RUNNING });
});

test("killed at the failpoints of the search engine, every sink equals the source", { tags: "heavy" }, async () => {
  await equalAfterKills(SEARCHED_KINDS, SEARCH);
});

async function copyFirst(victim: Victim): Promise<void> {
  const daemon = victim.run();
  await daemon.streaming();
  await victim.kill(daemon);
}

async function killAtEach(points: Readonly<Record<string, Failpoint>>, place: Omit<Place, "round">): Promise<void> {
  const { victim, random } = place;
  for (const [name, { countMax, provoke }] of random.some(Object.entries(points))) {
    const entry = `${name}=kill@${1 + random.below(countMax)}`;
    const daemon = victim.run({ MILLRACE_FAILPOINTS: entry });
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

async function expectAllWell(load: Load, victim: Victim): Promise<void> {
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
