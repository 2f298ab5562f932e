/** The publication is read as the server itself shows it, and without waiting for tables that others have locked. */
import { expect, onTestFinished, test } from "vitest";
import { Database } from "../../connectors/postgres/source/wire/database.ts";
import { Writer } from "../../connectors/postgres/source/wire/writer.ts";
import { readPublication } from "../../connectors/postgres/source/catalog/publication.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { createLog, openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase, needsPostgres, postgresMajor } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const TABLES = `
  create schema other;
  create table plain (id int primary key, a int, gone int, twice int generated always as (a * 2) stored);
  alter table plain drop column gone;
  create table parent (id int primary key); create table child () inherits (parent);
  create unlogged table unlogged (id int primary key);
  create table other.plain (id int primary key, b text);
  create table root (id int primary key, v int) partition by range (id);
  create table other.low partition of root for values from (0) to (10);
  create table middle partition of root for values from (10) to (100) partition by range (id);
  create table leaf partition of middle for values from (10) to (20);
  create materialized view seen as select 1 as id`;

/** What follows `create publication p`; from which major version on. */
const PUBLICATIONS: readonly (readonly [major: number, sql: string])[] = [
  [0, ""],
  [0, "for all tables"],
  [0, "for all tables with (publish_via_partition_root = true)"],
  [0, "for table plain, parent, other.plain"],
  [0, "for table only parent, root"],
  [0, "for table root with (publish_via_partition_root = true)"],
  [0, "for table middle, root, leaf with (publish_via_partition_root = true)"],
  [0, "for table middle with (publish_via_partition_root = true)"],
  [0, "for table leaf"],
  [15, "for table plain (id), other.plain (b, id) where (id > 5)"],
  [15, "for tables in schema other"],
  [15, "for tables in schema other, public with (publish_via_partition_root = true)"],
  [15, "for tables in schema public"],
  [15, "for table other.plain where (id > 5), tables in schema other"],
  [18, "for table plain with (publish_generated_columns = stored)"],
  [18, "for table plain (id, twice)"],
];

test("as pg_publication_tables has it", async () => {
  await using database = await freshDatabase();
  await database.query(TABLES);
  const read = new Database(parsePostgresUrl(database.url));
  onTestFinished(() => read.close());
  for (const [major, sql] of PUBLICATIONS) {
    if (postgresMajor() < major) continue;
    await database.query(`create publication p ${sql}`);
    const { rows } = await database.query<{ id: string; columns: string[] | null; filtered: boolean }>(
      `select format('%I.%I', schemaname, tablename) as id, to_jsonb(t) -> 'attnames' as columns,
         to_jsonb(t) ->> 'rowfilter' is not null as filtered from pg_publication_tables t where pubname = 'p'`,
    );
    const names = new Map(
      (
        await database.query<{ oid: string; id: string; columns: string[] }>(
          `select c.oid::text, format('%I.%I', relnamespace::regnamespace, relname) as id,
             (select array_agg(attname::text order by attnum) from pg_attribute
              where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = '') as columns from pg_class c`,
        )
      ).rows.map(({ oid, ...table }) => [Number(oid), table]),
    );
    const found = await readPublication(
      { database: read, writer: new Writer(read, null), publication: "p" },
      AbortSignal.timeout(10_000),
    );
    const shown = [...found!.published].map((oid) => {
      const { id, columns } = names.get(oid)!;
      return { id, columns: (found!.columns.get(oid) ?? columns).toSorted(), filtered: found!.filtered.has(oid) };
    });
    // Before 18 the view lists generated columns, which are not published there.
    const isShown = (name: string) => postgresMajor() >= 18 || name !== "twice";
    const expected = rows.map(({ id, columns, filtered }) => ({
      id,
      columns: (columns ?? [...names.values()].find((table) => table.id === id)!.columns).filter(isShown).toSorted(),
      filtered,
    }));
    const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
    expect({ sql, tables: shown.toSorted(byId) }).toEqual({ sql, tables: expected.toSorted(byId) });
    await database.query("drop publication p");
  }
});

test("a table that somebody has locked for long keeps nobody from starting, nor the others' rows away", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table locked (id int primary key, a int); create table open (id int primary key, a int);
     insert into locked values (1, 1); insert into open values (1, 1)`,
    { kinds: ["postgres"] },
  );
  await pipeline.settled();
  await pipeline.daemon.stop();
  await using migration = await pipeline.source.connect();
  await migration.query("begin; alter table locked alter a type bigint; insert into locked values (2, 2)");
  await pipeline.run("insert into open values (2, 2)");
  await pipeline.start();
  await pipeline.run("insert into open values (3, 3)");
  const { target } = pipeline.sinks;
  await eventually(async () => {
    const { rows } = await target!.query("select id from public.open order by id");
    expect(rows).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }]);
  });
  await migration.query("commit");
  await pipeline.expectEqual(["locked", "open"]);
});

test.each(["drop extension plpgsql", "revoke usage on language plpgsql from public"])(
  "a table leaves the publication without a block, where the server lets the role run none: %s",
  async (closing) => {
    await using database = await freshDatabase();
    const role = `role_${database.name}`;
    await database.query(
      `create role ${role} login replication; grant create on database ${database.name} to ${role};
       create table kept (id int primary key); create table "Leaves, " (id int constraint key primary key);
       alter table kept owner to ${role}; alter table "Leaves, " owner to ${role}`,
    );
    try {
      const url = new URL(database.url);
      url.username = role;
      await using source = await openSource(database, { url: url.href });
      const published = async () => {
        const { rows } = await database.query("select tablename from pg_publication_tables order by tablename");
        return rows.map(({ tablename }) => String(tablename));
      };
      await createLog(source);
      expect(await published()).toEqual(["Leaves, ", "kept"]);
      await database.query(`alter table "Leaves, " drop constraint key; ${closing}`);
      await createLog(source);
      expect(await published()).toEqual(["kept"]);
    } finally {
      await database.query(`drop owned by ${role}; drop role ${role}`);
    }
  },
);

test("columns that a column list leaves out are named, and the named statement brings them back", async (context) => {
  needsPostgres(15, context);
  await using pipeline = await RunningPipeline.start(
    `create table t (id int primary key, a int, b text); insert into t values (1, 1, 'one'), (2, 2, 'two');
     create table listed (id int primary key, c int, "d d" int)`,
    { kinds: ["postgres"] },
  );
  const { source, installation } = pipeline;
  await pipeline.expectEqual(["t", "listed"]);
  const name = `millrace_${source.name}`;
  await source.query(`alter publication ${name} set table only t (id, a), only listed (id, "d d")`);
  await source.query("update t set a = 3, b = 'three' where id = 1");
  const named = `the column lists of the publication ${name} leave out columns, which no sink gets: public.listed (c), public.t (b)`;
  await eventually(async () => {
    const { conditions } = await installation.status();
    expect(conditions).toMatchObject([{ kind: "source.hint", what: expect.stringContaining(named) }]);
  });
  const { stdout } = await installation.command("check", "--json");
  const { findings }: { findings: { what: string; fix: string }[] } = JSON.parse(stdout);
  const found = findings.find(({ what }) => what === named)!;
  expect(found).toMatchObject({
    level: "warning",
    fix: `If the sinks shall have them: ALTER PUBLICATION "${name}" SET TABLE ONLY "public"."listed", ONLY "public"."t";`,
  });
  await source.query(found.fix.slice(found.fix.indexOf("ALTER")));
  await eventually(async () => expect((await installation.status()).conditions).toEqual([]));
  await pipeline.expectEqual(["t", "listed"]);
});
