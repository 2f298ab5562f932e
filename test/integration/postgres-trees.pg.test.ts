/** Which trees by inheritance are one table: only those whose tables certainly never hold the same key. */
import { expect, test } from "vitest";
import { checkSource, createLog, never, openSource } from "../support/postgres/postgres-source.ts";
import { freshDatabase } from "../support/run/services.ts";

const ROOT = "create table root (id int, day date, note text, primary key (id, day));";
const EMPTY = "alter table only root add check (false) no inherit;";
const A = "create table a (primary key (id, day), check (day >= '2026-01-01' and day < '2026-02-01')) inherits (root);";
const B = "create table b (primary key (id, day), check (day >= '2026-02-01' and day < '2026-03-01')) inherits (root);";
const AS_B = "create table b (primary key (id, day)) inherits (root);";

const TOGETHER: Readonly<Record<string, string>> = {
  "by ranges": ROOT + EMPTY + A + B,
  "by lists": `create table root (id int, region varchar(9), primary key (id, region)); ${EMPTY}
    create table a (primary key (id, region), check (region in ('de', 'at'))) inherits (root);
    create table b (primary key (id, region), check (region = 'fr')) inherits (root)`,
  "by remainders": `create table root (id int primary key); ${EMPTY}
    create table a (primary key (id), check (id % 2 = 0)) inherits (root);
    create table b (primary key (id), check (id % 2 = 1)) inherits (root)`,
  "where the root has rows of its own": `create table root (id int primary key, check (id < 0) no inherit);
    create table a (primary key (id), check (id >= 0 and id < 5)) inherits (root);
    create table b (primary key (id), check (id >= 5)) inherits (root)`,
  "where only one table has rows": `${ROOT}${EMPTY}create table a (primary key (id, day)) inherits (root)`,
};

test.for(Object.entries(TOGETHER))("a tree is one table %s", async ([, sql]) => {
  await using database = await freshDatabase();
  await database.query(sql);
  await using source = await openSource(database);
  await createLog(source);
  const { tables, refused, besides } = await source.catalog.tables(never);
  expect({ tables: tables.map(({ id }) => id), refused, besides: besides?.size }).toEqual({
    tables: ["public.root"],
    refused: [],
    besides: 0,
  });
  const { rows } = await database.query("select tablename::text as name from pg_publication_tables order by 1");
  expect(rows.map(({ name }) => name)).toEqual(sql.includes("table b") ? ["a", "b", "root"] : ["a", "root"]);
});

const APART: Readonly<Record<string, readonly [sql: string, reason: RegExp]>> = {
  "the root may have rows": [ROOT + A + B, /no CHECK on .* \(id, day\) keeps the rows of "public"."root" apart/],
  "an heir has no CHECK": [ROOT + EMPTY + A + AS_B, /keeps the rows of "public"."b" apart/],
  "two CHECKs overlap": [
    `${ROOT}${EMPTY}${A}create table b (primary key (id, day), check (day >= '2026-01-31' and day < '2026-03-01')) inherits (root);`,
    /the CHECKs of "public"."[ab]" and "public"."[ab]" do not exclude each other/,
  ],
  "the CHECK is on another column": [
    `${ROOT}${EMPTY}${A}create table b (primary key (id, day), check (note = 'b')) inherits (root);`,
    /keeps the rows of "public"."b" apart/,
  ],
  "the CHECK is not validated": [
    `${ROOT}${EMPTY}${A}${AS_B}alter table b add check (day >= '2026-02-01') not valid;`,
    /keeps the rows of "public"."b" apart/,
  ],
  "the CHECK may be null": [
    `${ROOT}${EMPTY}${A}create table b (primary key (id, day), check (day = '2026-05-01' or null)) inherits (root);`,
    /keeps the rows of "public"."b" apart/,
  ],
  "the CHECK calls a function": [
    `create function evil(date) returns bool language plpgsql immutable as 'begin raise exception ''called''; end';
     ${ROOT}${EMPTY}${A}create table b (primary key (id, day), check (day >= '2026-02-01' and evil(date '2026-01-01'))) inherits (root);`,
    /keeps the rows of "public"."b" apart/,
  ],
  "an heir has no key": [`${ROOT}${EMPTY}${A}create table b () inherits (root);`, /"public"."b": it has no usable key/],
  "an heir has another key": [
    `${ROOT}${EMPTY}${A}create table b (primary key (id), check (day >= '2026-02-01')) inherits (root);`,
    /"public"."b" has a replica identity over other columns/,
  ],
  "an heir is unlogged": [`${ROOT}${EMPTY}${A}${B}alter table b set unlogged;`, /"public"."b" is unlogged/],
  "an heir inherits from another table too": [
    `${ROOT}${EMPTY}create table other (more int); ${A}
     create table b (primary key (id, day), check (day >= '2026-02-01')) inherits (root, other);`,
    /"public"."b" inherits from other tables too/,
  ],
  // A stand-in: its chunks are in this schema.
  "it is a hypertable": [
    `create schema _timescaledb_internal; ${ROOT}${EMPTY}${A}
     create table _timescaledb_internal._hyper_1_1_chunk (primary key (id, day), check (day >= '2026-02-01')) inherits (root);`,
    /it is a hypertable of TimescaleDB/,
  ],
  "only the root logs whole rows": [
    `${ROOT}${EMPTY}${A}${B}alter table root replica identity full;`,
    /it has REPLICA IDENTITY FULL, its heirs "public"."a", "public"."b" have not/,
  ],
};

test.for(Object.entries(APART))("its tables stay apart if %s, and check says why", async ([, [sql, reason]]) => {
  await using database = await freshDatabase();
  await database.query(sql);
  await using source = await openSource(database, { tables: ["public.root", "public.a", "public.*"] });
  const { tables, besides } = await source.catalog.tables(never);
  expect(tables.map(({ id }) => id)).toEqual(expect.arrayContaining(["public.a", "public.root"]));
  expect(besides?.get("public.root")).toMatch(/SELECT also shows .* They are not one table: /);
  expect(besides?.get("public.root")).toMatch(reason);
  const found = await checkSource(database);
  const finding = found.find(({ what }) => reason.test(what));
  expect(finding).toMatchObject({ level: "warning", fix: expect.stringMatching(/\S/) });
});

test("the statement that check names makes it one, and the loss of a CHECK parts it", async () => {
  await using database = await freshDatabase();
  await database.query(ROOT + A + B);
  const names = async (): Promise<readonly string[]> => {
    const { tables } = await source.catalog.tables(never);
    return tables.map(({ id }) => id);
  };
  await using source = await openSource(database);
  await createLog(source);
  expect(await names()).toEqual(["public.a", "public.b", "public.root"]);
  const finding = (await checkSource(database)).find(({ what }) => what.includes("They are not one table"));
  const [statement] = /ALTER TABLE ONLY .*? NO INHERIT;/.exec(finding?.fix ?? "") ?? [];
  await database.query(statement ?? "");
  expect(await names()).toEqual(["public.root"]);
  await database.query("alter table b drop constraint b_day_check");
  expect(await names()).toEqual(["public.a", "public.b", "public.root"]);
});
