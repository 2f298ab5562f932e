/** Trees by inheritance whose CHECKs keep the keys of their tables apart are one table, as partitioned tables are. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

/** One heir has columns of its own, another one has them in another order, and a third inherits from an heir. */
const PREPARE = `
  create table measure (id int primary key, note text, amount numeric(8, 2), body text);
  alter table only measure add constraint empty check (false) no inherit;
  create table measure_a (primary key (id), check (id >= 0 and id < 100)) inherits (measure);
  create table measure_b (more text not null default 'own', primary key (id), check (id between 100 and 199)) inherits (measure);
  create table measure_c (body text, extra int, amount numeric(8, 2), note text, id int primary key, check (id >= 200 and id < 300));
  alter table measure_c inherit measure;
  create table measure_d (primary key (id), check (id in (300, 301, 302, 303))) inherits (measure_c);
  alter table measure_c drop constraint measure_c_id_check;
  alter table measure_c add check (id >= 200 and id < 300) no inherit;
  create table aside (id int primary key, note text, amount numeric(8, 2), body text, check (id >= 400 and id < 500));
  create table seen (id int primary key);
  insert into measure_a select i, 'a' || i, i, null from generate_series(0, 60) i;
  insert into measure_b select i, 'b' || i, i / 3.0, repeat('b', 3000) from generate_series(100, 160) i;
  insert into measure_c (id, note, amount, body, extra) select i, 'c' || i, i, repeat('c', 9000), i from generate_series(200, 240) i;
  insert into measure_d (id, note) values (300, 'd'), (301, null);
  insert into aside select i, 'aside', i, 'x' from generate_series(400, 420) i;`;

const KINDS = ["duckdb", "postgres"] as const;

async function started(): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(PREPARE, { kinds: KINDS });
  await pipeline.expectEqual(["measure"]);
  return pipeline;
}

async function tablesIn(pipeline: RunningPipeline): Promise<readonly string[]> {
  const { rows } = await pipeline.sinks.target!.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'public' order by 1",
  );
  return rows.map(({ name }) => name);
}

async function passed(pipeline: RunningPipeline, id: number): Promise<void> {
  await pipeline.run(`insert into seen values (${id})`);
  await eventually(async () => {
    const { rows } = await pipeline.sinks.target!.query("select 1 from public.seen where id = $1", [id]);
    expect(rows).toHaveLength(1);
  });
}

test("rows of all its tables are copied, followed, read again, compared and repaired as one table's", async () => {
  await using pipeline = await started();
  expect(await tablesIn(pipeline)).toEqual(["aside", "measure", "seen"]);
  const { rows } = await pipeline.sinks.target!.query(
    "select column_name::text as name from information_schema.columns where table_schema = 'public' and table_name = 'measure' order by ordinal_position",
  );
  expect(rows.map(({ name }) => name).filter((name) => !String(name).startsWith("_"))).toEqual([
    "id",
    "note",
    "amount",
    "body",
  ]);
  await pipeline.run(`
    insert into measure_c (id, note, amount, body, extra) values (250, 'new', 2.5, repeat('z', 20000), 1);
    insert into measure_b (id, note, more) values (170, 'new', 'not in the root');
    update measure set note = note || '!', amount = amount + 1 where id % 3 = 0;
    update measure_c set extra = extra + 1 where id < 220; update measure_c set id = 260 where id = 201;
    delete from measure where id % 7 = 0; update measure_d set body = 'deep' where id = 301`);
  await pipeline.run("alter table measure_c replica identity full; alter table measure_b replica identity full");
  await pipeline.run(`update measure_c set note = 'full' where id > 210; update measure_b set id = 180 where id = 101;
    delete from measure_c where id in (211, 212)`);
  await pipeline.expectEqual(["measure"]);
  await pipeline.readAgain("public.measure");
  await pipeline.run("update measure set note = 'meanwhile' where id % 5 = 0");
  await pipeline.expectEqual(["measure"]);
  await pipeline.sinks.target!.query(
    "update public.measure set note = 'wrong' where id = 1; delete from public.measure where id = 202",
  );
  const repaired = await pipeline.installation.command("reconcile", "--repair");
  expect(repaired.stdout).not.toContain("besides");
  await pipeline.expectEqual(["measure"]);
  for (const mode of ["full", "fast"]) {
    const compared = await pipeline.installation.command("reconcile", "--mode", mode);
    expect(compared).toMatchObject({ exitCode: 0, stdout: expect.not.stringContaining("SELECT also shows") });
  }
  const check = await pipeline.installation.command("check");
  expect(check.stdout).not.toContain("SELECT also shows");
  expect(check.stdout).toContain(
    "public.measure: columns that only tables which inherit from it have are in no sink: public.measure_b (more), public.measure_c (extra), public.measure_d (extra)",
  );
});

