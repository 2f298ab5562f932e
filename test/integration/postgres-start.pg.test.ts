/** First and later starts: what is made, adopted, refused. */
import { firstVersion } from "../support/model/blocks.ts";
import { setTimeout } from "node:timers/promises";
import { expect, test } from "vitest";
import type { Position } from "../../src/core/model/position.ts";
import type { CreatedLog } from "../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../src/core/contracts/positions.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import { checkSource, createLog, Follower, never, openSource, registry } from "../support/postgres/postgres-source.ts";
import { freshDatabase, needsPostgres, ownPostgres, type FreshDatabase } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

async function started(setup = "create table t (id int primary key)") {
  const database = await freshDatabase();
  await database.query(setup);
  const source = await openSource(database);
  const log = await createLog(source);
  return {
    database,
    source,
    log,
    resume: (changed: LogIdentity = {}, from: Position = log.position) =>
      source.admin.resume({ ...log.identity, ...changed }, { from, reached: from }, never),
    async [Symbol.asyncDispose]() {
      await source.close();
      await database[Symbol.asyncDispose]();
    },
  };
}

const slotOf = (database: FreshDatabase) => `millrace_${database.name}`;

test("a later start of the same log gives the same identity", async () => {
  await using s = await started();
  expect(await s.resume()).toEqual(s.log.identity);
});

test("an empty database can be started, and a table made later is published", async () => {
  await using s = await started("select 1");
  await using follower = await Follower.from(s.source, s.log.position);
  await s.database.query("create table t (id int primary key)");
  await s.source.catalog.publish(async () => {}, never);
  await s.database.query("insert into t values (1)");
  expect(await follower.catchUp(s.source)).toEqual([{ op: "c", table: "public.t", after: { id: "1" } }]);
});

test("a table that is dropped while the publication is being changed is not missed in it", async () => {
  await using s = await started();
  await s.database.query("create table doomed (id int primary key)");
  await s.resume();
  await s.source.catalog.publish(async () => {}, never);
  await s.database.query("create table held (id int primary key)");
  await using holder = await s.database.connect();
  await holder.query("begin; lock table held in share row exclusive mode");
  const published = s.source.catalog.publish(async () => {}, never);
  await eventually(async () => {
    const waiting = "select from pg_stat_activity where query ilike '%alter publication%' and wait_event_type = 'Lock'";
    expect((await s.database.query(waiting)).rows).toHaveLength(1);
  });
  await s.database.query("drop table doomed");
  await published;
  await holder.query("rollback");
});

test("who reads a table that was just published waits for the transactions that may have written to it, and is told who they are", async () => {
  await using s = await started();
  await s.database.query("create table late (id int primary key)");
  await using other = await s.database.connect();
  await other.query("begin; insert into late values (1)");
  const pid = (await other.query<{ pid: number }>("select pg_backend_pid() as pid")).rows[0]!.pid;
  const blockers: string[] = [];
  let done = false;
  await s.source.catalog.publish(async () => {}, never);
  const settling = s.source.watermarks.settle!((blocker) => blockers.push(blocker.what), never).then(
    () => (done = true),
  );
  await eventually(() => blockers.some((what) => what.startsWith(`pid ${pid} (role `)));
  expect(done).toBe(false);
  await other.query("commit");
  await settling;
  // What it wrote is not in the stream, but in any chunk read from now on.
  const table = (await s.source.catalog.tables(never)).tables.find((t) => t.id === "public.late")!;
  const chunk = await s.source.rows.readRange(firstVersion(table), { after: null, where: null }, never);
  expect(chunk.block?.count).toBe(1);
  chunk.block?.release();
});

test("a transaction is waited for also if it is younger than all that have ended", async () => {
  await using s = await started();
  await using other = await s.database.connect();
  await other.query("begin; insert into t values (1)");
  const told = Promise.withResolvers<string>();
  const settling = s.source.watermarks.settle!(() => told.resolve("waits"), never);
  expect(await Promise.race([told.promise, settling])).toBe("waits");
  await other.query("commit");
  await settling;
});

