/** A standby as the source: what is read there, what is written to its primary, and what ends a stream. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { Client } from "pg";
import type { CreatedLog } from "../../src/core/contracts/log-admin.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import { FailoverPair } from "../support/faults/failover-pair.ts";
import { isLeastMode } from "../support/postgres/least-mode.ts";
import {
  checkSource,
  chunkRows,
  createLog,
  Follower,
  never,
  openSource,
  rowsOf,
  tableVersion,
} from "../support/postgres/postgres-source.ts";
import { createFreshDatabase, type FreshDatabase } from "../support/run/fresh-database.ts";
import { needsPostgres, postgresMajor } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const ID = "postgres.standby";
let pair: FailoverPair | undefined;

beforeAll(async () => {
  if (postgresMajor() < 16 || isLeastMode) return;
  pair = await FailoverPair.start({ syncSlots: false, waits: false });
  await pair.addStandby();
});

afterAll(() => pair?.[Symbol.asyncDispose]());

beforeEach((context) => {
  needsPostgres(16, context);
  context.skip(isLeastMode, "a standby takes no roles");
});

function both(): FailoverPair {
  if (pair === undefined) throw new Error("no servers");
  return pair;
}

interface Scene extends AsyncDisposable {
  readonly database: FreshDatabase;
  readonly source: Source;
  readonly log: CreatedLog;
}

async function started(at = both(), wantCopy = false): Promise<Scene> {
  await using owned = new AsyncDisposableStack();
  const database = owned.use(await createFreshDatabase(at));
  await database.query("create table t (id int primary key); insert into t values (1)");
  const source = owned.use(await openSource(database, urls(database, at)));
  await visible(database, at);
  const log = await createLog(source, wantCopy);
  const kept = owned.move();
  return { database, source, log, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

function urls(database: FreshDatabase, at = both()) {
  return {
    url: FailoverPair.urlAt(at.standby, database),
    primaryUrl: FailoverPair.urlAt(at.primary, database),
  };
}

/** The standby has the new database and its table. */
async function visible(database: FreshDatabase, at: FailoverPair): Promise<void> {
  await eventually(async () => {
    await using session = await sessionAt(FailoverPair.urlAt(at.standby, database));
    await session.query("select from t");
  });
}

async function sessionAt(url: string): Promise<Client & AsyncDisposable> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}

test("an endpoint that leads to several servers in turn is found", async () => {
  const { primary, standby } = both();
  await using database = await createFreshDatabase(both());
  await database.query("create table t (id int primary key)");
  await visible(database, both());
  // A connection that asks for TLS first takes two turns.
  const ports = [standby, primary, primary].map(({ url }) => Number(new URL(url).port));
  let count = 0;
  const balancer = createServer((client) => {
    const server = connect(ports[count++ % ports.length]!, "127.0.0.1");
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on("error", () => other.destroy());
      one.pipe(other);
    }
  });
  await once(balancer.listen(0, "127.0.0.1"), "listening");
  const url = new URL(FailoverPair.urlAt(standby, database));
  url.port = String(Object(balancer.address()).port);
  const of = async (at: string) =>
    (await checkSource(database, { url: at })).filter(({ id }) => id === "postgres.endpoint");
  expect(await of(url.href)).toMatchObject([
    { level: "error", what: expect.stringContaining("2 servers in turn, 1 of") },
  ]);
  expect(await of(FailoverPair.urlAt(standby, database))).toMatchObject([{ level: "ok" }]);
  balancer.close();
});

test("the slot is made on the standby, the publication on the primary, and both are removed", async () => {
  await using s = await started(both(), true);
  await using standby = await sessionAt(FailoverPair.urlAt(both().standby, s.database));
  const slots = "select slot_name from pg_replication_slots where database = current_database()";
  expect((await s.database.query(slots)).rows).toEqual([]);
  expect((await standby.query(slots)).rows).toHaveLength(1);
  const copied: unknown[] = [];
  const table = await tableVersion(s.source, "public.t");
  for await (const block of s.log.copy!.read(table, never)) {
    copied.push(...rowsOf(block).map(({ after }) => after));
    block.release();
  }
  await s.log.copy!.close();
  expect(copied).toEqual([{ id: "1" }]);
  await s.source.admin.remove!({ identity: s.log.identity, makes: true }, never);
  expect((await standby.query(slots)).rows).toEqual([]);
  expect((await s.database.query("select from pg_publication")).rows).toEqual([]);
});

test("a read after a mark has what was committed before the mark", async () => {
  await using s = await started();
  const table = await tableVersion(s.source, "public.t");
  for (let id = 2; id < 60; id++) {
    await s.database.query("insert into t values ($1)", [id]);
    await s.source.watermarks.mark("low", never);
    const chunk = await s.source.rows.readRange(table, { after: null, where: null }, never);
    expect(chunk.sees(4711)).toBe(true);
    expect(chunkRows(chunk)).toHaveLength(id);
  }
});

test("a transaction that runs on the primary is waited for", async () => {
  await using s = await started();
  await using writer = await s.database.connect();
  await writer.query("begin; insert into t values (2)");
  const told = Promise.withResolvers<string>();
  const settling = s.source.watermarks.settle!(() => told.resolve("waits"), never);
  expect(await Promise.race([told.promise, settling])).toBe("waits");
  await writer.query("commit");
  await settling;
});

