/** Tables whose shape changes: the sinks follow; what can't be followed is suspended alone. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { FreshDatabase } from "../../support/run/services.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

/** The search engine is by far the slowest; what happens while the daemon is down reaches it in test/fault/kill/shapes too. */

let pipeline: RunningPipeline;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(`
    create table growing (id int primary key, body text);
    create table parted (id int primary key, body text) partition by range (id);
    create table parted_low partition of parted for values from (0) to (100);
    create table parted_high partition of parted for values from (100) to (1000);
    create table steady (id int primary key, n int);
    create table unkeyed (id int primary key, a text);
    insert into growing select g, repeat(md5(g::text), 100) from generate_series(1, 200) g;
    insert into parted select g, 'x' from generate_series(1, 150) g;
    insert into steady select g, 0 from generate_series(1, 10) g;
    insert into unkeyed select g, 'a' from generate_series(1, 10) g`);
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

test("added columns arrive with what the source gave to the rows that were there", async () => {
  await pipeline.run("alter table growing add column plain int; insert into growing values (1000, 'x', 1)");
  await pipeline.expectEqual(["growing"]);
  await pipeline.run(`alter table growing add column constant text not null default 'given', add column volatile float8 default random(),
    add column "when" timestamptz default clock_timestamp(), add column doubled int generated always as (id * 2) stored`);
  await pipeline.run("update growing set plain = 5 where id = 3");
  await pipeline.expectEqual(["growing"]);
  await pipeline.run(`begin; insert into growing (id) values (2000); alter table growing add column late inet default '10.0.0.1';
    insert into growing (id) values (2001); alter table growing add column later numeric default 1.50; update growing set body = 'y' where id < 5; commit`);
  await pipeline.expectEqual(["growing"]);
  await pipeline.run(
    "alter table parted add column extra text default 'e'; update parted set body = 'y' where id in (5, 105)",
  );
  await pipeline.expectEqual(["parted", "steady"]);
});

test(
  "values of a composite type are written anew when its attributes change, though no row moves",
  { tags: "long" },
  async () => {
    await pipeline.run(`create type place as (x int, label text); create type trip as (places place[], n int);
    create table placed (id int primary key, at place, trips trip[]);
    insert into placed select g, '(1,a)', array[row(array['(2,b)'::place], g)::trip] from generate_series(1, 20) g`);
    await pipeline.expectEqual(["placed"]);
    await pipeline.run("alter type place add attribute z int cascade");
    await pipeline.expectEqual(["placed"]);
    // The same types in the same order, and other values.
    await pipeline.run("alter type place drop attribute label; alter type place add attribute label text");
    await pipeline.expectEqual(["placed"]);
  },
);

test("a label is renamed under all types that are built on its enum, also while the daemon is down", async () => {
  const types = {
    plain: ["mood", "'mid'"],
    several: ["mood[][]", "'{{low,mid}}'"],
    narrow: ["mood_domain", "'mid'"],
    pair: ["mood_pair", "'(mid,{high})'"],
    span: ["mood_range", "mood_range('low', 'mid')"],
    spans: ["mood_multirange", "'{[low,mid]}'"],
    span_list: ["mood_range[]", "array[mood_range('mid', null)]"],
    span_domain: ["range_domain", "'(mid,high]'"],
    domain_span: ["domain_range", "'[low,mid]'"],
    pair_span: ["pair_range", "pair_range('(mid,{})', null)"],
    deep: ["deep[]", "array[row(array['[mid,high)'::range_domain], array['{[low,mid]}'::mood_multirange])::deep]"],
  };
  const columns = Object.entries(types).map(([name, [type]]) => `${name} ${type}`);
  await pipeline.run(`create type mood as enum ('low', 'mid', 'high'); create domain mood_domain as mood check (value <> 'high');
    create type mood_pair as (one mood, others mood[]); create type mood_range as range (subtype = mood);
    create domain range_domain as mood_range; create type domain_range as range (subtype = mood_domain);
    create type pair_range as range (subtype = mood_pair); create type deep as (spans range_domain[], more mood_multirange[]);
    create table moody (id int primary key, ${columns.join(", ")});
    create table moody_key (span mood_range primary key, v int);
    insert into moody select g, ${Object.values(types)
      .map(([, value]) => value)
      .join(", ")} from generate_series(1, 5) g;
    insert into moody_key values ('[low,mid]', 1), ('[mid,high)', 2)`);
  await pipeline.expectEqual(["moody", "moody_key"]);
  await pipeline.run("alter type mood rename value 'mid' to 'm'");
  await pipeline.expectEqual(["moody", "moody_key"]);
  await pipeline.daemon.stop();
  await pipeline.run("alter type mood rename value 'low' to 'middle'; alter type mood rename value 'm' to 'low'");
  await pipeline.start();
  await pipeline.expectEqual(["moody", "moody_key"]);
});