test("tables that are no longer wanted leave the publication; one without key never enters it", async () => {
  await using database = await freshDatabase();
  await database.query(
    "create table a (id int primary key); create table b (id int primary key); create table keyless (id int)",
  );
  const published = async () =>
    (await database.query("select tablename from pg_publication_tables order by 1")).rows.map(
      (row) => row["tablename"],
    );
  await using all = await openSource(database);
  const { identity, position } = await createLog(all);
  expect(await published()).toEqual(["a", "b"]);
  // The application's own statement would fail if it were.
  await database.query("update keyless set id = 1");
  expect((await all.catalog.tables(never)).refused).toMatchObject([
    { id: "public.keyless", reason: "it has no usable key" },
  ]);
  await using one = await openSource(database, { tables: ["public.*", "!public.b"] });
  await one.admin.resume(identity, { from: position, reached: position }, never);
  await one.catalog.publish(async () => {}, never);
  expect(await published()).toEqual(["a"]);
});

test.each([
  ["a table without key", "create table x (id int)", /no usable key/],
  ["a view", "create view x as select 1 as id", /view/],
  ["an unlogged table", "create unlogged table x (id int primary key)", /unlogged/],
  ["a table with a deferrable primary key", "create table x (id int primary key deferrable)", /no usable key/],
  [
    "a partition without key",
    "create table x (id int not null) partition by range (id); create unique index x_id on x (id); alter table x replica identity using index x_id; create table x1 partition of x for values from (0) to (9)",
    /partition .* has no usable key/,
  ],
  [
    "a partition whose replica identity is over other columns, so that old keys of the table are not logged",
    "create table x (id int primary key, code int not null) partition by range (id); create table x1 partition of x for values from (0) to (9); create unique index x1_code on x1 (code); alter table x1 replica identity using index x1_code",
    /partition .* has a replica identity over other columns/,
  ],
  ["a table that is not there", "select 1", /does not exist/],
])("%s, named literally, is refused before the publication is touched", async (_what, setup, reason) => {
  await using database = await freshDatabase();
  await database.query(setup);
  await using source = await openSource(database, { tables: ["public.x"] });
  await expect(createLog(source)).rejects.toMatchObject({
    code: "MR2020",
    kind: "fatal",
    message: expect.stringMatching(reason),
  });
  expect((await database.query("select 1 from pg_publication")).rowCount).toBe(0);
});

test("row-level security that hides rows refuses the table", async () => {
  await using database = await freshDatabase();
  const role = `role_${database.name}`;
  await database.query(`create role ${role} login replication; create table x (id int primary key);
    grant select on x to ${role}; alter table x enable row level security`);
  try {
    const url = new URL(database.url);
    url.username = role;
    await using source = await openSource(database, { tables: ["public.x"], url: url.href });
    await expect(createLog(source)).rejects.toMatchObject({
      code: "MR2020",
      message: expect.stringMatching(/row-level security/),
    });
    await database.query(`alter role ${role} bypassrls`);
    await using again = await openSource(database, { tables: ["public.x"], url: url.href });
    expect((await again.catalog.tables(never)).tables).toHaveLength(1);
  } finally {
    await database.query(`drop owned by ${role}; drop role ${role}`);
  }
});

test("a role that may not publish is told what the owner has to run", async () => {
  await using database = await freshDatabase();
  const role = `role_${database.name}`;
  await database.query(
    `create role ${role} login replication; create table x (id int primary key); grant select on x to ${role}`,
  );
  try {
    const url = new URL(database.url);
    url.username = role;
    await using source = await openSource(database, { url: url.href });
    await expect(createLog(source)).rejects.toMatchObject({
      code: "MR2008",
      hint: expect.stringMatching(/CREATE PUBLICATION "millrace_test" FOR TABLE/),
    });
    const findings = await checkSource(database, { url: url.href });
    const finding = findings.find((f) => f.id === "postgres.publication");
    expect(finding?.level).toBe("error");
    // What is printed is what helps.
    await database.query(finding!.fix!.replace(/^[^:]*: /, ""));
    expect((await createLog(source)).position.commit).toBeGreaterThan(0n);
  } finally {
    await database.query(`drop owned by ${role}; drop role ${role}`);
  }
});

