/** Trees whose tables are hard to join: under themselves, in circles, by keys of several columns and types, in partitions. */
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { OddDocuments } from "../../support/documents/odd-documents.ts";

const TABLES = `create table people (id int primary key, boss_id int references people, name text);
  create table kinds (code varchar(8), year smallint, label text, primary key (code, year));
  create table parcels (id uuid primary key, kind_code varchar(8), kind_year int, owner_id bigint, weight numeric(10,2));
  create table marks (parcel uuid, n bigint, at date, weight numeric, primary key (parcel, n)) partition by range (n);
  create table marks_low partition of marks for values from (minvalue) to (5);
  create table marks_high partition of marks for values from (5) to (maxvalue);
  create table labels (id int primary key, name text);
  create table parcel_labels (parcel uuid, label_id int, n int, primary key (parcel, label_id, n));
  insert into people select g, nullif(g / 2, 0), 'p' || g from generate_series(1, 12) g;
  insert into kinds select 'k' || g, 2000 + g % 2, 'kind ' || g from generate_series(1, 4) g;
  insert into parcels select md5(g::text)::uuid, 'k' || g % 6, 2000 + g % 2, g % 14, g * 1.10 from generate_series(1, 12) g;
  insert into marks select md5(g::text)::uuid, n, date '2024-01-01' + n, n * 1.0 from generate_series(1, 12) g, generate_series(1, 9) n;
  insert into labels select g, 'l' || g from generate_series(1, 4) g;
  insert into parcel_labels select md5(g::text)::uuid, 1 + g % 4, n from generate_series(1, 12) g, generate_series(1, 3) n`;

const boss = { from: "public.people", on: { id: "boss_id" }, columns: ["name"] };
const DOCUMENTS = {
  people: {
    from: "public.people",
    columns: ["id", "name"],
    with: {
      boss: { ...boss, with: { boss } },
      reports: { from: "public.people", many: true, on: { boss_id: "id" }, value: "name", orderBy: ["-name"] },
    },
  },
  parcels: {
    from: "public.parcels",
    columns: ["id", "weight"],
    with: {
      kind: { from: "public.kinds", on: { code: "kind_code", year: "kind_year" }, columns: ["label"] },
      owner: { from: "public.people", on: { id: "owner_id" }, columns: ["name"] },
      marks: {
        from: "public.marks",
        many: true,
        on: { parcel: "id" },
        orderBy: ["-n"],
        limit: 4,
        columns: ["n", "at"],
      },
      labels: {
        from: "public.labels",
        many: true,
        through: { from: "public.parcel_labels", on: { parcel: "id" } },
        on: { id: "label_id" },
        value: "name",
      },
      alike: { from: "public.parcels", many: true, on: { weight: "weight" }, value: "id" },
    },
  },
};

const EXPECTED = {
  people: `select id, name,
    (select jsonb_build_object('name', b.name, 'boss', (select jsonb_build_object('name', c.name) from people c where c.id = b.boss_id))
      from people b where b.id = p.boss_id) as boss,
    coalesce((select jsonb_agg(r.name order by r.name collate "C" desc, r.id) from people r where r.boss_id = p.id), '[]') as reports
    from people p order by id`,
  parcels: `select id, weight,
    (select jsonb_build_object('label', label) from kinds k where k.code = p.kind_code and k.year = p.kind_year) as kind,
    (select jsonb_build_object('name', name) from people o where o.id = p.owner_id) as owner,
    coalesce((select jsonb_agg(jsonb_build_object('n', n, 'at', at) order by n desc)
      from (select * from marks m where m.parcel = p.id order by n desc limit 4) m), '[]') as marks,
    coalesce((select jsonb_agg(l.name order by l.id) from parcel_labels b join labels l on l.id = b.label_id where b.parcel = p.id), '[]') as labels,
    coalesce((select jsonb_agg(a.id order by a.id) from parcels a where a.weight = p.weight), '[]') as alike
    from parcels p order by id`,
};

const WORK: readonly string[] = [
  // In circles, and a row above itself.
  "update people set boss_id = 8 where id = 1; update people set boss_id = 3 where id = 3; update people set name = 'renamed' where id in (1, 3)",
  "begin; update people set boss_id = null where boss_id = 2; delete from people where id = 2; commit",
  "update kinds set year = 2009 where code = 'k1'; update parcels set kind_year = null where kind_year = 2000; update kinds set label = null where code = 'k3'",
  "update parcels set kind_year = 2009, weight = 5.50; insert into kinds values ('k2', 2009, 'new')",
  // From one partition into the other, and a partition that is emptied, goes and comes back.
  "update marks set n = n + 10 where n < 3; update marks set n = -n where n = 9; truncate marks_low",
  "alter table marks detach partition marks_high; delete from marks_high where n = 7; alter table marks attach partition marks_high for values from (5) to (maxvalue)",
  "insert into marks select id, 2, null, null from parcels",
  "delete from parcel_labels where n = 2; update parcel_labels set label_id = 4 where n = 1; insert into parcel_labels select parcel, label_id, 7 from parcel_labels where n = 3",
  "update labels set name = name || '!'; delete from labels where id = 1; insert into labels values (1, 'again')",
  "update parcels set id = md5(id::text)::uuid where owner_id < 4; update people set id = id + 100 where id > 9 and id not in (select boss_id from people where boss_id is not null)",
  "truncate labels; truncate people cascade; insert into people values (1, 1, 'self'), (2, 1, 'two')",
];

test("documents are what the source's own SQL makes", async () => {
  await using followed = await OddDocuments.start(TABLES, DOCUMENTS, EXPECTED);
  await followed.expectEqual("the first copy");
  for (const sql of WORK) {
    await followed.run(sql);
    await followed.expectEqual(sql);
  }
  const { exitCode, found } = await reconcile(followed.pipeline.installation, "--deep", "--tables", "documents.*");
  expect({ exitCode, drift: driftOf(found), not: found.notComparable }).toEqual({ exitCode: 0, drift: {}, not: [] });
});