/** What happens to tables of (id int primary key, a text, b int, body text), and what it does to `id` 1 to 300. */
const CHANGES: Readonly<Record<string, readonly string[]>> = {
  add_nothing: ["alter table @ add column extra int"],
  add_constant: ["alter table @ add column extra int default 5", "alter table @ alter extra set default 9"],
  add_volatile: ["alter table @ add column extra float8 default random()"],
  drop_column: ["alter table @ drop column b"],
  drop_and_add: ["alter table @ drop column b", "alter table @ add column b int"],
  rename_column: ["alter table @ rename column a to z"],
  swap_columns: [
    "begin; alter table @ rename column a to x; alter table @ rename column b to a; alter table @ rename column x to b; commit",
  ],
  swap_alike: [
    "begin; alter table @ rename column a to x; alter table @ rename column body to a; alter table @ rename column x to body; commit",
  ],
  widen: ["alter table @ alter b type bigint"],
  widen_key: ["alter table @ alter id type bigint"],
  to_text: ["alter table @ alter b type text using 'n' || b"],
  from_text: ["alter table @ alter a type int using length(a)"],
  rewritten: ["alter table @ alter b type int using b * 2"],
  not_null: ["alter table @ alter b set not null", "alter table @ alter b drop not null"],
  other_key: ["begin; alter table @ drop constraint @_pkey; alter table @ add primary key (b, id); commit"],
  smaller_key: [
    "begin; alter table @ drop constraint @_pkey; alter table @ alter b set not null; alter table @ add primary key (b); commit",
  ],
  rolled_back: ["begin; alter table @ drop column b; insert into @ (id) values (5000); rollback"],
  everything: [
    "begin; insert into @ values (4001, 'x', 4001, 'y'); alter table @ add column extra text default 'e'; insert into @ values (4002, 'x', 4002, 'y', 'z'); alter table @ drop column a; insert into @ values (4003, 4003, 'y', 'z'); alter table @ rename column b to n; update @ set n = n + 10000 where id < 20; commit",
  ],
};

const NAMES = Object.keys(CHANGES);

async function makeTables(source: FreshDatabase): Promise<void> {
  for (const name of NAMES) {
    await source.query(`create table ${name} (id int primary key, a text, b int, body text);
      insert into ${name} select g, 'a' || g, g, repeat(md5(g::text), 100) from generate_series(1, 300) g`);
  }
}

const change = async (source: FreshDatabase, name: string): Promise<void> => {
  for (const sql of CHANGES[name]!) await source.query(sql.replaceAll("@", name));
};

/** Rows that move before and after the change, whatever columns there are; large values stay as they were. */
const moveRows = async (source: FreshDatabase, name: string, from: number): Promise<void> => {
  const { rows } = await source.query<{ column: string }>(
    `select attname as column from pg_attribute where attrelid = '${name}'::regclass and attnum > 0 and not attisdropped and attname not in ('id', 'body') order by attnum limit 1`,
  );
  const column = rows[0]!.column;
  await source.query(`update ${name} set "${column}" = "${column}" where id between ${from} and ${from + 20};
    delete from ${name} where id = ${from + 30}; update ${name} set id = id + 1000 where id = ${from + 40}`);
};