test("a slot of our name is adopted where it stands, or made again when an earlier start announced it", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key); create publication millrace_test for all tables");
  await database.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [slotOf(database)]);
  await database.query("insert into t values (1)");
  await using source = await openSource(database);
  const adopted = await source.admin.create({ epoch: 1, wantCopy: true, resumeIntent: false }, never);
  expect(adopted.copy).toBeNull();
  {
    await using follower = await Follower.from(source, adopted.position);
    expect(await follower.catchUp(source)).toHaveLength(1);
  }
  const made = await source.admin.create({ epoch: 1, wantCopy: true, resumeIntent: true }, never);
  expect(made.copy).not.toBeNull();
  expect(made.position.commit).toBeGreaterThan(adopted.position.commit);
  await made.copy!.close();
});

test("a first start that failed once adopts a slot that was there before, and makes again what it made itself", async () => {
  await using database = await freshDatabase();
  const role = `role_${database.name}`;
  await database.query(
    `create role ${role} login replication; create table x (id int primary key); grant select on x to ${role}`,
  );
  try {
    const url = new URL(database.url);
    url.username = role;
    await using source = await openSource(database, { url: url.href });
    let makes = false;
    const making = async (): Promise<void> => void (makes = true);
    const create = async () =>
      await source.admin.create({ epoch: 1, wantCopy: false, resumeIntent: makes, making }, never);
    await database.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [slotOf(database)]);
    const at = "select confirmed_flush_lsn - '0/0' as at from pg_replication_slots where slot_name = $1";
    const { rows } = await database.query<{ at: string }>(at, [slotOf(database)]);
    await expect(create()).rejects.toMatchObject({ code: "MR2008" });
    await database.query("create publication millrace_test for table x; insert into x values (1)");
    expect((await create()).position.commit).toBe(BigInt(rows[0]!.at));
    const isOurs = async () => (await source.admin.made!({ identity: null, makes }, never)).map((made) => made.isOurs);
    expect(await isOurs()).toEqual([false, false]);
    await source.admin.remove!({ identity: null, makes }, never);
    await database.query("select pg_drop_replication_slot($1)", [slotOf(database)]);
    const made = await create();
    expect(await isOurs()).toEqual([true, false]);
    expect((await create()).position.commit).toBeGreaterThanOrEqual(made.position.commit);
  } finally {
    await database.query(`drop owned by ${role}; drop role ${role}`);
  }
});

const PUBLISHED = `select tablename as name from pg_publication_tables where pubname = 'theirs' order by 1`;

test("a publication that others made gets no table that only a glob takes in", async () => {
  await using database = await freshDatabase();
  await database.query(`create table a (id int primary key); create table b (id int primary key);
    create table secret (id int primary key); create publication theirs for table a`);
  const published = async () => (await database.query<{ name: string }>(PUBLISHED)).rows.map(({ name }) => name);
  {
    await using source = await openSource(database, { tables: ["public.*"], publication: "theirs" });
    const log = await createLog(source);
    await source.admin.resume(log.identity, { from: log.position, reached: log.position }, never);
    await database.query("create table later (id int primary key)");
    await source.catalog.publish(async () => {}, never);
    const { tables, refused } = await source.catalog.tables(never);
    expect([tables.map(({ id }) => id), await published()]).toEqual([["public.a"], ["a"]]);
    const add = (name: string) => `ALTER PUBLICATION "theirs" ADD TABLE ONLY "public"."${name}";`;
    expect(Object.fromEntries(refused.map(({ id, fix }) => [id, fix]))).toEqual(
      Object.fromEntries(["b", "later", "secret"].map((name) => [`public.${name}`, add(name)])),
    );
    expect(refused[0]?.reason).toContain("Millrace did not make it");
    const findings = await checkSource(database, { tables: ["public.*"], publication: "theirs" });
    expect(findings.find(({ id }) => id === "postgres.publication")).toMatchObject({
      level: "warning",
      what: expect.stringContaining("Millrace did not make it"),
      fix: 'ALTER PUBLICATION "theirs" ADD TABLE ONLY "public"."b", ONLY "public"."later", ONLY "public"."secret";',
    });
  }
  await using of = await openSource(database, { tables: ["public.s*"], publication: "theirs" });
  await expect(createLog(of)).rejects.toMatchObject({
    code: "MR2008",
    message: expect.stringContaining("Millrace did not make it"),
    hint: expect.stringContaining('ALTER PUBLICATION "theirs" ADD TABLE ONLY "public"."secret";'),
  });
  await using named = await openSource(database, { tables: ["public.a", "public.b"], publication: "theirs" });
  await createLog(named);
  expect(await published()).toEqual(["a", "b"]);
});

