/**
 * Postgres: what is hidden and shows itself later, or elsewhere: before the first row, in rows that are older than the
 * catalogue, in a column that the log left out until then, in another table's column, behind a condition that asks another
 * column, in what sinks got before the rule.
 */
import { expect, test } from "vitest";
import { CANARY, expectHidden, placesWith, SHOWN } from "../../support/daemon/canary.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const PLAIN = `create table plain (id int generated always as identity primary key, v text); insert into plain (v) values ('${SHOWN}');`;

async function started(sql: string, tables: object): Promise<RunningPipeline> {
  return await RunningPipeline.start(PLAIN + sql, {
    kinds: ["files"],
    configure: (config) => ({ ...config, tables }),
  });
}

async function passed(pipeline: RunningPipeline): Promise<void> {
  const mark = `mark ${performance.now()}.`;
  await pipeline.run(`insert into plain (v) values ('${mark}')`);
  await eventually(async () => expect((await placesWith(mark, pipeline)).length).toBeGreaterThan(0));
}

async function expectSuspended(pipeline: RunningPipeline, expected: Readonly<Record<string, string>>): Promise<void> {
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(Object.fromEntries(tables.suspended.map(({ table, error }) => [table, error.code]))).toEqual(expected);
  });
  await passed(pipeline);
  await expectHidden(pipeline);
}

test("tables and columns that get another name while the first start waits for older transactions", async () => {
  const source = await freshDatabase();
  await source.query(`${PLAIN} create table users (id int primary key, mail text); insert into users values (1, 'a@${CANARY}');
    create table cards (id int primary key, mail text, note text); insert into cards values (1, 'c@${CANARY}', 'n')`);
  await using writer = await source.connect();
  await writer.query("begin; select pg_current_xact_id()");
  await using pipeline = await RunningPipeline.start("", {
    source,
    kinds: ["files"],
    untilStreaming: false,
    configure: (config) => ({
      ...config,
      tables: {
        "public.users": { columns: { mail: { mask: "redact" } } },
        "public.c*": { columns: { "*mail*": { drop: true } } },
      },
    }),
  });
  await eventually(async () => {
    const { rows } = await source.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where query like 'CREATE_REPLICATION_SLOT%' and datname = current_database() and state = 'active'",
    );
    expect(rows[0]?.count).toBe(1);
  });
  await source.query("alter table users rename to people; alter table cards rename mail to post");
  await writer.query("commit");
  await pipeline.daemon.streaming();
  await expectSuspended(pipeline, { "public.cards": "MR1025", "public.people": "MR1033" });
});

test("rows from before and after other names of columns, of which the catalogue knows the last ones alone", async () => {
  const names = ["contacts", "cards", "chats"];
  await using pipeline = await started(
    names.map((name) => `create table ${name} (id int primary key, mail text, note text);`).join("") +
      "create table calls (id int primary key, mail text)",
    { "public.c*": { columns: { "*mail*": { drop: true } } } },
  );
  await passed(pipeline);
  await pipeline.daemon.kill();
  for (const name of names) await pipeline.run(`insert into ${name} values (1, 'd@${CANARY}', 'n')`);
  // Another one takes the name; another type; two names at once beside a new column.
  await pipeline.run(`
    alter table contacts rename mail to kontakt; alter table contacts rename note to mail;
    alter table cards rename mail to kontakt; alter table cards alter kontakt type varchar(80);
    alter table chats rename mail to kontakt; alter table chats rename note to n; alter table chats add more text`);
  for (const name of names) await pipeline.run(`update ${name} set kontakt = 'e@${CANARY}'`);
  await pipeline.start();
  const suspended = { "public.cards": "MR1025", "public.chats": "MR1025", "public.contacts": "MR1025" };
  await expectSuspended(pipeline, suspended);
  // What the shapes in between were registered with is all that the next start knows.
  await pipeline.daemon.kill();
  for (const name of names) await pipeline.run(`update ${name} set kontakt = 'f@${CANARY}'`);
  await pipeline.start();
  await expectSuspended(pipeline, suspended);
  await passed(pipeline);
  await expectSuspended(pipeline, suspended);
});

test("a column that the log left out, one of another table's rows, and a condition whose column has another name", async () => {
  await using pipeline = await started(
    `create table users (id int primary key, mail text, low text generated always as (upper(mail) || mail) stored, note text);
     insert into users (id, mail) values (1, 'a@${CANARY}');
     create table audit (id int primary key, was users[]); insert into audit select 1, array[u] from users u;
     create table orders (id int primary key, country text, other text, word text);
     insert into orders values (1, 'AT', 'x', 'w'), (2, 'DE', 'AT', '${CANARY}')`,
    { "public.users": { columns: { mail: { mask: "redact" } } }, "public.orders": { where: "country = 'AT'" } },
  );
  await expectSuspended(pipeline, { "public.audit": "MR1025" });
  await pipeline.run(
    `create table later (id int primary key, one users); insert into later select 1, u from users u;
     alter table orders rename country to was; alter table orders rename other to country; update orders set word = word || '!'`,
  );
  await expectSuspended(pipeline, { "public.audit": "MR1025", "public.later": "MR1025", "public.orders": "MR1020" });
  await pipeline.run(
    "alter table users alter low drop expression; alter table users rename low to lower; update users set note = 'n'",
  );
  await expectSuspended(pipeline, {
    "public.audit": "MR1025",
    "public.later": "MR1025",
    "public.orders": "MR1020",
    "public.users": "MR1025",
  });
  await pipeline.daemon.kill();
  await pipeline.run("update users set note = 'm'; update orders set word = word || '!'");
  await pipeline.start();
  await expectSuspended(pipeline, {
    "public.audit": "MR1025",
    "public.later": "MR1025",
    "public.orders": "MR1020",
    "public.users": "MR1025",
  });
});

