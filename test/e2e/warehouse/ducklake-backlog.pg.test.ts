/**
 * A backlog that lakes find hard, written while the daemon is down: with truncates, moved keys, unchanged long values and
 * changes of shape, beside maintenance.
 * @module-tag heavy
 */
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { freshDatabase, type FreshDatabase } from "../../support/run/services.ts";

const BACKLOG_TABLES = Array.from({ length: 14 }, (_, i) => `busy${i}`);
const KEYS = 60;
/** Of a hundred transactions. */
const [TRUNCATES, ALTERATIONS] = [6, 2];

const PREPARE_BACKLOG = BACKLOG_TABLES.map(
  (table) =>
    `create table ${table} (id int primary key, name text, body text);
     alter table ${table} alter column body set storage external;
     insert into ${table} select i, 'n' || i, repeat(md5(i::text), 90) from generate_series(1, ${KEYS}) i;`,
).join("\n");

/** Writes so many transactions, one after the other. Returns how many of them changed a table's shape. */
async function writeBacklog(source: FreshDatabase, random: Random, count: number): Promise<number> {
  await using client = await source.connect();
  const added = new Map<string, string>();
  let alterations = 0;
  for (let n = 0; n < count; n++) {
    const sql = transaction(random, added, n);
    if (sql.includes("alter table")) alterations++;
    await client.query(sql);
  }
  return alterations;
}

function transaction(random: Random, added: Map<string, string>, n: number): string {
  const table = random.pick(BACKLOG_TABLES);
  const chance = random.below(100);
  if (chance < TRUNCATES) return `begin; truncate ${table}; ${statement(random, table, added)}; commit`;
  if (chance < TRUNCATES + ALTERATIONS) {
    const former = added.get(table);
    if (former === undefined) added.set(table, `extra${n}`);
    else added.delete(table);
    const change = former === undefined ? `add column extra${n} text` : `drop column ${former}`;
    return `begin; ${statement(random, table, new Map())}; alter table ${table} ${change}; ${statement(random, table, added)}; commit`;
  }
  const statements = Array.from({ length: 1 + random.below(4) }, () =>
    statement(random, random.chance(0.7) ? table : random.pick(BACKLOG_TABLES), added),
  );
  return `begin; ${statements.join("; ")}; commit`;
}

function statement(random: Random, table: string, added: ReadonlyMap<string, string>): string {
  const id = 1 + random.below(KEYS);
  const extra = added.get(table);
  const also = extra === undefined ? "" : `, ${extra} = 'e${random.below(1000)}'`;
  switch (random.below(6)) {
    case 0:
      return `delete from ${table} where id = ${id}`;
    case 1:
      return `update ${table} set id = id + ${KEYS} where id = ${id} and not exists (select from ${table} where id = ${id + KEYS})`;
    case 2:
      return `update ${table} set body = repeat(md5(name), 90) where id = ${id}`;
    case 3:
      return `update ${table} set name = name || '.'${also} where id between ${id} and ${id + 3}`;
    default:
      return `insert into ${table} (id, name, body) values (${id}, 'again', repeat(md5('${random.below(1000)}'), 90))
        on conflict (id) do update set name = 'again and again'`;
  }
}

const TRANSACTIONS = Number(process.env["MILLRACE_TEST_TRANSACTIONS"] ?? (isLongForm() ? 8_000 : 600));
const SNAPSHOTS = "select snapshot_id as id, changes_made as changes from ducklake_snapshot_changes";
/** A commit for its mark alone, beside that which moves the rows, counts as one too many. */
const BY_MAINTENANCE = /merge_adjacent|rewrite_delete|inline_flush/;
/** For each change of a shape: the rows before it, the checkpoint without the table, the table's new shape, and the checkpoint with the table. */
const COMMITS_PER_ALTERATION = 4;
/** Of the start, and of reads that end later. */
const OTHER_COMMITS = 40;
/** Of heartbeats, and of rows that come while the machine is busy. */
const COMMITS_PER_SECOND = 1;

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
  const beganMs = performance.now();
  await pipeline.start();
  await pipeline.settled(600_000);
  const seconds = (performance.now() - beganMs) / 1_000;
  const commits = (await snapshots()).map(
    (all, i) => all.slice(before[i]).filter(({ changes }) => !BY_MAINTENANCE.test(changes)).length,
  );
  const atMost = alterations * COMMITS_PER_ALTERATION + OTHER_COMMITS + seconds * COMMITS_PER_SECOND;
  // Otherwise the commits might follow the transactions unseen.
  expect(atMost).toBeLessThan(TRANSACTIONS / 2);
  expect(
    commits.filter((count) => count > atMost),
    `${commits.join(" and ")}, of ${alterations} changes of shape`,
  ).toEqual([]);
  expect(pipeline.complaints()).toEqual([]);
  const { found } = await reconcile(installation);
  expect({ drift: driftOf(found), notComparable: found.notComparable }).toEqual({ drift: {}, notComparable: [] });
});