test("a publication that others made goes on publishing partitions as they chose", async () => {
  await using database = await freshDatabase();
  await database.query(`create table a (id int primary key);
    create table root (id int primary key) partition by range (id);
    create table low partition of root for values from (0) to (10); create publication theirs for table a`);
  const options = { tables: ["public.a", "public.root"], publication: "theirs" };
  const fix = 'ALTER PUBLICATION "theirs" SET (publish_via_partition_root = true);';
  await using source = await openSource(database, options);
  await expect(createLog(source)).rejects.toMatchObject({ code: "MR2008", hint: expect.stringContaining(fix) });
  const { rows } = await database.query("select pubviaroot from pg_publication where pubname = 'theirs'");
  expect(rows).toEqual([{ pubviaroot: false }]);
  const findings = await checkSource(database, options);
  expect(findings.find(({ id }) => id === "postgres.publication")).toMatchObject({
    level: "error",
    what: expect.stringContaining("it publishes partitions under their own names"),
    fix: `${fix} ALTER PUBLICATION "theirs" ADD TABLE "public"."root";`,
  });
  await database.query(fix);
  await using again = await openSource(database, options);
  await createLog(again);
  const { rows: published } = await database.query(PUBLISHED);
  expect(published).toEqual([{ name: "a" }, { name: "root" }]);
});

test("a partitioned table that only a glob takes in, and that others publish by its partitions, stops no other", async () => {
  await using database = await freshDatabase();
  const root = (name: string) => `create table ${name} (id int primary key) partition by range (id);
    create table ${name}_low partition of ${name} for values from (0) to (10);`;
  await database.query(
    `create table a (id int primary key); ${root("early")} create publication theirs for all tables`,
  );
  const options = { tables: ["public.*"], publication: "theirs" };
  const fix = 'ALTER PUBLICATION "theirs" SET (publish_via_partition_root = true);';
  const findings = await checkSource(database, options);
  expect(findings.find(({ id }) => id === "postgres.publication")).toMatchObject({ level: "warning", fix });
  await using source = await openSource(database, options);
  const log = await createLog(source, true);
  expect(log.copy?.tables.map(({ id }) => id)).toEqual(["public.a"]);
  await log.copy?.close();
  await source.admin.resume(log.identity, { from: log.position, reached: log.position }, never);
  await database.query(root("late"));
  await source.catalog.publish(async () => {}, never);
  const { tables, refused } = await source.catalog.tables(never);
  expect(tables.map(({ id }) => id)).toEqual(["public.a"]);
  expect(refused.map((table) => [table.id, table.fix])).toEqual([
    ["public.early", fix],
    ["public.late", fix],
  ]);
  const stream = { temporary: false, resolve: registry(), isKnown: (id: string) => id === "public.a" };
  await using follower = new Follower(await source.log.stream(log.position, stream, never));
  await database.query("insert into early values (1); insert into late values (1); insert into a values (1)");
  expect(await follower.catchUp(source)).toMatchObject([{ table: "public.a" }]);
  await database.query(`${fix} insert into early values (2)`);
  expect(await follower.catchUp(source)).toMatchObject([{ table: "public.early", after: { id: "2" } }]);
  await source.catalog.publish(async () => {}, never);
  const now = await source.catalog.tables(never);
  expect(now.tables.map(({ id }) => id)).toEqual(["public.a", "public.early", "public.late"]);
});

