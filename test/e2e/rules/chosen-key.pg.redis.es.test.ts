/** `key` in a table's rule: other columns than the source's own tell its rows apart in every sink. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TableName } from "../../support/compare/compare.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

const table = (name: string, ...key: readonly string[]): TableName => ({ schema: "public", table: name, key });

/** Not compressible, and too long to stay in the row. */
const LONG = "(select string_agg(md5(random()::text || g || i), '') from generate_series(1, 90) i)";

/** A change that is the operator's own waits for nobody. */
const RULES = {
  "public.visit": { key: ["id"], schemaChange: "pause" },
  "public.person": { key: ["mail"], columns: { mail: { rename: "address" }, id: { mask: "null" } } },
  "public.pair": { key: ["b", "a"] },
  "public.*": { key: ["no"] },
};

const CHOSEN = [
  table("visit", "id"),
  { ...table("person", "address"), shownBy: "person_ruled" },
  table("pair", "b", "a"),
  table("coupon", "no"),
  table("plain", "id"),
];
const OWN = [
  table("visit", "tenant", "id"),
  table("person", "id"),
  table("pair", "a", "b"),
  table("coupon", "id"),
  table("plain", "id"),
];

let pipeline: RunningPipeline;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(
    `create table visit (tenant int, id int, n int, body text, primary key (tenant, id), constraint visit_once unique (id));
     create table person (id int primary key, mail text not null unique, n int, body text);
     alter table person replica identity full; alter table person alter mail set storage external, alter body set storage external;
     create view person_ruled as select null::int as id, mail as address, n, body from person;
     create table pair (a int, b text, n int, primary key (a, b));
     create table coupon (id int primary key, no int not null, n int, constraint coupon_no unique (no) deferrable initially deferred);
     alter table coupon replica identity full;
     create table plain (id int primary key, n int);
     insert into visit select g % 3, g, 0, ${LONG} from generate_series(1, 100) g;
     insert into person select g, 'mail' || g, 0, ${LONG} from generate_series(1, 100) g;
     insert into pair select g % 5, 'b' || g, 0 from generate_series(1, 100) g;
     insert into coupon select g, g + 1000, 0 from generate_series(1, 100) g;
     insert into plain select g, 0 from generate_series(1, 20) g`,
    { kinds: CHOSEN_KINDS, configure: (config) => ({ ...config, tables: RULES }) },
  );
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

/** Rows come and go, get other keys of either kind, and keep values that the log leaves out. */
const move = (from: number): Promise<void> =>
  pipeline.run(
    `update visit set n = n + 1 where id between ${from} and ${from + 9};
     update visit set tenant = tenant + 10 where id between ${from + 2} and ${from + 4};
     update visit set id = id + 1000 where id between ${from + 5} and ${from + 6};
     delete from visit where id = ${from + 7};
     update person set n = n + 1 where id between ${from} and ${from + 9};
     update person set id = id + 1000 where id = ${from + 1};
     update person set mail = 'other' || mail where id between ${from + 2} and ${from + 4};
     delete from person where id = ${from + 5};
     insert into person select ${from + 5000}, mail || 'again', 9, 'short' from person where id = ${from + 6};
     update pair set n = n + 1 where b = 'b${from}'; update pair set a = a + 5 where b = 'b${from + 1}';
     update pair set b = b || 'x' where b = 'b${from + 2}'; delete from pair where b = 'b${from + 3}';
     update coupon set no = case no when ${from + 1000} then ${from + 1001} else ${from + 1000} end where no in (${from + 1000}, ${from + 1001});
     update coupon set n = 1 where id = ${from}; delete from coupon where no = ${from + 1002};
     insert into coupon values (${from + 5000}, ${from + 1002}, 5);
     update plain set n = n + 1`,
  );

async function restartWith(tables: object, from: number): Promise<void> {
  const { installation, source, sinks } = pipeline;
  await pipeline.daemon.stop();
  const own = { kind: "postgres", url: source.url, heartbeat: "500ms" };
  await move(from);
  installation.configure({ name: installation.name, source: own, sinks: sinks.config, tables });
  await pipeline.start();
  await eventually(async () => {
    const { tables: known } = await installation.status();
    expect(known.suspended).toEqual([]);
  });
}

/** By table; a warehouse finds rows by a set of columns. */
async function primaryKeys(): Promise<unknown> {
  const { rows } = await pipeline.sinks.target!.query<{ t: string; key: string }>(
    `select c.relname as t, string_agg(a.attname, ',' order by a.attname) as key from pg_index i join pg_class c on c.oid = i.indrelid
     join pg_namespace s on s.oid = c.relnamespace and s.nspname = 'public'
     join pg_attribute a on a.attrelid = c.oid and a.attnum = any (i.indkey)
     where i.indisprimary group by 1`,
  );
  return Object.fromEntries(rows.map(({ t, key }) => [t, key]));
}

const KEYS_CHOSEN = { visit: "id", person: "address", pair: "a,b", coupon: "no", plain: "id" };

test("the first copy and changes of every kind", async () => {
  await pipeline.expectEqual(CHOSEN);
  await move(10);
  await pipeline.expectEqual(CHOSEN);
  expect(await primaryKeys()).toEqual(KEYS_CHOSEN);
});

test("another key between two runs is read again, and waits for nobody's approval", { tags: "heavy" }, async () => {
  await restartWith({ "public.visit": { schemaChange: "pause" } }, 25);
  await pipeline.expectEqual(OWN);
  expect(await primaryKeys()).toEqual({ visit: "id,tenant", person: "id", pair: "a,b", coupon: "id", plain: "id" });
  await restartWith(RULES, 40);
  await move(60);
  await pipeline.expectEqual(CHOSEN);
  expect(await primaryKeys()).toEqual(KEYS_CHOSEN);
});

test("a key that nothing guards any more suspends its table, and the others go on", async () => {
  await pipeline.run("alter table visit drop constraint visit_once; insert into visit values (7, 1, 0, 'twice')");
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(tables.suspended.map(({ table: id }) => id)).toEqual(["public.visit"]);
    // The first where a row shows it, the second where the catalogue does.
    expect(tables.suspended[0]?.error.code).toMatch(/MR1309|MR1026/);
  });
  await move(80);
  await pipeline.run("delete from visit where tenant = 7; alter table visit add constraint visit_once unique (id)");
  await eventually(async () => expect((await pipeline.installation.status()).tables.suspended).toEqual([]));
  await pipeline.run("update visit set n = n + 1 where id < 20");
  await pipeline.expectEqual(CHOSEN);
});
