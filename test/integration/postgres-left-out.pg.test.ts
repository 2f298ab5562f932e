/** Tables and columns that a glob leaves out, each with its reason, and what is captured of them all the same. */
import { expect, onTestFinished, test } from "vitest";
import { checkSource, createLog, Follower, never, openSource, registry } from "../support/postgres/postgres-source.ts";
import { freshDatabase, needsPostgres } from "../support/run/services.ts";

test("a parent by inheritance is captured with its own rows, and what SELECT shows besides is named", async () => {
  await using database = await freshDatabase();
  await database.query(
    `create table parent (id int primary key); create table child (primary key (id)) inherits (parent);
     create table "Other, one" () inherits (parent);
     insert into parent values (1); insert into child values (2)`,
  );
  await using source = await openSource(database);
  await createLog(source);
  const { tables, refused, besides } = await source.catalog.tables(never);
  expect(tables.map(({ id }) => id)).toEqual(["public.child", "public.parent"]);
  expect(refused).toMatchObject([{ id: "public.Other, one", reason: "it has no usable key" }]);
  const what = expect.stringMatching(/its own rows alone .* \(public\.child; public\.Other, one, not captured\)/);
  expect([...(besides ?? [])]).toEqual([["public.parent", what]]);
  expect((await source.admin.health(never)).hints).toContainEqual(what);
  expect(await checkSource(database)).toContainEqual(expect.objectContaining({ level: "warning", what }));
});

test("tables of an extension are left out, unless they are named", async () => {
  await using database = await freshDatabase();
  await database.query(
    "create table own (id int primary key); create table extra (id int primary key); alter extension plpgsql add table extra",
  );
  await using source = await openSource(database);
  await createLog(source);
  const { tables, refused } = await source.catalog.tables(never);
  expect({ tables: tables.map(({ id }) => id), refused }).toEqual({ tables: ["public.own"], refused: [] });
  expect(await checkSource(database)).toContainEqual(
    expect.objectContaining({
      level: "ok",
      what: expect.stringMatching(/^public\.extra is left out: made by an extension/),
    }),
  );
  await using named = await openSource(database, { tables: ["public.*", "public.extra"], publication: "other" });
  expect((await named.catalog.tables(never)).tables.map(({ id }) => id)).toEqual(["public.extra", "public.own"]);
});

test("Millrace's own tables are no tables of a user: a glob leaves them out, and named they are refused", async () => {
  await using database = await freshDatabase();
  await database.query(
    `create table users (id int primary key);
     create schema _millrace; create table _millrace.progress (name text primary key);
     create schema millrace; create table millrace.state (name text primary key); create table millrace.migration (number int primary key);
     create table millrace.state_row (name text primary key); create table millrace.orders (id int primary key)`,
  );
  await using source = await openSource(database);
  await createLog(source);
  const { tables, refused } = await source.catalog.tables(never);
  expect({ tables: tables.map(({ id }) => id), refused }).toEqual({
    tables: ["millrace.orders", "public.users"],
    refused: [],
  });
  for (const name of ["_millrace.progress", "millrace.state"]) {
    const named = { tables: ["public.*", name] };
    expect(await checkSource(database, named)).toContainEqual(
      expect.objectContaining({ level: "error", what: expect.stringContaining("one of Millrace's own tables") }),
    );
    await using other = await openSource(database, { ...named, publication: "other", slot: "other" });
    await expect(createLog(other)).rejects.toThrow(`${name} can't be captured: it is one of Millrace's own tables`);
  }
});

test("copies by tools for online changes are left out where the table that they copy is there, unless they are named", async () => {
  await using database = await freshDatabase();
  await database.query(
    `create schema repack;
     create table users (id int primary key); create table pgosc_st_users_ab12cd (id int primary key);
     create table pgosc_at_users_ab12cd (id int primary key); create table pgosc_op_table_users (id int primary key);
     create table repack.table_16384 (id int primary key); create table repack.log_16384 (id int primary key);
     create table _users_new (id int primary key); create table _other_new (id int primary key)`,
  );
  const copies = ["_users_new", "pgosc_at_users_ab12cd", "pgosc_op_table_users", "pgosc_st_users_ab12cd"];
  const all = [...copies.map((name) => `public.${name}`), "repack.log_16384", "repack.table_16384"];
  await using source = await openSource(database);
  await createLog(source);
  const { tables, refused } = await source.catalog.tables(never);
  expect(tables.map(({ id }) => id)).toEqual(["public._other_new", "public.users"]);
  expect(refused.map(({ id }) => id).toSorted()).toEqual(all);
  const { rows } = await database.query<{ name: string }>("select tablename as name from pg_publication_tables");
  expect(rows.map(({ name }) => name).toSorted()).toEqual(["_other_new", "users"]);
  expect(await checkSource(database)).toContainEqual(
    expect.objectContaining({
      level: "ok",
      what: expect.stringMatching(/^public\._users_new is left out: it is a copy of public\.users/),
    }),
  );
  await using named = await openSource(database, { tables: ["public.*", "public._users_new"], publication: "other" });
  expect((await named.catalog.tables(never)).tables.map(({ id }) => id)).toContain("public._users_new");
});