test("a new column with the name of one that a condition asks, which has another name now", async () => {
  const tables = ["renamed", "rewritten"];
  await using pipeline = await started(
    tables
      .map(
        (name) =>
          `create table ${name} (id int primary key, country text, word text);
           insert into ${name} values (1, 'AT', 'w'), (2, 'DE', '${CANARY}')`,
      )
      .join(";"),
    Object.fromEntries(tables.map((name) => [`public.${name}`, { where: "country = 'AT'" }])),
  );
  await pipeline.settled();
  await pipeline.run(
    `alter table renamed rename country to was; alter table renamed add country text default 'AT'; update renamed set word = word || '!'`,
  );
  // The same column with another type is the same one.
  await pipeline.run("alter table rewritten alter country type varchar(2); update rewritten set word = word || '!'");
  const suspended = { "public.renamed": "MR1020" };
  await expectSuspended(pipeline, suspended);
  await pipeline.kill();
  await pipeline.run(tables.map((name) => `update ${name} set word = word || '!'`).join(";"));
  await pipeline.start();
  await expectSuspended(pipeline, suspended);
});

test("columns of the row types of views, of partitions, and of tables that inherit", async () => {
  await using pipeline = await started(
    `create table users (id int primary key, mail text); create table kids (primary key (id)) inherits (users);
     create table parts (id int primary key, mail text) partition by range (id);
     create table parts_1 partition of parts for values from (0) to (9); insert into parts values (1, 'p@${CANARY}')`,
    {
      "public.users": { columns: { mail: { mask: "redact" } } },
      "public.parts": { columns: { mail: { drop: true } } },
      "public.tales": { optional: true, columns: { open: { mask: "none" } } },
    },
  );
  await pipeline.run(`create view people as select mail from users; create materialized view folks as select * from people;
    create table viewed (id int primary key, one folks[]); insert into viewed values (1, array[row('${CANARY}')::folks]);
    create table parted (id int primary key, one parts_1); insert into parted select 1, p from parts_1 p;
    create table heired (id int primary key, one kids); insert into heired values (1, row(1, '${CANARY}')::kids);
    create table tales (id int primary key, open folks); insert into tales values (1, row('shown')::folks)`);
  await expectSuspended(pipeline, {
    "public.heired": "MR1025",
    "public.kids": "MR1033",
    "public.parted": "MR1025",
    "public.viewed": "MR1025",
  });
  for (const table of ["viewed", "parted", "heired", "kids"]) {
    const { stdout, stderr } = await pipeline.installation.command("rules", "try", `public.${table}`, "--json");
    expect(`${stdout}${stderr}`).not.toContain(CANARY);
  }
});

test("rules that say the same of columns, below other globs over tables: what they hide now is gone", async () => {
  const rules = (shown: object, other: object) => ({
    "public.users": { columns: shown },
    "public.*": { columns: other, optional: true },
  });
  const mail = { mail: { mask: "redact" } };
  const none = { other: { drop: true }, "*": { mask: "none" } };
  const only = { only: ["id", "note"] };
  const shows = { mail: { mask: "none" } };
  await using pipeline = await RunningPipeline.start(
    `create table users (id int primary key, mail text, note text, other text); insert into users values (1, 'a@${CANARY}', '${SHOWN}')`,
    { kinds: ["postgres", "duckdb"], configure: (config) => ({ ...config, tables: rules(none, mail) }) },
  );
  await pipeline.settled();
  const { installation, sinks, source } = pipeline;
  const seen = async () => {
    const { rows } = await sinks.target!.query("select to_jsonb(u) as u from users u order by id");
    const { stdout } = await installation.command("query", "select * from public.users", "--sink", "duckdb", "--json");
    return { postgres: JSON.stringify(rows), duckdb: stdout };
  };
  const shownNow = () => expect.stringContaining(CANARY);
  const hiddenNow = () => expect.not.stringContaining(CANARY);
  expect(await seen()).toEqual({ postgres: shownNow(), duckdb: shownNow() });
  let id = 1;
  for (const [tables, what] of [
    [rules({ ...none, ...mail }, {}), hiddenNow],
    [rules(shows, only), shownNow],
    [rules(only, shows), hiddenNow],
  ] as const) {
    await pipeline.daemon.stop();
    installation.configure({
      name: installation.name,
      source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
      sinks: sinks.config,
      tables,
    });
    await pipeline.start();
    await pipeline.run(`insert into users values (${++id}, 'b@${CANARY}', '${SHOWN}')`);
    await pipeline.settled();
    expect(await seen()).toEqual({ postgres: what(), duckdb: what() });
  }
});