test("transactions have no numbers, and a second stream by a copy of the slot brings the same", async () => {
  await using s = await started();
  await using follower = await Follower.from(s.source, s.log.position);
  await s.database.query("insert into t values (2)");
  expect(await follower.catchUp(s.source)).toEqual([{ op: "c", table: "public.t", after: { id: "2" } }]);
  expect(follower.rows[0]?.xid).toBe(0);
  const resolve = async () => tableVersion(s.source, "public.t");
  await using second = new Follower(await s.source.log.stream(s.log.position, { temporary: true, resolve }, never));
  expect(await second.catchUp(s.source)).toEqual([{ op: "c", table: "public.t", after: { id: "2" } }]);
});

test("without its primary nothing is written, and marks come back where they were made", async () => {
  await using database = await createFreshDatabase(both());
  await database.query("create table t (id int primary key); insert into t values (1)");
  await visible(database, both());
  const { url } = urls(database);
  await using source = await openSource(database, { url });
  const refused = await createLog(source).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "MR2008", hint: expect.stringMatching(/CREATE PUBLICATION .+;/) });
  await database.query(/CREATE PUBLICATION .+?;/.exec(String(Reflect.get(Object(refused), "hint")))?.[0] ?? "");
  await using standby = await sessionAt(url);
  await eventually(async () => expect((await standby.query("select from pg_publication")).rows).toHaveLength(1));
  await using primary = await database.connect();
  let isMade = false;
  const making = createLog(source).finally(() => (isMade = true));
  await eventually(async () => {
    await primary.query("select pg_log_standby_snapshot()");
    expect(isMade).toBe(true);
  });
  const log = await making;
  await using follower = await Follower.from(source, log.position);
  const table = await tableVersion(source, "public.t");
  const shown = (text: string) => follower.messages.find((message) => message.text === text);
  // Idle, under writes, and with the stream behind.
  for (let round = 0; round < 40; round++) {
    const isIdle = round % 4 === 0;
    if (!isIdle) await database.query("insert into t select coalesce(max(id), 0) + 1 from t");
    await source.watermarks.mark(`low ${round}`, never);
    const chunk = await source.rows.readRange(table, { after: null, where: null }, never);
    const ids = chunkRows(chunk).map(({ id }) => Number(id));
    if (!isIdle) await database.query("insert into t select coalesce(max(id), 0) + 1 from t");
    await source.watermarks.mark(`high ${round}`, never);
    if (round % 3 === 0) continue;
    while (shown(`high ${round}`) === undefined) await follower.readOne();
    const before = (text: string) => 1 + (shown(text)?.before ?? Number.NaN);
    expect(Math.max(...ids)).toBeGreaterThanOrEqual(before(`low ${round}`));
    expect(Math.max(...ids)).toBeLessThanOrEqual(before(`high ${round}`));
  }
  const versions = follower.rows.map(({ version }) => version);
  expect(versions).toEqual(versions.toSorted((a, b) => Number(a - b)));
  expect(follower.messages.map(({ text }) => text)).toHaveLength(80 - 2);
  expect((await database.query("select from pg_logical_emit_message(false, 'x', '')")).rows).toHaveLength(1);
  await follower.catchUp(source);
});

test("check says what is missing on either server", async () => {
  await using database = await createFreshDatabase(both());
  await database.query("create table t (id int primary key)");
  await visible(database, both());
  const { url, primaryUrl } = urls(database);
  const told = async (settings: { url: string; primaryUrl?: string }) =>
    (await checkSource(database, settings)).filter(({ id }) => id === ID);
  expect(await told({ url })).toMatchObject([{ level: "ok", what: expect.stringContaining("nothing is written") }]);
  const published = (await checkSource(database, { url })).filter(({ id }) => id === "postgres.publication");
  expect(published).toMatchObject([{ level: "error", fix: expect.stringContaining("CREATE PUBLICATION") }]);
  expect(await told({ url, primaryUrl })).toMatchObject([{ level: "ok" }]);
  expect(await told({ url, primaryUrl: url })).toMatchObject([
    { level: "error", what: expect.stringContaining("source.primaryUrl leads to a standby too") },
  ]);
  expect(await told({ url: primaryUrl, primaryUrl })).toMatchObject([
    { level: "warning", what: expect.stringContaining("leads to no standby") },
  ]);
  await using standby = await sessionAt(both().standby.url);
  await standby.query("alter system set hot_standby_feedback = off");
  await standby.query("select pg_reload_conf()");
  await eventually(async () => {
    const found = await told({ url, primaryUrl });
    expect(found).toMatchObject([{ level: "warning", what: expect.stringContaining("hot_standby_feedback is off") }]);
  });
  await standby.query("alter system reset hot_standby_feedback");
  await standby.query("select pg_reload_conf()");
});

test("what follows a promotion is not handed on before the logs were compared", async () => {
  await using own = await FailoverPair.start({ syncSlots: false, waits: false });
  await own.addStandby();
  await using s = await started(own);
  const before = await Follower.from(s.source, s.log.position);
  await s.database.query("insert into t values (2)");
  expect(await before.catchUp(s.source)).toHaveLength(1);
  const from = before.position;
  const { standby } = own;
  await own.promote();
  await using session = await sessionAt(FailoverPair.urlAt(standby, s.database));
  await session.query("insert into t values (3)");
  const held = { from, reached: from };
  await expect(
    (async () => {
      for (;;) await before.readOne();
    })(),
  ).rejects.toMatchObject({ code: "MR2032", kind: "retryable" });
  expect(before.rows).toHaveLength(1);
  await before[Symbol.asyncDispose]();
  const identity = await s.source.admin.resume(s.log.identity, held, never);
  expect(identity).toMatchObject({ timeline: "2" });
  expect(identity).not.toHaveProperty("standby");
  await using after = await Follower.from(s.source, from);
  expect(await after.catchUp(s.source)).toEqual([{ op: "c", table: "public.t", after: { id: "3" } }]);
  expect(after.rows[0]?.xid).not.toBe(0);
});
