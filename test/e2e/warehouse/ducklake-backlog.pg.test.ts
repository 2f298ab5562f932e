/**
 * A backlog that lakes find hard, written while the daemon is down: with truncates, moved keys, unchanged long values and
 * changes of shape, beside maintenance.
 * @module-tag heavy
 */
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { expect, test } from "vitest";
import { reconcile, driftOf } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { PREPARE_BACKLOG, writeBacklog } from "../../support/load/hostile-backlog.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { freshDatabase } from "../../support/run/services.ts";

const TRANSACTIONS = Number(process.env["MILLRACE_TEST_TRANSACTIONS"] ?? (isLongForm() ? 8_000 : 600));
const SNAPSHOTS = "select snapshot_id as id, changes_made as changes from ducklake_snapshot_changes";
/** A commit for its mark alone, beside that which moves the rows, counts as one too many. */
const BY_MAINTENANCE = /merge_adjacent|rewrite_delete|inline_flush/;
/** For each change of a shape: the rows before it, the checkpoint without the table, the table's new shape, and the checkpoint with the table. */
const COMMITS_PER_ALTERATION = 4;
/** Of the start, of heartbeats, and of reads that end later. */
const OTHER_COMMITS = 40;

interface Snapshot {
  readonly id: number;
  readonly changes: string;
}

test("a lake's commits follow the changes of shape, not the transactions, and its maintenance is in nobody's way", async () => {
  await using catalogue = await freshDatabase();
  await using pipeline = await RunningPipeline.start(PREPARE_BACKLOG, {
    kinds: ["duckdb", "ducklake", "ducklake-history"],
    configure: (config) => {
      const maintenance = { every: "10s", keepSnapshots: "1d" };
      const [mirror, history] = [config.sinks["ducklake"]!, config.sinks["ducklake-history"]!];
      const lakes = {
        ducklake: { ...mirror, maintenance },
        "ducklake-history": { ...history, catalog: catalogue.url, maintenance },
      };
      return { ...config, sinks: { ...config.sinks, ...lakes } };
    },
  });
  const { installation } = pipeline;
  const snapshots = async (): Promise<readonly (readonly Snapshot[])[]> => {
    using file = new DatabaseSync(join(installation.folder, "ducklake.db"), { readOnly: true });
    const { rows } = await catalogue.query<Snapshot & Record<string, unknown>>(SNAPSHOTS);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the columns that the statement names
    return [file.prepare(SNAPSHOTS).all() as unknown as Snapshot[], rows];
  };
  await pipeline.settled();
  await pipeline.daemon.stop();
  const before = (await snapshots()).map(({ length }) => length);
  const alterations = await writeBacklog(pipeline.source, new Random(testSeed()), TRANSACTIONS);
  await pipeline.start();
  await pipeline.settled(600_000);
  const commits = (await snapshots()).map(
    (all, i) => all.slice(before[i]).filter(({ changes }) => !BY_MAINTENANCE.test(changes)).length,
  );
  const atMost = alterations * COMMITS_PER_ALTERATION + OTHER_COMMITS;
  expect(
    commits.filter((count) => count > atMost),
    `${commits.join(" and ")}, of ${alterations} changes of shape`,
  ).toEqual([]);
  expect(pipeline.complaints()).toEqual([]);
  const { found } = await reconcile(installation);
  expect({ drift: driftOf(found), notComparable: found.notComparable }).toEqual({ drift: {}, notComparable: [] });
});