const HAPPENINGS: Readonly<Record<string, readonly string[]>> = {
  "a new one": [
    "create table measure_e (primary key (id), check (id >= 500 and id < 600)) inherits (measure); insert into measure_e (id, note) values (500, 'at once')",
    "insert into measure_e (id, note) values (501, 'later')",
  ],
  "one that is made, filled and dropped": [
    "create table measure_e (primary key (id), check (id >= 500 and id < 600)) inherits (measure)",
    "insert into measure_e (id, note) values (500, 'passing')",
    "drop table measure_e",
  ],
  "one that comes in, is changed and leaves": [
    "alter table aside inherit measure",
    "update aside set note = 'in the tree' where id < 410; insert into aside (id) values (430)",
    "alter table aside no inherit measure",
    "insert into aside (id) values (440)",
  ],
  "one that comes in and stays": ["alter table aside inherit measure", "delete from aside where id = 400"],
  "one that is changed while it is out": [
    "alter table measure_b no inherit measure",
    "delete from measure_b where id < 120; update measure_b set note = 'apart'",
    "alter table measure_b inherit measure",
  ],
  "truncated alone": ["truncate measure_a", "insert into measure_a (id) values (1)"],
  "truncated below one": ["truncate measure_c", "insert into measure_c (id) values (201)"],
  "the root truncated alone": ["truncate only measure", "insert into measure_a (id) values (70)"],
  "all truncated": [
    "truncate measure; insert into measure_b (id) values (102)",
    "insert into measure_a (id) values (1)",
  ],
  dropped: ["drop table measure_a"],
  "columns that come, change and go": [
    "alter table measure add later text default 'since'; insert into measure_b (id, note) values (190, 'later')",
    "alter table measure_c add only_here int; update measure_c set only_here = 1, later = 'c' where id < 230",
    "alter table measure rename note to remark; update measure set remark = 'renamed' where id % 9 = 0",
    "alter table measure drop body; update measure_c set amount = 0 where id < 210",
    "alter table measure alter amount type numeric(12, 3); insert into measure_d (id, amount) values (303, 0.125)",
  ],
};

test.for(Object.entries(HAPPENINGS))("%s, between two looks", { timeout: 120_000 }, async ([, statements]) => {
  await using pipeline = await started();
  let id = 0;
  for (const sql of statements) {
    await pipeline.run(sql);
    await passed(pipeline, id++);
  }
  await eventually(async () => await pipeline.expectEqual(["measure"]), { withinMs: 60_000 });
});

test.for(Object.entries(HAPPENINGS))("%s, while the daemon is killed", { tags: "heavy" }, async ([, statements]) => {
  await using pipeline = await started();
  await pipeline.daemon.kill();
  for (const sql of statements) await pipeline.run(sql);
  await pipeline.start();
  await eventually(async () => await pipeline.expectEqual(["measure"]), { withinMs: 60_000 });
});