test("sinks follow every change of shape, whether rows move after it or not", async () => {
  await using moving = await RunningPipeline.start(makeTables);
  const { source } = moving;
  for (const name of NAMES) {
    await moveRows(source, name, 1);
    await change(source, name);
    if (NAMES.indexOf(name) % 2 === 0) await moveRows(source, name, 100);
  }
  await moving.expectEqual(NAMES);
  for (const name of NAMES) await moveRows(source, name, 200);
  await moving.expectEqual(NAMES);
});

test("changes that happened while the daemon was down, and two of them at once", { tags: "long" }, async () => {
  await using moving = await RunningPipeline.start(makeTables, { kinds: CHOSEN_KINDS });
  const { source } = moving;
  await moving.daemon.stop();
  for (const name of NAMES) {
    await moveRows(source, name, 1);
    await change(source, name);
    await moveRows(source, name, 100);
  }
  for (const name of NAMES) {
    await source.query(
      `alter table ${name} rename column body to text; alter table ${name} add column later int default 3`,
    );
  }
  await moving.start();
  await moving.expectEqual(NAMES);
});

test("tables that are renamed, swapped and made anew", { tags: "heavy" }, async () => {
  await using moving = await RunningPipeline.start(
    `create table one (id int primary key, a text); create table two (id int primary key, n int, a text);
     insert into one select g, 'one' from generate_series(1, 100) g; insert into two select g, g, 'two' from generate_series(50, 200) g;
     create table other (id int primary key, a text); insert into other select g, 'o' from generate_series(1, 50) g`,
  );
  const { source } = moving;
  await source.query(
    "begin; alter table one rename to three; alter table two rename to one; alter table three rename to two; commit",
  );
  await source.query("alter table other rename to another");
  await moving.expectEqual(["one", "two", "another"]);
  await source.query(
    "update one set a = 'was two' where id < 60; update two set a = 'was one' where id < 10; insert into another values (1000, 'x')",
  );
  await source.query(
    "drop table one; create table one (key text primary key, b bytea); insert into one values ('k', 'v')",
  );
  await moving.expectEqual(["one", "two", "another"]);

  // What moves in between lies under the other name.
  await source.query(
    "begin; alter table two rename to away; insert into away (id) values (5000); alter table away rename to two; commit",
  );
  await source.query("alter table another rename to afar");
  await source.query("insert into afar values (5000, 'x'); delete from afar where id < 10");
  await source.query("alter table afar rename to another; update another set a = 'y' where id = 20");
  await moving.expectEqual(["one", "two", "another"]);
});

