/** What `check` says of failovers, and that its fixes are right. */
import { Client, type ClientConfig } from "pg";
import { expect, test } from "vitest";
import { checkSource, createLog, never, openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase, needsPostgres, ownPostgres } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const ID = "postgres.failover";

test("a slot that was made by hand is no failover slot until the fix of check is run", async (context) => {
  needsPostgres(17, context);
  await using database = await freshDatabase();
  const slot = `millrace_${database.name}`;
  await database.query("create table t (id int primary key)");
  await database.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [slot]);
  const findings = async () => (await checkSource(database)).filter(({ id }) => id === ID);
  const [finding] = await findings();
  expect(finding).toMatchObject({ level: "warning", what: expect.stringContaining(slot) });
  const command = /ALTER_REPLICATION_SLOT .+;/.exec(finding?.fix ?? "")?.[0] ?? "";
  // The types of pg leave `replication` out.
  const config: ClientConfig & { replication: string } = { connectionString: database.url, replication: "database" };
  const session = new Client(config);
  await session.connect();
  await session.query(command);
  await session.end();
  expect(await findings()).toEqual([]);
});

test("a slot of our own is a failover slot from the start", async (context) => {
  needsPostgres(17, context);
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  await createLog(source);
  const { rows } = await database.query("select failover from pg_replication_slots where database = $1", [
    database.name,
  ]);
  expect(rows).toEqual([{ failover: true }]);
  expect((await checkSource(database)).filter(({ id }) => id === ID)).toEqual([]);
});

test("a standby for which the server holds the stream back is named", async (context) => {
  needsPostgres(17, context);
  await using server = await ownPostgres({ settings: { synchronized_standby_slots: "replica_1, replica_2" } });
  await using database = await freshDatabase(server);
  await database.query("create table t (id int primary key)");
  await database.query("select pg_create_physical_replication_slot('replica_2')");
  await using source = await openSource(database);
  await createLog(source);
  const named = expect.stringContaining("nobody reads from replica_1, replica_2");
  const hints = async () => (await source.admin.health(never)).hints;
  expect(await hints()).toEqual([named]);
  const warned = { id: ID, level: "warning", what: named, fix: expect.stringContaining("synchronized_standby_slots") };
  expect(await checkSource(database)).toContainEqual(warned);
  await database.query("alter system set synchronized_standby_slots = ''");
  await database.query("select pg_reload_conf()");
  await eventually(async () => expect(await hints()).toEqual([]));
});
