/**
 * What is certain about a table's rows although they lie in another file, and what has to be read again: the source's word
 * for what the log says nothing of.
 */
import { expect, test } from "vitest";
import type { LogIdentity } from "../../src/core/contracts/positions.ts";
import { freshDatabase } from "../support/run/services.ts";
import { createLog, never, openSource } from "../support/postgres/postgres-source.ts";

/** What happens to a table (id int primary key, n int, t text), in one transaction where there are several statements. */
const MEANS_NOTHING: Readonly<Record<string, readonly string[]>> = {
  truncated: ["truncate @"],
  truncated_often: [
    "truncate @; insert into @ values (1, 1, 'x')",
    "truncate @",
    "begin; truncate @; truncate @; commit",
  ],
  restarted: ["truncate @ restart identity cascade"],
  vacuumed: ["vacuum full @"],
  clustered: ["cluster @ using @_pkey"],
  granted_before: ["grant select (n) on @ to public"],
  commented: ["comment on column @.n is 'x'; create index on @ (n); alter table @ set (fillfactor = 90); analyze @"],
};

const MEANS_SOMETHING: Readonly<Record<string, readonly string[]>> = {
  rewritten: ["alter table @ alter n type int using n * 2"],
  volatile: ["alter table @ add column v float8 default random()"],
  retyped: ["alter table @ alter n type bigint"],
  truncated_and_rewritten: [
    "begin; truncate @; insert into @ values (1, 1, 'x'); alter table @ alter n type int using n * 2; commit",
  ],
  rewritten_and_truncated: ["begin; alter table @ alter n type int using n * 2; truncate @; commit"],
  rewritten_inside: [
    "begin; truncate @; insert into @ values (1, 1, 'x'); savepoint s; alter table @ alter n type int using n * 2; release s; alter table @ set (fillfactor = 90); commit",
  ],
  expressed: ["alter table @ add column g int generated always as (n * 2) stored"],
  // What a default of before gave to the rows lies in them now, and no longer in the catalogue.
  filled: ["alter table @ add column c int default 5", "vacuum full @"],
  remade: ["drop table @; create table @ (id int primary key, n int, t text)"],
  renamed: ["alter table @ rename to @_away", "alter table @_away rename to @"],
  part: ["truncate @_1"],
  part_vacuumed: ["vacuum full @_1"],
};

const ALL = { ...MEANS_NOTHING, ...MEANS_SOMETHING };

test("another file is another generation unless it certainly means nothing", async () => {
  await using database = await freshDatabase();
  for (const name of Object.keys(ALL)) {
    const parts = name.startsWith("part") ? " partition by range (id)" : "";
    await database.query(`create table ${name} (id int primary key, n int, t text)${parts}`);
    if (parts !== "") await database.query(`create table ${name}_1 partition of ${name} for values from (0) to (10)`);
    await database.query(`insert into ${name} values (1, 1, 'one'), (2, 2, 'two')`);
  }
  await using source = await openSource(database);
  await createLog(source);
  const looked = async () => (await source.catalog.tables(never)).generations;

  const first = await looked();
  for (const [name, statements] of Object.entries(ALL)) {
    for (const sql of statements) await database.query(sql.replaceAll("@", name));
  }
  const second = await looked();
  const ids = (names: object): string[] => Object.keys(names).map((name) => `public.${name}`);
  const differing = ids(ALL).filter((id) => first.get(id) !== second.get(id));
  // A table that was made anew waits until it is published again.
  expect(differing.toSorted()).toEqual(ids(MEANS_SOMETHING).toSorted());
  expect(await looked()).toEqual(second);

  // From wherever it is by now.
  await database.query(
    "truncate truncated; alter table vacuumed alter n type int using n * 2; truncate granted_before",
  );
  const { rows } = await database.query<{ known: boolean }>(
    "select current_setting('server_version_num')::int >= 170000 as known",
  );
  const knowsExpressions = rows[0]?.known === true;
  if (knowsExpressions) await database.query("alter table expressed alter g set expression as (n * 3)");
  const third = await looked();
  expect(third.get("public.expressed") !== second.get("public.expressed")).toBe(knowsExpressions);
  expect(third.get("public.truncated")).toBe(first.get("public.truncated"));
  expect(third.get("public.granted_before")).toBe(first.get("public.granted_before"));
  expect(third.get("public.vacuumed")).not.toBe(first.get("public.vacuumed"));
});

test("what is certain is so after a restart too, and while nobody looked", async () => {
  await using database = await freshDatabase();
  for (const name of ["emptied", "rewritten", "steady"])
    await database.query(`create table ${name} (id int primary key, n int); insert into ${name} values (1, 1)`);
  let stored: LogIdentity = {};
  const keep = async (identity: LogIdentity) => void (stored = identity);
  const first = await (async () => {
    await using source = await openSource(database);
    const { identity } = await createLog(source);
    stored = identity;
    const generations = (await source.catalog.tables(never)).generations;
    await database.query("truncate emptied, rewritten");
    expect((await source.catalog.tables(never)).generations).toEqual(generations);
    await source.catalog.publish(keep, never);
    return { generations, position: (await source.log.earliest(never))! };
  })();
  await database.query("truncate emptied; alter table rewritten alter n type int using n * 2");
  await using source = await openSource(database);
  const at = { epoch: 1, commit: first.position, index: 0 };
  await source.admin.resume(stored, { from: at, reached: at }, never);
  const { generations } = await source.catalog.tables(never);
  const same = [...first.generations].filter(([id, generation]) => generations.get(id) === generation);
  expect(same.map(([id]) => id).toSorted()).toEqual(["public.emptied", "public.steady"]);
});

test("a table that is published without being named, or not all the time, is not certain", async () => {
  await using database = await freshDatabase();
  await database.query("create table a (id int primary key); insert into a values (1)");
  await database.query("create publication everything for all tables with (publish_via_partition_root = true)");
  await using source = await openSource(database, { publication: "everything" });
  await createLog(source);
  const first = (await source.catalog.tables(never)).generations.get("public.a");
  await database.query("truncate a");
  expect((await source.catalog.tables(never)).generations.get("public.a")).not.toBe(first);

  await using named = await freshDatabase();
  await named.query("create table a (id int primary key); insert into a values (1)");
  await using other = await openSource(named);
  await createLog(other);
  const before = (await other.catalog.tables(never)).generations.get("public.a");
  await named.query("alter publication millrace_test set (publish = 'insert')");
  await named.query("truncate a; alter publication millrace_test set (publish = 'insert, update, delete, truncate')");
  expect((await other.catalog.tables(never)).generations.get("public.a")).not.toBe(before);
});
