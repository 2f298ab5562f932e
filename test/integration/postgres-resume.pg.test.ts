/** Where a stream goes on: nothing skipped, nothing doubled. */
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { comparePositions, type Position } from "../../src/core/model/position.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import {
  createLog,
  Follower,
  never,
  openSource,
  registry,
  type PlacedRow,
} from "../support/postgres/postgres-source.ts";
import { freshDatabase } from "../support/run/services.ts";
import { patient } from "../support/run/waiting.ts";

/** Commits that follow each other so closely that one record starts where the one before ends. */
const ADJACENT_BYTES_MAX = 64n;

test("a stream begun at any position delivers exactly what lies behind it", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id serial primary key, writer int)");
  await using source = await openSource(database);
  const log = await createLog(source);
  await using sessions = new AsyncDisposableStack();
  const writers = await Promise.all(Array.from({ length: 6 }, async () => sessions.use(await database.connect())));
  for (let round = 0; round < 3; round++) {
    await Promise.all(writers.map((w, i) => w.query(`begin; insert into t (writer) values (${i}), (${i}), (${i})`)));
    await Promise.all(writers.map((w) => w.query("commit")));
  }
  await using whole = await Follower.from(source, log.position);
  await whole.catchUp(source);
  expect(whole.rows).toHaveLength(54);
  const commits = [...new Set(whole.rows.map((row) => row.position.commit))];
  const gaps = commits.slice(1).map((commit, i) => commit - commits[i]!);
  expect(gaps.some((gap) => gap <= ADJACENT_BYTES_MAX)).toBe(true);

  const end = await source.log.tip(never);
  const starts: Position[] = [...whole.rows.map((row) => row.position), ...whole.untils];
  for (const start of starts) {
    const stream = await source.log.stream(start, { temporary: true, resolve: registry() }, never);
    await using part = new Follower(stream);
    await part.readTo(end);
    const expected = whole.rows.filter((row) => comparePositions(row.position, start) >= 0);
    expect(part.rows.map(place)).toEqual(expected.map(place));
  }
});

test("acknowledging a commit's end spares the transaction that begins exactly there", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id serial primary key, writer int)");
  await using source = await openSource(database);
  const log = await createLog(source);
  await using sessions = new AsyncDisposableStack();
  const writers = await Promise.all(Array.from({ length: 6 }, async () => sessions.use(await database.connect())));
  await Promise.all(writers.map((w, i) => w.query(`begin; insert into t (writer) values (${i})`)));
  await Promise.all(writers.map((w) => w.query("commit")));
  const rows: PlacedRow[] = [];
  {
    const stream = await source.log.stream(log.position, { temporary: true, resolve: registry() }, never);
    await using whole = new Follower(stream);
    await whole.catchUp(source);
    rows.push(...whole.rows);
  }
  const adjacent = rows
    .slice(1)
    .filter((row, i) => row.position.commit - rows[i]!.position.commit <= ADJACENT_BYTES_MAX);
  expect(adjacent.length).toBeGreaterThan(0);
  let from = log.position;
  for (const { position } of adjacent) {
    {
      // The end of the commit before is where this one begins.
      await using follower = await Follower.from(source, from);
      follower.stream.acknowledge(position.commit);
      expect(await slotConfirmed(database, position.commit, source)).toBe(position.commit);
    }
    from = position;
    await using follower = await Follower.from(source, from);
    await follower.catchUp(source);
    const expected = rows.filter((row) => row.position.commit >= position.commit);
    expect(follower.rows.map(place)).toEqual(expected.map(place));
  }
});

test("a transaction larger than a buffer comes in parts, and goes on from each of them", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key, a text)");
  await using source = await openSource(database);
  const log = await createLog(source);
  await database.query("insert into t select g, repeat('x', 400) from generate_series(1, 60000) g");
  await using whole = await Follower.from(source, log.position);
  await whole.catchUp(source);
  expect(whole.rows).toHaveLength(60_000);
  const inside = whole.untils.filter((until) => until.index > 0);
  expect(inside.length).toBeGreaterThan(1);
  for (const until of inside) {
    const stream = await source.log.stream(until, { temporary: true, resolve: registry() }, never);
    await using part = new Follower(stream);
    await part.readTo(whole.position.commit);
    expect(part.rows[0]?.position).toEqual(until);
    expect(part.rows).toHaveLength(60_000 - until.index);
  }
});

test("an idle database's position moves on while another database of the server is busy", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  const log = await createLog(source);
  await using follower = await Follower.from(source, log.position);
  await follower.readTo(log.position.commit + 1n);
  const before = follower.position.commit;
  await using other = await freshDatabase();
  await other.query("create table t as select generate_series(1, 10000) as id");
  const tip = await other.query<{ lsn: string }>("select pg_current_wal_flush_lsn()::text as lsn");
  await follower.readTo(source.positions.parse(tip.rows[0]!.lsn));
  expect(follower.rows).toEqual([]);
  expect(follower.position.commit).toBeGreaterThan(before);
  follower.stream.acknowledge(follower.position.commit);
  const { commit } = follower.position;
  expect(await slotConfirmed(database, commit, source)).toBe(commit);
});

test("what is acknowledged is confirmed as it is, and never moves back", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  const log = await createLog(source);
  await using follower = await Follower.from(source, log.position);
  await database.query("insert into t values (1)");
  await follower.catchUp(source);
  const commit = follower.position.commit;
  follower.stream.acknowledge(commit);
  follower.stream.acknowledge(log.position.commit);
  expect(await slotConfirmed(database, commit, source)).toBe(commit);
});

async function slotConfirmed(
  database: Awaited<ReturnType<typeof freshDatabase>>,
  atLeast: bigint,
  source: Source,
): Promise<bigint> {
  const deadlineMs = performance.now() + patient(20_000);
  for (;;) {
    const { rows } = await database.query<{ lsn: string }>(
      "select confirmed_flush_lsn::text as lsn from pg_replication_slots where slot_name = $1",
      [`millrace_${database.name}`],
    );
    const confirmed = source.positions.parse(rows[0]!.lsn);
    if (confirmed >= atLeast || performance.now() > deadlineMs) return confirmed;
    await delay(50);
  }
}

function place(row: PlacedRow): string {
  return `${row.position.commit}/${row.position.index}:${String(row.after?.["id"])}`;
}
