/** The catalogue of a database with names that have no form in UTF-8. */
import { expect, onTestFinished, test } from "vitest";
import { sourceFactory } from "../../connectors/postgres/source/config.ts";
import { readCatalog, tableNames } from "../../connectors/postgres/source/catalog/catalog.ts";
import { Database } from "../../connectors/postgres/source/wire/database.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { never, placeOf } from "../support/postgres/postgres-source.ts";
import { type FreshDatabase, freshDatabase, postgres } from "../support/run/services.ts";

/** In WIN1252. */
const ILLEGIBLE = "convert_from('\\x81', 'WIN1252')";

function reading({ url }: Pick<FreshDatabase, "url">): Database {
  const database = new Database(parsePostgresUrl(url));
  onTestFinished(() => database.close());
  return database;
}

test("a migration is tried there, and the sizes of all other tables are known", async () => {
  await using database = await freshDatabase(postgres(), "WIN1252");
  await database.query(
    `create table "größe" (id int primary key); insert into "größe" values (1); create table good (id int primary key);
     do $$ begin execute format('create table %I (id int primary key)', 'x' || ${ILLEGIBLE}); end $$`,
  );
  const tried = { script: "alter table good add v int", runMsMax: 10_000, lockMsMax: 1_000 };
  const { after, sizes } = await sourceFactory.trial!(placeOf(database), tried, never);
  expect(after.tables.map(({ id, columns }) => [id, columns.length])).toEqual([
    ["public.good", 2],
    ["public.größe", 1],
  ]);
  expect([...sizes.keys()].toSorted()).toEqual(["public.good", "public.größe"]);
  expect(sizes.get("public.größe")!.bytes).toBeGreaterThan(0);
});

test.each([
  ["EUC_JP", "a9a1"],
  ["WIN1252", "81"],
])("the other names of a schema are told, and so is a schema with a name of %s", async (encoding, bytes) => {
  await using database = await freshDatabase(postgres(), encoding);
  await database.query(
    `create schema "größe"; create table "größe"."_größe_new" (id int); create table "größe".plain (id int);
     do $$ begin execute format('create table "größe".%I (id int)', 'x' || convert_from('\\x${bytes}', '${encoding}')); end $$`,
  );
  const names = await tableNames(reading(database), "größe", never);
  expect(names.toSorted()).toEqual(["_größe_new", "plain"]);
});

test("names that tables exchange while the catalogue is read in parts are each read once", async () => {
  await using database = await freshDatabase(postgres(), "WIN1252");
  await database.query(
    `create table first (id int primary key); create table last (id int primary key, v int);
     do $$ begin execute format('create table %I (id int primary key)', 'first' || ${ILLEGIBLE}); end $$`,
  );
  await using proxy = await tcpProxy(database.url);
  const read = reading({ url: proxy.url(database.url) });
  await read.rows("connecting", "select 1", [], never);
  const { rows } = await database.query<{ oid: string }>("select 'last'::regclass::oid::text as oid");
  // The part of the last one alone.
  const held = proxy.hold(`{"${rows[0]!.oid}"}`);
  const looking = readCatalog(read, null, never);
  await held.reached;
  await database.query(
    "begin; alter table first rename to other; alter table last rename to first; alter table other rename to last; commit",
  );
  await held.release();
  const found = (await looking).tables.filter(({ isIllegible }) => isIllegible !== true);
  expect(found).toHaveLength(2);
  expect(Object.fromEntries(found.map(({ table, columns }) => [table, columns.length]))).toEqual({ first: 1, last: 2 });
  expect((await readCatalog(read, null, never)).tables.map(({ table }) => table)).toContain("first");
});
