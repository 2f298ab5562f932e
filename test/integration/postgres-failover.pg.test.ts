/** What `check` says of failovers, and that its fixes are right. */
import { Client, type ClientConfig } from "pg";
import { expect, test } from "vitest";
import { checkSource, createLog, openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase, needsPostgres } from "../support/run/services.ts";

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
