/** The daemon is killed at every named failpoint, under load: it comes back by itself, nothing lost, nothing twice. */
import { globSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import {
  COPY_END,
  expectAllWell,
  type Failpoint,
  killAtEach,
  RUNNING,
  SEARCH,
  START,
} from "../../support/faults/failpoints.ts";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { CHOSEN_KINDS, type SinkKind } from "../../support/daemon/sink-set.ts";

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

const SEARCHED_KINDS = ["postgres", "elasticsearch"] as const;

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