test("changes that have to wait, and columns that go with the source's", { tags: "heavy" }, async () => {
  // A name that is approved is no glob: `wait*` says nothing of the others.
  const held = ["wait*", "wait?", "waits"];
  const names = [...held, "only_safe", "goes"];
  await using waiting = await RunningPipeline.start(
    names
      .map(
        (name) =>
          `create table "${name}" (id int primary key, a text, b int); insert into "${name}" values (1, 'x', 1)`,
      )
      .join(";"),
    {
      kinds: ["postgres", "duckdb"],
      configure: (config) => ({
        ...config,
        tables: {
          "public.wait*": { schemaChange: "pause" },
          "public.only_*": { compatibility: "backward" },
          "public.goes": { droppedColumns: "drop" },
        },
      }),
    },
  );
  const expectSuspended = (...left: readonly string[]) =>
    eventually(async () => {
      const { suspended } = (await waiting.installation.status()).tables;
      const told = suspended.map(({ table, error }) => `${table} ${error.code}`).toSorted();
      expect(told).toEqual(left.map((name) => `public.${name} MR1303`));
    });
  for (const name of names)
    await waiting.run(`alter table "${name}" add column c text; insert into "${name}" values (2, 'y', 2, 'z')`);
  await waiting.run("alter table goes drop column a");
  await expectSuspended(...held);
  const shown = await waiting.installation.command("schema", "list");
  expect(shown.stdout).toContain('column added: "c" text');
  for (const [i, name] of held.entries()) {
    expect(await waiting.installation.command("schema", "approve", `public.${name}`)).toMatchObject({ exitCode: 0 });
    await expectSuspended(...held.slice(i + 1));
    await eventually(async () => {
      const { rows } = await waiting.sinks.target!.query<{ count: string }>(`select count(*) from public."${name}"`);
      expect(rows).toEqual([{ count: "2" }]);
    });
    for (const other of held.slice(i + 1)) {
      const { rows } = await waiting.sinks.target!.query<{ count: string }>(`select count(*) from public."${other}"`);
      expect({ other, rows }).toEqual({ other, rows: [{ count: "1" }] });
    }
  }
  await waiting.expectEqual(names);
  const { rows } = await waiting.sinks.target!.query<{ columns: string }>(
    "select string_agg(column_name, ',' order by column_name) as columns from information_schema.columns where table_name = 'goes'",
  );
  expect(rows[0]?.columns).toBe("_millrace_commit_time,_millrace_version,b,c,id");

  await waiting.run("alter table only_safe alter b type bigint; insert into only_safe values (3, 'y', 3, 'z')");
  await waiting.expectEqual(["only_safe"]);
  await waiting.run("alter table only_safe alter b type text; insert into only_safe values (4, 'y', 'four', 'z')");
  await expectSuspended("only_safe");
  expect(await waiting.installation.command("schema", "approve", "public.goes")).toMatchObject({ exitCode: 1 });
  const told = await waiting.installation.command("schema", "diff", "public.only_safe", "3", "4");
  expect(told.stdout).toContain('type changed: "b" from bigint to text');
  const before = await waiting.installation.command("schema", "show", "public.only_safe", "1", "--json");
  expect(JSON.parse(before.stdout)).toMatchObject({ version: 1, versions: [1, 2, 3, 4], key: ["id"], retired: [] });
  const goes = await waiting.installation.command("schema", "show", "public.goes");
  expect(goes.stdout).toContain("retired: a");
  expect(await waiting.installation.command("schema", "approve", "public.only_safe")).toMatchObject({ exitCode: 0 });
  await waiting.expectEqual(names);
});

test("a table that was dropped while its change waited stands in nobody's way", { tags: "long" }, async () => {
  await using waiting = await RunningPipeline.start(
    "create table held (id int primary key); create table other (id int primary key)",
    {
      kinds: ["postgres"],
      configure: (config) => ({ ...config, tables: { "public.held": { schemaChange: "pause" } } }),
    },
  );
  await waiting.run("alter table held add column a int; insert into held values (1, 1)");
  await eventually(async () => {
    expect((await waiting.installation.status()).tables.suspended).toMatchObject([{ table: "public.held" }]);
  });
  await waiting.daemon.stop();
  const held = await waiting.installation.command("run", "--once");
  expect(held, held.stderr).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("public.held is suspended") });
  await waiting.run("drop table held; insert into other values (1)");
  const dropped = await waiting.installation.command("run", "--once");
  expect(dropped, dropped.stdout).toMatchObject({ exitCode: 0 });
});

test(
  "a table that loses its key is suspended; the others go on, and it is reinstated when it has one",
  { tags: "heavy" },
  async () => {
    await pipeline.run("alter table unkeyed drop constraint unkeyed_pkey; insert into unkeyed values (11, 'x')");
    await pipeline.run("update steady set n = n + 1");
    await eventually(async () => {
      const { tables } = await pipeline.installation.status();
      expect(tables.suspended.map(({ table }) => table)).toEqual(["public.unkeyed"]);
    });
    const waited = await pipeline.installation.ask<{ missing: readonly string[] }>("POST", "/api/v1/wait", {
      timeoutMs: 3_000,
    });
    expect(waited?.missing.join()).toContain("public.unkeyed");
    const unkeyed = await pipeline.installation.command("snapshot", "start", "--tables", "public.unkeyed");
    expect(unkeyed).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1309") });
    await pipeline.run("alter table unkeyed add primary key (id); update unkeyed set a = 'keyed' where id = 3");
    await eventually(async () => expect((await pipeline.installation.status()).tables.suspended).toEqual([]));
    await pipeline.expectEqual(["unkeyed", "steady", "growing", "parted"]);
    // Of a table that is gone nobody waits for anything.
    await pipeline.run("alter table unkeyed drop constraint unkeyed_pkey; insert into unkeyed values (12, 'x')");
    await eventually(async () => expect((await pipeline.installation.status()).tables.suspended).toHaveLength(1));
    await pipeline.run("drop table unkeyed");
    await pipeline.expectEqual(["steady"]);
    expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
  },
);

