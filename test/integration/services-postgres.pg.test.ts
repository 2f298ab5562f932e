import { Client } from "pg";
import { expect, test } from "vitest";
import { selfSigned } from "../support/network/certificate.ts";
import { freshDatabase, needsPostgres, ownPostgres, postgres } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

test("a fresh database is dropped together with its slots", async () => {
  let name: string;
  {
    await using database = await freshDatabase();
    name = database.name;
    await database.query("create table t (id int primary key)");
    await database.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [`${name}_slot`]);
  }
  await using other = await freshDatabase();
  const { rows } = await other.query("select 1 from pg_database where datname = $1", [name]);
  expect(rows).toEqual([]);
  const slots = await other.query("select 1 from pg_replication_slots where slot_name = $1", [`${name}_slot`]);
  expect(slots.rows).toEqual([]);
});

test("a fresh database is dropped while a slot of it is being read", async () => {
  const database = await freshDatabase();
  const slot = `${database.name}_slot`;
  await database.query("select pg_create_logical_replication_slot($1, 'test_decoding')", [slot]);
  const reader = new Client({ connectionString: `${database.url}?replication=database` });
  reader.on("error", () => {});
  await reader.connect();
  const reading = reader.query(`START_REPLICATION SLOT ${slot} LOGICAL 0/0`).catch((error: unknown) => error);
  await eventually(async () => {
    const { rows } = await database.query("select active from pg_replication_slots where slot_name = $1", [slot]);
    return rows[0]?.["active"] === true;
  });
  await database[Symbol.asyncDispose]();
  expect(await reading).toBeInstanceOf(Error);
});

test("the shared server decodes logically, sorts by code point and is reached by its socket", async () => {
  await using database = await freshDatabase();
  const { rows } = await database.query(
    "select current_setting('wal_level') as wal, 'É' < 'Z' as sorted, lower('Z') as low",
  );
  expect(rows).toEqual([{ wal: "logical", sorted: false, low: "z" }]);
  if (postgres().socketDir === undefined) return;
  const client = new Client({ connectionString: database.socketUrl });
  await client.connect();
  const peer = await client.query("select inet_client_addr() as address");
  await client.end();
  expect(peer.rows).toEqual([{ address: null }]);
});

test("an own server keeps what was committed through SIGKILL, and unlogged tables do not", async () => {
  await using server = await ownPostgres({ settings: { log_checkpoints: false } });
  await using database = await freshDatabase(server);
  await database.query("create table t as select 1 as id; create unlogged table u as select 1 as id");
  await server.kill();
  await expect(new Client({ connectionString: server.url }).connect()).rejects.toThrow("ECONNREFUSED");
  await server.start();
  await using client = await database.connect();
  expect((await client.query("select * from t")).rows).toEqual([{ id: 1 }]);
  expect((await client.query("select * from u")).rows).toEqual([]);
});

test("a paused server answers nothing until it is resumed", async () => {
  await using server = await ownPostgres();
  await using database = await freshDatabase(server);
  await database.query("select 1");
  await server.pause();
  let isAnswered = false;
  const answer = database.query("select 1").then(() => (isAnswered = true));
  await expect(new Client({ connectionString: server.url, connectionTimeoutMillis: 200 }).connect()).rejects.toThrow();
  expect(isAnswered).toBe(false);
  await server.resume();
  expect(await answer).toBe(true);
});

test("a standby follows its primary, keeps its failover slots, and is promoted", async (context) => {
  needsPostgres(17, context);
  await using primary = await ownPostgres();
  await using database = await freshDatabase(primary);
  await database.query("create table t (id int)");
  await database.query("select pg_create_logical_replication_slot('kept', 'pgoutput', false, false, true)");
  await using standby = await ownPostgres({ standbyOf: { primary, syncSlots: true } });
  await database.query("insert into t select generate_series(1, 1000)");
  const there = new Client({ connectionString: `${standby.url.replace(/\/postgres$/, "")}/${database.name}` });
  await there.connect();
  try {
    await eventually(async () => {
      expect((await there.query("select count(*)::int as n from t")).rows).toEqual([{ n: 1000 }]);
    });
    await eventually(async () => {
      const { rows } = await there.query("select synced from pg_replication_slots where slot_name = 'kept'");
      expect(rows).toEqual([{ synced: true }]);
    });
    await primary.kill();
    await there.query("select pg_promote()");
    await there.query("insert into t values (0)");
    expect((await there.query("select pg_is_in_recovery() as standby")).rows).toEqual([{ standby: false }]);
  } finally {
    await there.end();
  }
  await primary.start();
});

test("an own server speaks TLS and asks for passwords where it is told to", async () => {
  await using files = await selfSigned();
  await using server = await ownPostgres({
    tls: files,
    auth: ["hostssl all all 127.0.0.1/32 scram-sha-256"],
  });
  const bySocket = new Client({
    host: server.socketDir,
    port: server.port,
    user: "postgres",
    database: "postgres",
  });
  await bySocket.connect();
  await bySocket.query("create role app login password 'secret'");
  await bySocket.end();
  const url = server.url.replace("postgres@", "app:secret@");
  const client = new Client({ connectionString: url, ssl: { ca: files.certificate } });
  await client.connect();
  const { rows } = await client.query("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()");
  await client.end();
  expect(rows).toEqual([{ ssl: true, version: "TLSv1.3" }]);
  await expect(new Client({ connectionString: url }).connect()).rejects.toThrow("no encryption");
});