test("generated columns that the log does not carry are named", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key, a int, twice int generated always as (a * 2) stored)");
  expect(await checkSource(database)).toContainEqual(
    expect.objectContaining({
      id: "postgres.generated",
      level: "warning",
      what: expect.stringMatching(/public\.t \(twice\)/),
    }),
  );
});

test("virtual generated columns, which no publication has, are told apart from stored ones", async ({ skip }) => {
  await using database = await freshDatabase();
  const [server] = (await database.query("select current_setting('server_version_num')::int >= 180000 as virtual"))
    .rows;
  skip(server?.["virtual"] !== true, "virtual columns came with Postgres 18");
  await database.query(
    "create table t (id int primary key, s int generated always as (id * 2) stored, v int generated always as (id * 3) virtual)",
  );
  const found = (await checkSource(database)).filter(({ id }) => id === "postgres.generated");
  expect(found.map(({ what, fix }) => `${what} -> ${fix}`)).toEqual([
    expect.stringMatching(/^stored .*public\.t \(s\) -> .*publish_generated_columns = stored/),
    expect.stringMatching(
      /^virtual .*public\.t \(v\) -> No version of Postgres publishes virtual ones: make them STORED/,
    ),
  ]);
});

test("columns that show names of the catalogue are named", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key, of regclass, by aclitem[], what text, plain oid)");
  expect(await checkSource(database)).toContainEqual(
    expect.objectContaining({
      id: "postgres.table",
      level: "warning",
      what: expect.stringMatching(/^public\.t: .* names of the catalogue: of \(regclass\), by \(aclitem\[\]\)/),
    }),
  );
});

test("a key with a generated column is captured where the publication carries it", async (context) => {
  await using database = await freshDatabase();
  await database.query(
    "create table t (a int, twice int generated always as (a * 2) stored, primary key (a, twice)); create publication millrace_test",
  );
  await using source = await openSource(database, { tables: ["public.t"] });
  expect((await source.catalog.tables(never)).refused).toMatchObject([
    { id: "public.t", reason: expect.stringMatching(/generated column "twice"/) },
  ]);
  needsPostgres(18, context);
  await database.query("alter publication millrace_test set (publish_generated_columns = stored)");
  const log = await createLog(source);
  await database.query("insert into t (a) values (3)");
  await using follower = await Follower.from(source, log.position);
  expect(await follower.catchUp(source)).toMatchObject([{ table: "public.t", after: { a: "3", twice: "6" } }]);
});

test.each([
  ["sends prepared transactions early", "pg_create_logical_replication_slot($1, 'pgoutput', false, true)", /two_phase/],
  ["has another plugin", "pg_create_logical_replication_slot($1, 'test_decoding')", /of plugin test_decoding/],
  ["is physical", "pg_create_physical_replication_slot($1)", /is physical/],
])("a slot that %s is refused with its reason, and check says so", async (_, made, reason) => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key)");
  await database.query(`select ${made}`, [`millrace_${database.name}`]);
  onTestFinished(async () => {
    await using other = await freshDatabase();
    await other.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1", [
      `millrace_${database.name}`,
    ]);
  });
  await using source = await openSource(database);
  await expect(createLog(source)).rejects.toMatchObject({ code: "MR2018", message: expect.stringMatching(reason) });
  expect(await checkSource(database)).toContainEqual(
    expect.objectContaining({ level: "error", what: expect.stringMatching(reason) }),
  );
});

test("rows of a table without a key that somebody else publishes are passed over", async () => {
  await using database = await freshDatabase();
  await database.query(
    "create table t (id int primary key); create table bare (a int); create publication millrace_test for all tables",
  );
  await using source = await openSource(database);
  const log = await createLog(source);
  await database.query("insert into bare values (1); insert into t values (1)");
  const resolve = registry();
  const options = { temporary: false, resolve, isKnown: () => false };
  await using follower = new Follower(await source.log.stream(log.position, options, never));
  expect(await follower.catchUp(source)).toMatchObject([{ table: "public.t" }]);
  expect(resolve.seen.map(({ id }) => id)).toEqual(["public.t"]);
  // From its key on it is followed.
  await database.query("alter table bare add primary key (a); insert into bare values (2)");
  expect(await follower.catchUp(source)).toMatchObject([{ table: "public.bare", after: { a: "2" } }]);
});
