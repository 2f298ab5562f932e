/**
 * A SQLite replica: killed while rows come, read meanwhile, changed by hand and compared, asked by `query`.
 * @module-tag heavy
 */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";

const SOURCE = `create table item (id bigint primary key, name text, price numeric(12,2), at timestamptz, ok boolean, raw bytea,
    ratio double precision, tags text[], doc jsonb, part uuid, small real);
  create table pair (a text, b date, note text, primary key (a, b));
  insert into item select g, 'n' || g, g / 7.0, '2024-02-29 12:00:00.5+00'::timestamptz + g * interval '1 us', g % 2 = 0, '\\x00ff',
    case g % 5 when 0 then 'NaN' when 1 then '-0' when 2 then 'Infinity' else g / 3.0 end, array['a', null, 'b c'],
    jsonb_build_object('n', g), gen_random_uuid(), 0.1 from generate_series(1, 500) g;
  insert into pair select 'k' || g, date '2024-01-01' + g, repeat('x', 3000) from generate_series(1, 100) g`;

test("is equal after kills, is found out when somebody changes it, and answers read-only SQL", async () => {
  await using pipeline = await RunningPipeline.start(SOURCE, { kinds: ["sqlite"] });
  const { installation } = pipeline;
  await pipeline.settled();
  await pipeline.expectEqual(["item", "pair"]);
  const path = join(installation.folder, "replica.sqlite");
  using reader = new DatabaseSync(path, { readOnly: true });
  for (let round = 1; round <= 2; round++) {
    await pipeline.run(`update item set name = 'r${round}' || id, ratio = -ratio where id % 3 = ${round};
      delete from item where id % 50 = ${round}; update pair set b = b + 1000 where a like 'k1%';
      insert into item (id, name, price) select 1000 * ${round} + g, 'new', 'NaN' from generate_series(1, 300) g`);
    await pipeline.kill();
    await pipeline.start();
  }
  await pipeline.run("alter table item add column more int default 7; alter table item rename column name to title");
  await pipeline.run("alter table item alter column price type text; alter table pair drop column note");
  await pipeline.run("insert into item (id, title, more) values (9999, 'last', 9); update pair set a = 'z' || a");
  await pipeline.settled();
  await pipeline.expectEqual(["item", "pair"]);
  // A connection of an application that has been open all along.
  expect(reader.prepare(`select title, more from "public.item" where id = 9999`).get()).toEqual({
    title: "last",
    more: 9,
  });

  expect(driftOf((await reconcile(installation)).found)).toEqual({});
  using writer = new DatabaseSync(path, { timeout: 10_000 });
  writer.exec(`update "public.item" set ratio = 1.5 where id = 10; delete from "public.item" where id = 11;
    insert into "public.pair" (a, b, _millrace_version, _millrace_commit_time) values ('nobody', '2024-01-01', 1, '')`);
  const mended = await reconcile(installation, "--repair");
  expect(driftOf(mended.found)).toEqual({
    sqlite: ["public.item 10 different ratio", "public.item 11 missing", "public.pair nobody 2024-01-01 extra"],
  });
  await pipeline.expectEqual(["item", "pair"]);

  const ask = (sql: string, ...more: readonly string[]) => installation.command("query", sql, ...more);
  const answer = await ask(`select id, title, more from "public.item" where id = 9999`, "--json");
  expect(JSON.parse(answer.stdout)).toMatchObject({ sink: "sqlite", rows: [{ id: 9999, title: "last", more: 9 }] });
  const refused = [
    `delete from "public.item"`,
    "attach 'x.db' as x",
    "pragma journal_mode = delete",
    `select 1; drop table "public.item"`,
  ];
  for (const sql of refused)
    expect(await ask(sql), sql).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(/MR1321/) });
  const endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
  expect(await ask(endless, "--timeout", "1s")).toMatchObject({ exitCode: 5 });
});