test(
  "tables that change while the slot is made, and while the first copy is on its way",
  { tags: "long" },
  async () => {
    let blocker: (Client & AsyncDisposable) | undefined;
    let writer: (Client & AsyncDisposable) | undefined;
    await using copying = await RunningPipeline.start(
      async (source) => {
        await source.query(`create table rewritten (id int primary key, n int, body text);
        insert into rewritten select g, g, 'old' from generate_series(1, 100) g;
        create table retyped (id int primary key, n int); insert into retyped select g, g from generate_series(1, 100) g;
        create table before (id int primary key, n int); insert into before select g, g from generate_series(1, 100) g;
        create table other (id int primary key); insert into other select generate_series(1, 100)`);
        writer = await source.connect();
        blocker = await source.connect();
        // The slot waits for this transaction.
        await writer.query("begin; insert into other values (1000)");
      },
      { untilStreaming: false },
    );
    const { source } = copying;
    await eventually(
      async () => {
        const { rows } = await source.query("select from pg_replication_slots where database = current_database()");
        return rows.length > 0;
      },
      { withinMs: 30_000 },
    );
    await using held = blocker!;
    await using writing = writer!;
    await source.query("alter table before alter n type bigint, add column made timestamptz default clock_timestamp()");
    await writing.query("commit");
    const made =
      "select from pg_replication_slots where database = current_database() and confirmed_flush_lsn is not null";
    await eventually(async () => (await source.query(made)).rows.length > 0, { everyMs: 2 });
    await held.query("begin; lock table rewritten, retyped in access exclusive mode");
    const waits =
      "select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())";
    await eventually(async () => (await source.query(waits)).rows.length > 0);
    await held.query(
      "alter table rewritten add column made timestamptz default clock_timestamp(); update rewritten set body = 'new' where id < 10",
    );
    await held.query("alter table retyped alter n type bigint; insert into retyped values (1000, 5000000000)");
    await held.query("commit");
    await source.query("insert into rewritten (id, n, body) values (101, 1, 'later')");
    await copying.daemon.streaming();
    const { folder } = copying.installation;
    await eventually(
      async () => {
        const differences = await copying.sinks.differences(source.url, folder, [
          "before",
          "rewritten",
          "retyped",
          "other",
        ]);
        expect(differences).toEqual([]);
      },
      { withinMs: 20_000 },
    );
  },
);

test("rows that wait to be read under a table's former key stand in nobody's way", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(
    `create table item (id text primary key, n int not null); insert into item select 'i' || g, g from generate_series(1, 20) g`,
    { kinds: ["redis"] },
  );
  await pipeline.settled();
  await pipeline.daemon.stop();
  // As a sink lists them that lacks the rows which changes build on.
  const state = new DatabaseSync(join(pipeline.installation.folder, ".millrace", `${pipeline.installation.name}.db`));
  const list = state.prepare(
    "insert into pending_key (sink, table_id, key, shape) values ('redis', 'public.item', ?, ?)",
  );
  list.run('["i1"]', "of the former key");
  list.run('["i2","x"]', "");
  state.close();
  await pipeline.run(
    "alter table item drop constraint item_pkey; alter table item add primary key (n); update item set id = 'j' where n = 3",
  );
  await pipeline.start();
  await pipeline.expectEqual(["item"]);
  expect((await pipeline.installation.status()).unfinishedSnapshots).toBe(0);
});