test("what rules hide of a table does not go out by the root of a tree into which it comes", async () => {
  const hidden = "update aside set note = 'canary'";
  await using pipeline = await RunningPipeline.start(`${PREPARE}; ${hidden}`, {
    kinds: ["postgres"],
    configure: (config) => ({ ...config, tables: { "public.aside": { columns: { note: { mask: "redact" } } } } }),
  });
  await pipeline.settled();
  await pipeline.run(
    "alter table aside inherit measure; insert into aside (id, note) values (450, 'canary'); insert into measure_a (id) values (90)",
  );
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(tables.suspended.map(({ table, error }) => [table, error.code])).toEqual([["public.measure", "MR1033"]]);
  });
  await pipeline.run("update aside set note = 'canary again'");
  const { rows } = await pipeline.sinks.target!.query("select id from public.measure where note like '%canary%'");
  expect(rows).toEqual([]);
});

/** Statements that a random number chooses; each keeps its rows within one table. */
function statementOf(n: number, round: number): string {
  const [name, from] = [["a", 0] as const, ["b", 100] as const, ["c", 200] as const][n % 3]!;
  const id = from + ((n >> 3) % 90);
  const body = n % 5 === 0 ? `repeat('${round}', 9000)` : `'${round}'`;
  const statements = [
    `insert into measure_${name} (id, note, body) values (${id}, '${round}', ${body}) on conflict (id) do update set note = excluded.note`,
    `update measure set note = '${round}', amount = ${round} where id between ${id} and ${id + 8}`,
    `delete from measure where id between ${id} and ${id + 2}`,
    `begin; delete from measure_${name} where id = ${id}; insert into measure_${name} (id, body) values (${id}, ${body}); commit`,
    `update measure_${name} set id = ${from + 99} where id = ${id} and not exists (select from measure_${name} where id = ${from + 99})`,
    `begin; update measure set body = 'undone' where id < ${id}; rollback`,
    `update measure_c set extra = ${round} where id % 2 = ${n % 2}`,
    `delete from measure where id = ${from + 99}`,
  ];
  return statements[(n >> 10) % statements.length]!;
}

const DDL = [
  "create table measure_x (primary key (id), check (id >= 600 and id < 700)) inherits (measure); insert into measure_x (id) select generate_series(600, 640)",
  "alter table measure_b no inherit measure",
  "delete from measure_b where id % 2 = 0; insert into measure_x (id) values (650)",
  "alter table measure_b inherit measure; update measure set note = 'back' where id between 100 and 130",
  "alter table measure add later int default 7; update measure set later = 8 where id % 4 = 0",
  "truncate measure_x; insert into measure_x (id) select generate_series(610, 615)",
  "alter table measure_c replica identity full; alter table measure_a set (fillfactor = 70)",
  "drop table measure_d; alter table aside add later int; alter table aside inherit measure",
  "alter table measure drop body; alter table measure add body text default 'again'",
];

test("equals the source after a workload with changes of the tree and kills in it", { timeout: 240_000 }, async () => {
  await using pipeline = await started();
  let n = 20_250_707;
  for (const [round, ddl] of DDL.entries()) {
    for (let i = 0; i < 40; i++) {
      n = (Math.imul(n, 1_103_515_245) + 12_345) & 0x7fff_ffff;
      await pipeline.run(statementOf(n, round * 40 + i)).catch((error: unknown) => {
        // What went with the tree's changes.
        if (!/does not exist/.test(String(error))) throw error;
      });
      if (i === 20) await pipeline.run(ddl);
    }
    if (round % 3 === 1) {
      await pipeline.daemon.kill();
      await pipeline.run(statementOf(n + 1, 1_000 + round)).catch(() => undefined);
      await pipeline.start();
    }
    if (round % 4 === 3) await pipeline.readAgain("public.measure").catch(() => undefined);
  }
  await eventually(async () => await pipeline.expectEqual(["measure"]), { withinMs: 90_000 });
  const { exitCode, stdout } = await pipeline.installation.command("reconcile");
  expect({ exitCode }, stdout).toEqual({ exitCode: 0 });
});
