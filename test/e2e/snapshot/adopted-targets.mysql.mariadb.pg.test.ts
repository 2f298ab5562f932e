/** A Postgres target that another tool has filled from MySQL or MariaDB is taken over: only what differs is written. */
import { expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { freshDatabase, mysqlFlavours } from "../../support/run/services.ts";

const ROWS = 400;

test.for(mysqlFlavours)("%s", { tags: "heavy" }, async (flavour) => {
  await using target = await freshDatabase();
  await target.query(
    `create table orders (id integer primary key, note text not null, amount numeric(10,2), placed timestamp, paid smallint, data json, seen_by text default 'nobody');
     insert into orders select g, 'note ' || g, g * 1.5, '2026-02-03 04:05:06', g % 2, '{"a": 1}' from generate_series(1, ${ROWS}) g;
     update orders set note = 'theirs' where id = 3; delete from orders where id = 4; insert into orders (id, note) values (-1, 'only here')`,
  );
  const before = (await target.query("select id, xmin from orders where id > 9 order by id")).rows;
  const digits =
    "(select 0 as d union select 1 union select 2 union select 3 union select 4 union select 5 union select 6 union select 7 union select 8 union select 9)";
  await using pipeline = await MysqlPipeline.start(
    flavour,
    [
      "create table orders (id int primary key, note varchar(40) not null, amount decimal(10,2), placed datetime, paid smallint, data json)",
      `insert into orders select g, concat('note ', g), g * 1.5, '2026-02-03 04:05:06', g % 2, '{"a": 1}'
       from (select a.d * 100 + b.d * 10 + c.d + 1 as g from ${digits} a, ${digits} b, ${digits} c) n where g <= ${ROWS}`,
    ],
    {
      kinds: [],
      sinks: () => ({ copy: { kind: "postgres", url: target.url, schema: "public", onForeign: "adopt" } }),
    },
  );
  await pipeline.run(
    "update orders set note = 'later' where id = 5",
    "insert into orders (id, note) values (9999, 'new')",
  );
  await pipeline.settled();
  const { rows } = await target.query<{ id: number; note: string; seen_by: string }>(
    "select id, note, seen_by from orders where id < 6 or id > 9998 order by id",
  );
  expect(rows.map(({ id, note, seen_by: by }) => `${id} ${note} ${by}`)).toEqual([
    "1 note 1 nobody",
    "2 note 2 nobody",
    "3 note 3 nobody",
    "4 note 4 nobody",
    "5 later nobody",
    "9999 new nobody",
  ]);
  expect((await target.query("select id, xmin from orders where id > 9 and id < 9999 order by id")).rows).toEqual(
    before,
  );
  const { exitCode, stdout } = await pipeline.installation.command("reconcile");
  expect({ exitCode }, stdout).toEqual({ exitCode: 0 });
});