test("a slot of another kind is refused", async () => {
  await using database = await freshDatabase();
  await database.query("select pg_create_logical_replication_slot($1, 'test_decoding')", [slotOf(database)]);
  await using source = await openSource(database);
  await expect(createLog(source)).rejects.toMatchObject({ code: "MR2018", kind: "fatal" });
});

test("a slot that was dropped", async () => {
  await using s = await started();
  await s.database.query("select pg_drop_replication_slot($1)", [slotOf(s.database)]);
  await expect(s.resume()).rejects.toMatchObject({
    code: "MR2010",
    kind: "fatal",
    hint: expect.stringMatching(/millrace recover/),
  });
});

test("another server, another database", async () => {
  await using s = await started();
  await expect(s.resume({ systemIdentifier: "7" })).rejects.toMatchObject({ code: "MR2013", kind: "fatal" });
  await expect(s.resume({ databaseOid: "7" })).rejects.toMatchObject({ code: "MR2013", kind: "fatal" });
});

test("a slot that was confirmed beyond the stored position", async () => {
  await using s = await started();
  await s.database.query("insert into t values (1)");
  await s.database.query("select pg_replication_slot_advance($1, pg_current_wal_lsn())", [slotOf(s.database)]);
  const gap = { code: "MR2010", kind: "fatal", message: expect.stringContaining("beyond the stored position") };
  await expect(s.resume()).rejects.toMatchObject(gap);
  const stream = s.source.log.stream(s.log.position, { temporary: false, resolve: registry() }, never);
  await expect(stream).rejects.toMatchObject(gap);
});

test("a stored position beyond the server's log", async () => {
  await using s = await started();
  const far = { ...s.log.position, commit: s.log.position.commit + (1n << 40n) };
  await expect(s.resume({}, far)).rejects.toMatchObject({ code: "MR2016", kind: "fatal" });
});

test("a transaction that was read is still there after the server was started again, or is another one, or none", async () => {
  await using s = await started();
  const { source, database, log } = s;
  await using follower = await Follower.from(source, log.position);
  await database.query("insert into t values (1)");
  await database.query("insert into t values (2); drop table if exists nothing");
  await follower.catchUp(source);
  const remembered = [source.admin.remember?.([]), source.admin.remember?.([follower.position.commit])];
  expect(remembered).toEqual([null, expect.objectContaining({ landmark: expect.stringContaining("@") })]);
  await follower[Symbol.asyncDispose]();
  const { landmark = "" } = remembered[1] ?? {};
  const held = follower.position;
  // As a later process.
  const resume = async (changed: LogIdentity) => {
    await using later = await openSource(database);
    const identity = { ...log.identity, landmark, started: "another process", ...changed };
    return await later.admin.resume(identity, { from: held, reached: held }, never);
  };
  expect(await resume({})).toEqual({ ...log.identity, landmark });
  const [commit, time] = landmark.split("@");
  const elsewhere = `${commit?.slice(0, -1)}${commit?.endsWith("0") ? "8" : "0"}`;
  for (const lost of [`${commit}@${BigInt(time!) + 1n}`, `${elsewhere}@${time}`]) {
    await expect(resume({ landmark: lost })).rejects.toMatchObject({ code: "MR2016", kind: "fatal" });
    // The server that it was read from is the same.
    expect(await resume({ landmark: lost, started: log.identity["started"]! })).toMatchObject({ landmark: lost });
  }
  await using again = await Follower.from(source, log.position);
  expect(await again.catchUp(source)).toHaveLength(2);
});

