/**
 * Transactions that lakes find hard, beside maintenance: with truncates, moved keys, unchanged long values and changes of shape.
 * @module-tag heavy
 */
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { FreshAnswer } from "../../../src/core/contracts/orders.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { freshDatabase, type FreshDatabase } from "../../support/run/services.ts";

const TABLES = Array.from({ length: 14 }, (_, i) => `busy${i}`);
const KEYS = 60;
/** Of a hundred transactions. */
const [TRUNCATES, ALTERATIONS] = [6, 2];

const PREPARE = TABLES.map(
  (table) =>
    `create table ${table} (id int primary key, name text, body text);
     alter table ${table} alter column body set storage external;
     insert into ${table} select i, 'n' || i, repeat(md5(i::text), 90) from generate_series(1, ${KEYS}) i;`,
).join("\n");

interface Written {
  readonly transactions: number;
  /** How many of them changed a table's shape. */
  readonly alterations: number;
}

/** Writes transactions, one after the other, for as long as there are to be more than the number of those written. */
async function write(
  source: FreshDatabase,
  random: Random,
  more: (transactions: number) => boolean | Promise<boolean>,
): Promise<Written> {
  await using client = await source.connect();
  const added = new Map<string, string>();
  let [transactions, alterations] = [0, 0];
  for (; await more(transactions); transactions++) {
    const sql = transaction(random, added, transactions);
    if (sql.includes("alter table")) alterations++;
    await client.query(sql);
  }
  return { transactions, alterations };
}

function transaction(random: Random, added: Map<string, string>, n: number): string {
  const table = random.pick(TABLES);
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
    statement(random, random.chance(0.7) ? table : random.pick(TABLES), added),
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

const MAINTENANCE = { every: "10s", keepSnapshots: "1d" };
/** After so many transactions the writer waits for DuckDB's sink: what slows the lake down on a busy machine slows this one, too. */
const ROUND = 20;
const LOCKED_MS = 10_000;

interface Snapshot {
  readonly id: number;
  readonly changes: string;
}

function snapshotsIn(folder: string): readonly Snapshot[] {
  using file = new DatabaseSync(join(folder, "ducklake.db"), { readOnly: true, timeout: LOCKED_MS });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the columns that the statement names
  return file.prepare(SNAPSHOTS).all() as unknown as Snapshot[];
}

async function expectEqual({ installation }: RunningPipeline): Promise<void> {
  const { found } = await reconcile(installation);
  expect({ drift: driftOf(found), notComparable: found.notComparable }).toEqual({ drift: {}, notComparable: [] });
}

test("of a backlog, a lake's commits follow the changes of shape, not the transactions, also beside maintenance", async () => {
  await using catalogue = await freshDatabase();
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["duckdb", "ducklake", "ducklake-history"],
    configure: (config) => {
      const [mirror, history] = [config.sinks["ducklake"]!, config.sinks["ducklake-history"]!];
      const lakes = {
        ducklake: { ...mirror, maintenance: MAINTENANCE },
        "ducklake-history": { ...history, catalog: catalogue.url, maintenance: MAINTENANCE },
      };
      return { ...config, sinks: { ...config.sinks, ...lakes } };
    },
  });
  const snapshots = async (): Promise<readonly (readonly Snapshot[])[]> => {
    const { rows } = await catalogue.query<Snapshot & Record<string, unknown>>(SNAPSHOTS);
    return [snapshotsIn(pipeline.installation.folder), rows];
  };
  await pipeline.settled();
  await pipeline.daemon.stop();
  const before = (await snapshots()).map(({ length }) => length);
  const { alterations } = await write(pipeline.source, new Random(testSeed()), (count) => count < TRANSACTIONS);
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
  await expectEqual(pipeline);
});

test("while such transactions come, maintenance lets the lake's batches in between its pieces, and blames nobody", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["duckdb", "ducklake"],
    configure: (config) => {
      // No batch waits for others: one is there whenever a piece of the maintenance ends.
      const ducklake = { ...config.sinks["ducklake"], maintenance: MAINTENANCE, batch: { delay: "0s" } };
      return { ...config, sinks: { ...config.sinks, ducklake } };
    },
  });
  const { installation } = pipeline;
  await pipeline.settled();
  await pipeline.daemon.stop();
  const before = snapshotsIn(installation.folder).length;
  // What maintenance leaves for its next run it says at that level.
  pipeline.daemon = installation.run({}, "--log-level", "debug");
  await pipeline.daemon.streaming();
  /** Whether each commit since then was a piece of the maintenance. */
  const commits = (): readonly boolean[] =>
    snapshotsIn(installation.folder)
      .slice(before)
      .map(({ changes }) => BY_MAINTENANCE.test(changes));
  await write(pipeline.source, new Random(testSeed()), async (count) => {
    if (count % ROUND !== 0) return true;
    const answer = await installation.ask<FreshAnswer>("GET", "/api/v1/fresh?sink=duckdb&timeout=2m");
    expect(answer).toMatchObject({ reached: true });
    return count < TRANSACTIONS || commits().filter(Boolean).length < TABLES.length;
  });
  await pipeline.settled(600_000);
  const made = commits()
    .map((isPiece) => (isPiece ? "|" : "."))
    .join("");
  // Where the writer gets no processor some pieces follow each other, but never those of a whole run, which has one for each table.
  const longest = Math.max(...made.split(".").map(({ length }) => length));
  expect(longest, made).toBeLessThan(TABLES.length);
  expect(pipeline.daemon.said.split("\n").filter((line) => /another (?:program|writer)/.test(line))).toEqual([]);
  expect(pipeline.complaints()).toEqual([]);
  await expectEqual(pipeline);
});
