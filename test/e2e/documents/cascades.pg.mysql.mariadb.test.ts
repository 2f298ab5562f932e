/** What the source changes by itself, and the orders in which a transaction may do things: keys that are swapped, children before parents. */
import { describe, expect, test } from "vitest";
import { OddDocuments } from "../../support/documents/odd-documents.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { isMysqlFrom, mysqlFlavours } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const documents = (schema: string) => ({
  parents: {
    from: `${schema}.parents`,
    columns: ["id", "name"],
    with: {
      kids: {
        from: `${schema}.kids`,
        many: true,
        on: { parent: "id" },
        columns: ["id"],
        with: { toys: { from: `${schema}.toys`, many: true, on: { kid: "id" }, value: "id" } },
      },
      first: { from: `${schema}.kids`, many: true, on: { parent: "id" }, value: "id", orderBy: ["-id"], limit: 1 },
    },
  },
  toys: {
    from: `${schema}.toys`,
    columns: ["id"],
    with: { kid: { from: `${schema}.kids`, on: { id: "kid" }, columns: ["parent"] } },
  },
});

describe("postgres", () => {
  const TABLES = `create table parents (id int primary key, name text);
    create table kids (id int primary key, parent int);
    create table toys (id int primary key deferrable, kid int references kids on delete set null on update cascade);
    alter table toys replica identity full;
    alter table kids add foreign key (parent) references parents (id) on delete cascade on update cascade deferrable initially deferred;
    insert into parents select g, 'p' || g from generate_series(1, 6) g;
    insert into kids select g, 1 + g % 6 from generate_series(1, 18) g;
    insert into toys select g, 1 + g % 18 from generate_series(1, 36) g`;
  const EXPECTED = {
    parents: `select id, name, coalesce((select jsonb_agg(jsonb_build_object('id', k.id, 'toys',
        coalesce((select jsonb_agg(t.id order by t.id) from toys t where t.kid = k.id), '[]')) order by k.id) from kids k where k.parent = p.id), '[]') as kids,
      coalesce((select jsonb_agg(x.id) from (select k.id from kids k where k.parent = p.id order by id desc limit 1) x), '[]') as first from parents p order by id`,
    toys: `select id, (select jsonb_build_object('parent', k.parent) from kids k where k.id = t.kid) as kid from toys t order by id`,
  };
  const WORK = [
    "delete from parents where id = 1",
    "update parents set id = id + 100 where id > 4",
    "begin; insert into kids values (50, 60), (51, 60); insert into toys values (90, 50); insert into parents values (60, 'late'); commit",
    "update toys set id = 37 - id where id <= 36",
    "begin; update parents set id = -2 where id = 2; update parents set id = 2 where id = 3; update parents set id = 3 where id = -2; commit",
    "begin; update kids set parent = 999 where id = 50; update parents set name = 'between' where id = 60; update kids set parent = 4 where id = 50; commit",
    "update kids set id = id + 1000; update kids set id = id - 1000; delete from kids where id = 51",
    "begin; delete from parents where id = 4; insert into parents values (4, 'again'); insert into kids values (50, 4) on conflict do nothing; commit",
    "truncate parents cascade; insert into parents values (1, 'new'); insert into kids values (1, 1)",
    "truncate kids cascade; insert into kids values (7, 1); insert into toys values (1, 7)",
  ];

  test("documents are what the source's own SQL makes", async () => {
    await using followed = await OddDocuments.start(TABLES, documents("public"), EXPECTED);
    for (const sql of WORK) {
      await followed.run(sql);
      await followed.expectEqual(sql);
    }
  });
});

describe.each(mysqlFlavours)("%s", (flavour) => {
  const TABLES = [
    "create table parents (id int primary key, name varchar(9))",
    "create table kids (id int primary key, parent int, constraint of_parent foreign key (parent) references parents (id) on delete cascade on update cascade)",
    "create table toys (id int primary key, kid int, constraint of_kid foreign key (kid) references kids (id) on delete set null on update cascade)",
    "insert into parents values (1, 'p1'), (2, 'p2'), (3, 'p3'), (4, 'p4')",
    "insert into kids values (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 4)",
    "insert into toys values (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 5), (7, 6)",
  ];
  const toysOf =
    "coalesce((select concat('[', group_concat(t.id order by t.id), ']') from toys t where t.kid = k.id), '[]')";
  const EXPECTED = {
    parents: `select id, json_quote(name) as name,
      coalesce((select concat('[', group_concat(concat('{"id":', k.id, ',"toys":', ${toysOf}, '}') order by k.id), ']') from kids k where k.parent = p.id), '[]') as kids,
      coalesce((select concat('[', max(k.id), ']') from kids k where k.parent = p.id), '[]') as first from parents p order by id`,
    toys: `select id, (select concat('{"parent":', coalesce(k.parent, 'null'), '}') from kids k where k.id = t.kid) as kid from toys t order by id`,
  };
  const WORK = [
    "update parents set id = 10 where id = 1",
    "delete from parents where id = 2",
    "update kids set id = 50 where id = 5; delete from kids where id = 6",
    "set foreign_key_checks = 0; begin; insert into kids values (60, 70); insert into toys values (70, 60); insert into parents values (70, 'late'); commit; set foreign_key_checks = 1",
    "begin; update parents set id = 71 where id = 70; update parents set id = 70 where id = 10; update parents set id = 10 where id = 71; commit",
  ];
  const isLogged = flavour === "mysql" && isMysqlFrom(flavour, "9.6");

  test(`documents follow what foreign keys change, ${isLogged ? "as the log has it" : "when the tables are read again"}`, async () => {
    await using followed = await OddDocuments.startMysql(flavour, TABLES, documents, EXPECTED);
    const { pipeline } = followed;
    for (const sql of WORK) {
      await followed.run(sql);
      if (!isLogged && pipeline instanceof MysqlPipeline) await pipeline.readAgain("kids", "toys");
      await eventually(() => followed.expectEqual(sql));
    }
    const { stdout } = await pipeline.installation.command("check", "--json");
    const { findings }: { findings: readonly { id: string; what: string }[] } = JSON.parse(stdout);
    const named = findings.filter(({ id }) => id === "cascades").map(({ what }) => /key (\w+) of/.exec(what)?.[1]);
    expect(new Set(named)).toEqual(new Set(isLogged ? [] : ["of_kid", "of_parent"]));
  });
});