test.each([
  ["dropped", "drop publication millrace_test"],
  ["dropped and made again", "drop publication millrace_test; create publication millrace_test for table t"],
  ["narrowed by a table", "alter publication millrace_test drop table t"],
  [
    "narrowed by a table for a while",
    "alter publication millrace_test drop table t; alter publication millrace_test add table t",
  ],
  ["narrowed to inserts", "alter publication millrace_test set (publish = 'insert')"],
])("a publication that was %s", async (_what, sql) => {
  await expectNarrowed(sql);
});

test("a publication that was narrowed by a row filter", async (context) => {
  needsPostgres(15, context);
  await expectNarrowed("alter publication millrace_test set table t where (id > 5)");
});

async function expectNarrowed(sql: string): Promise<void> {
  await using s = await started();
  await s.database.query(sql);
  await expect(s.resume()).rejects.toMatchObject({
    code: "MR2017",
    kind: "fatal",
    hint: expect.stringMatching(/millrace recover/),
  });
}

test("a publication that vanishes, or loses a table, under the running stream", async () => {
  await using s = await started();
  await using follower = await Follower.from(s.source, s.log.position);
  await s.database.query("insert into t values (1)");
  expect(await follower.catchUp(s.source)).toHaveLength(1);
  await s.database.query("alter publication millrace_test drop table t");
  await expect(s.source.catalog.publish(async () => {}, never)).rejects.toMatchObject({
    code: "MR2017",
    kind: "fatal",
  });
  await s.database.query("drop publication millrace_test; insert into t values (2)");
  await expect(follower.catchUp(s.source)).rejects.toMatchObject({ code: "MR2017", kind: "fatal" });
  expect(follower.rows).toHaveLength(1);
});

test("a table taken out of the publication while it is being looked at is missed at whatever moment", async () => {
  for (let round = 0; round < 6; round++) {
    await using s = await started();
    await s.resume();
    const stop = new AbortController();
    const looking = (async () => {
      while (!stop.signal.aborted) {
        await s.source.catalog.publish(async () => {}, never);
      }
    })();
    const refused = expect(looking).rejects.toMatchObject({ code: "MR2017", kind: "fatal" });
    await setTimeout(Math.random() * 25);
    await s.database.query("alter publication millrace_test drop table t");
    await Promise.race([refused, setTimeout(5_000)]);
    stop.abort();
    await refused;
  }
});

test("a table added to or dropped from the database does not make the publication narrowed", async () => {
  await using s = await started("create table t (id int primary key); create table u (id int primary key)");
  await s.database.query("drop table u; create table v (id int primary key)");
  await expect(s.resume()).resolves.toMatchObject({ slot: slotOf(s.database) });
});

test("while running, a table named literally that is dropped does not stop the others", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key); create table u (id int primary key)");
  await using source = await openSource(database, { tables: ["public.t", "public.u"] });
  await createLog(source);
  await database.query("drop table u");
  await source.catalog.publish(async () => {}, never);
  expect((await source.catalog.tables(never)).tables.map((table) => table.id)).toEqual(["public.t"]);
});

test("a slot that somebody else reads from is named with its process", async () => {
  await using s = await started();
  await using reader = await Follower.from(s.source, s.log.position);
  await reader.readTo(await s.source.log.tip(never));
  const { rows } = await s.database.query<{ pid: number }>(
    "select active_pid as pid from pg_replication_slots where slot_name = $1",
    [slotOf(s.database)],
  );
  await using second = await openSource(s.database);
  const message = expect.stringContaining(String(rows[0]!.pid));
  const stream = second.log.stream(s.log.position, { temporary: false, resolve: registry() }, never);
  await expect(stream).rejects.toMatchObject({ code: "MR2012", kind: "retryable", message });
  // What a start that was cut off has left is read by nobody.
  const restarted = second.admin.create({ epoch: 1, wantCopy: false, resumeIntent: true }, never);
  await expect(restarted).rejects.toMatchObject({ code: "MR2012", kind: "fatal", message });
});