test("a mask that comes later, for rows that were deleted before it, and for long values that no change showed since", async () => {
  const kinds = ["postgres", "postgres-soft", "duckdb-soft", "redis"] as const;
  await using pipeline = await RunningPipeline.start(
    `create table users (id int primary key, bio text, word text, note text, country text);
     alter table users alter bio set storage external, alter word set storage external;
     insert into users select g, repeat('b${CANARY}', 400), repeat('w${CANARY}', 400), '${SHOWN}', 'AT' from generate_series(1, 400) g;
     create table guests (id int primary key, mail text, country text);
     insert into guests select g, 'g@${CANARY}', case when g < 4 then 'AT' else 'DE' end from generate_series(1, 6) g`,
    { kinds },
  );
  await pipeline.settled();
  await pipeline.run("delete from users where id <= 10; delete from guests where id = 1");
  await pipeline.settled();
  await pipeline.daemon.kill();
  const { installation, sinks, source } = pipeline;
  installation.configure({
    name: installation.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: sinks.config,
    tables: {
      "public.users": { columns: { bio: { mask: "redact" }, word: { mask: "null" } } },
      "public.guests": { where: "country = 'AT'", columns: { mail: { mask: "partial" } } },
    },
  });
  // Changes from before the rules, and while all is read again.
  await pipeline.run("update users set note = note || '1'; delete from users where id <= 20");
  pipeline.daemon = installation.run();
  for (let i = 0; i < 40; i++) {
    await pipeline.run(
      `update users set note = note || '2' where id % 40 = ${i}; delete from users where id = ${21 + i}`,
    );
  }
  await pipeline.daemon.streaming();
  await pipeline.settled();
  await pipeline.run("delete from users where id = 100; delete from guests where id = 2");
  await pipeline.settled();
  const shown: Record<string, string> = {};
  for (const table of ["users", "guests"]) {
    for (const space of ["public", "soft"]) {
      const { rows } = await sinks.target!.query(`select to_jsonb(t) as t from "${space}".${table} t order by id`);
      shown[`${space} ${table}`] = JSON.stringify(rows);
    }
    const asked = ["query", `select * from public.${table} order by id`, "--sink", "duckdb-soft", "--json"];
    shown[`duckdb ${table}`] = (await installation.command(...asked)).stdout;
  }
  using cache = pipeline.cache();
  const keys = await cache.keys(`${sinks.keyPrefix}*users*`);
  const hashes = (await cache.pipeline(keys.map((key) => ["hgetall", key])).exec()) ?? [];
  expect(hashes.filter(([error]) => error === null).length).toBeGreaterThan(300);
  const all = Object.entries({ ...shown, redis: JSON.stringify(hashes) });
  expect(all.filter(([, text]) => text.includes(CANARY)).map(([name]) => name)).toEqual([]);
  // What rules do not hide is still there, and what was deleted under them shows what they let through.
  const soft = JSON.parse(shown["soft users"]!).map(({ t }: { t: object }) => t);
  expect(soft[0]).toMatchObject({ id: 1, bio: null, word: null, note: SHOWN, _millrace_deleted: true });
  expect(soft[99]).toMatchObject({ id: 100, bio: "[redacted]", word: null, _millrace_deleted: true });
  expect(JSON.parse(shown["soft guests"]!).map(({ t }: { t: object }) => t)).toMatchObject([
    { id: 1, mail: null, country: null, _millrace_deleted: true },
    { id: 2, country: "AT", _millrace_deleted: true },
    { id: 3, country: "AT", _millrace_deleted: false },
    ...[4, 5, 6].map((id) => ({ id, mail: null, country: null, _millrace_deleted: true })),
  ]);
});

test("a mask of what was the key, for rows that a comparison has named", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(
    `create table codes (code text primary key, no int not null unique); alter table codes replica identity full;
     insert into codes values ('${CANARY}', 1), ('other', 2);
     create table plain (id int primary key, v text); insert into plain values (77777, '${SHOWN}')`,
    { kinds: ["postgres"] },
  );
  const { installation, sinks, source } = pipeline;
  await pipeline.settled();
  await sinks.target!.query("delete from public.codes; delete from public.plain");
  expect(await installation.command("reconcile")).toMatchObject({ exitCode: 3 });
  const shown = async () => (await installation.command("report", "show", "--json")).stdout;
  expect(await shown()).toContain(CANARY);
  await pipeline.daemon.stop();
  installation.configure({
    name: installation.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: sinks.config,
    tables: { "public.codes": { key: ["no"], columns: { code: { mask: "redact" } } } },
  });
  await pipeline.start();
  await pipeline.settled();
  const report = JSON.parse(await shown());
  expect(report.tables).toMatchObject([
    { table: "public.codes", missing: 2, sample: [] },
    { table: "public.plain", missing: 1, sample: [{ key: { id: "77777" } }] },
  ]);
  expect(JSON.stringify(report)).not.toContain(CANARY);
});