test("wal_level, and the number of slots", async () => {
  await using server = await ownPostgres({ settings: { wal_level: "replica", max_replication_slots: 1 } });
  {
    await using database = await freshDatabase(server);
    await using source = await openSource(database);
    await expect(createLog(source)).rejects.toMatchObject({
      code: "MR2005",
      kind: "fatal",
      hint: expect.stringMatching(/wal_level = logical/),
    });
    await database.query("alter system set wal_level = 'logical'");
  }
  await server.stop();
  await server.start();
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key); select pg_create_physical_replication_slot('taken')");
  await using source = await openSource(database);
  await expect(createLog(source)).rejects.toMatchObject({ code: "MR2006", kind: "blocked" });
  expect(await checkSource(database)).toContainEqual(expect.objectContaining({ id: "postgres.slot", level: "error" }));
});

test("a slot that the server gave up, and one whose log has limits", async () => {
  await using server = await ownPostgres({
    settings: { max_slot_wal_keep_size: "16MB", max_wal_size: "32MB", min_wal_size: "32MB" },
  });
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  const log = await createLog(source);
  expect((await source.admin.health(never)).safeBytes).not.toBeNull();
  for (let i = 0; i < 6; i++)
    await database.query(
      "select pg_logical_emit_message(false, 'fill', repeat('x', 10000000)); select pg_switch_wal()",
    );
  await database.query("checkpoint");
  await expect(
    source.admin.resume(log.identity, { from: log.position, reached: log.position }, never),
  ).rejects.toMatchObject({
    code: "MR2010",
    kind: "fatal",
    message: expect.stringContaining("gave up the slot"),
  });
  expect((await source.admin.health(never)).warnings.join()).toMatch(/given up|lost/);
});

test("a promoted standby goes on below the switch, and is refused above it", async () => {
  await using primary = await ownPostgres();
  await using standby = await ownPostgres({ standbyOf: { primary } });
  await using database = await freshDatabase(primary);
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  const log: CreatedLog = await createLog(source);
  const tip = await source.log.tip(never);
  const url = new URL(database.url);
  url.port = String(standby.port);
  const there = { ...database, url: url.href };
  await using promoted: Source & AsyncDisposable = await openSource(there);
  const { Client } = await import("pg");
  const admin = new Client({ connectionString: url.href });
  await eventually(async () => {
    const probe = new Client({ connectionString: url.href });
    await probe.connect();
    const { rows } = await probe.query<{ there: boolean }>("select pg_last_wal_replay_lsn() >= $1::pg_lsn as there", [
      source.positions.format(tip),
    ]);
    await probe.end();
    return rows[0]?.there === true;
  });
  await admin.connect();
  await admin.query("select pg_promote()");
  await admin.query("create publication other");
  const end = (await admin.query<{ lsn: string }>("select pg_current_wal_lsn()::text as lsn")).rows[0]!.lsn;
  await admin.end();
  const above = { ...log.position, commit: promoted.positions.parse(end) };
  await expect(promoted.admin.resume(log.identity, { from: above, reached: above }, never)).rejects.toMatchObject({
    code: "MR2016",
    kind: "fatal",
    message: expect.stringContaining("timeline"),
  });
  // Below it the history is ours; this standby only lacks the slot.
  await expect(
    promoted.admin.resume(log.identity, { from: log.position, reached: log.position }, never),
  ).rejects.toMatchObject({
    code: "MR2010",
    kind: "fatal",
  });
});

test("check tells what is there and what is missing, with the fix", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key); create table keyless (id int)");
  const findings = await checkSource(database);
  expect(findings.filter((finding) => finding.level === "error")).toEqual([]);
  expect(findings).toContainEqual(
    expect.objectContaining({
      id: "postgres.table",
      level: "warning",
      what: expect.stringContaining("keyless"),
      fix: expect.stringContaining("ADD PRIMARY KEY"),
    }),
  );
  // Nothing was made.
  expect((await database.query("select 1 from pg_publication")).rowCount).toBe(0);
});
