/** Statements that change no row and no shape of what is captured never stop the stream, nor suspend anything. */
import { setTimeout as sleep } from "node:timers/promises";
import { DatabaseError } from "pg";
import { expect, test } from "vitest";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { FreshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

const TABLES = ["flowing", "by_index", "parted"];
/** Rows have to move beside the statements, and behind them. */
const MOVES_MIN = 100;

const PREPARE = `
  create table flowing (id int primary key, n int not null, body text); alter table flowing alter body set storage external;
  create table by_index (id int not null, n int, constraint by_index_key unique (id));
  alter table by_index replica identity using index by_index_key;
  create table parted (id int primary key, n int) partition by range (id);
  create table parted_low partition of parted for values from (0) to (100);
  create table parted_high partition of parted for values from (100) to (100000);
  insert into flowing select g, 0, repeat(md5(g::text), 100) from generate_series(1, 200) g;
  insert into by_index select g, 0 from generate_series(1, 200) g;
  insert into parted select g, 0 from generate_series(1, 200) g;
  create schema elsewhere;
  create table elsewhere.t (id int primary key, v text); insert into elsewhere.t values (1, 'x')`;

/** Each by itself, outside of a transaction. */
const STATEMENTS: Readonly<Record<string, readonly string[]>> = {
  "functions and procedures": [
    "create function doubled(n int) returns int language sql immutable return n * 2",
    "create or replace function doubled(n int) returns int language sql immutable return 2 * n",
    "create procedure nothing() language plpgsql as $$ begin commit; perform 1; end $$",
    "call nothing()",
    "do $$ begin execute 'create table elsewhere.made (id int)'; end $$",
    "create aggregate largest(int) (sfunc = int4larger, stype = int)",
    "create operator === (leftarg = int, rightarg = int, function = int4eq)",
    "drop procedure nothing()",
  ],
  triggers: [
    "create function noted() returns trigger language plpgsql as $$ begin return new; end $$",
    "create trigger noted before insert or update on flowing for each row execute function noted()",
    "create constraint trigger later after update on by_index deferrable initially deferred for each row execute function noted()",
    "alter table flowing disable trigger noted",
    "alter table flowing enable always trigger noted",
    "alter trigger noted on flowing rename to noted_again",
    "create rule quiet as on delete to elsewhere.t do instead nothing",
  ],
  "policies, roles and grants": [
    "create role @role",
    "grant select on flowing to @role",
    "grant update (n) on flowing to @role",
    "revoke all on flowing from @role",
    "alter default privileges in schema elsewhere grant select on tables to @role",
    "create policy some_rows on elsewhere.t using (id > 0)",
    "alter table elsewhere.t enable row level security",
    "alter table elsewhere.t force row level security",
    "alter table elsewhere.t disable row level security",
    "drop owned by @role",
    "drop role @role",
  ],
  "event triggers": [
    "create function seen() returns event_trigger language plpgsql as $$ begin perform count(*) from pg_event_trigger_ddl_commands(); end $$",
    "create event trigger @name_seen on ddl_command_end execute function seen()",
    "create table elsewhere.seen (id int)",
    "alter event trigger @name_seen disable",
    "drop event trigger @name_seen",
  ],
  "extensions and foreign data": [
    "create extension if not exists hstore",
    "create extension if not exists pg_trgm schema elsewhere",
    "alter extension hstore set schema elsewhere",
    "create extension if not exists file_fdw",
    "create server files foreign data wrapper file_fdw",
    "create foreign table elsewhere.lines (line text) server files options (filename '/nowhere')",
    "drop extension hstore cascade",
  ],
  "comments and names": [
    "comment on table flowing is 'it flows'",
    "comment on column flowing.n is 'a number'",
    "comment on column flowing.n is null",
    "alter index flowing_pkey rename to flowing_key",
    "alter table by_index add constraint positive check (id > 0) not valid",
    "alter table by_index validate constraint positive",
    "alter table by_index rename constraint positive to above_zero",
    "alter table by_index drop constraint above_zero",
    "alter schema elsewhere rename to otherwhere",
    "alter schema otherwhere rename to elsewhere",
    "alter table elsewhere.t rename to u",
    "alter table elsewhere.u rename column v to w",
    "alter table elsewhere.u rename to t",
  ],
  "views, sequences and types": [
    "create view flowing_view as select id, n from flowing",
    "create or replace view flowing_view as select id, n, n * 2 as twice from flowing",
    "create materialized view flowing_sums as select n, count(*) from flowing group by n",
    "create unique index on flowing_sums (n)",
    "refresh materialized view concurrently flowing_sums",
    "create sequence counted start 5; select nextval('counted'), setval('counted', 100)",
    "alter sequence counted owned by flowing.n",
    "create type mood as enum ('sad', 'glad')",
    "alter type mood add value 'calm' before 'glad'",
    "create type pair as (a int, b mood); create type spans as range (subtype = float8)",
    "create domain positive as int check (value > 0)",
    'create collation elsewhere.plain from "C"',
    "create text search configuration elsewhere.simple_words (copy = simple)",
    "create statistics flowing_statistics on id, n from flowing",
    "create table elsewhere.moods (id int primary key, m mood, p positive, s spans)",
  ],
  indexes: [
    "create index on flowing (n)",
    "create index concurrently flowing_n_id on flowing (n) include (id) where n > 0",
    "reindex index concurrently flowing_n_id",
    "drop index concurrently flowing_n_id",
    "reindex table concurrently flowing",
    "reindex table concurrently by_index",
    "reindex index concurrently by_index_key",
    "create unique index concurrently by_index_n on by_index ((id + 1))",
    "create index on parted (n)",
  ],
  "publications and subscriptions of others": [
    "create publication others for table flowing (id, n) where (id > 0)",
    "alter publication others set (publish = 'insert')",
    "create publication everything for all tables",
    "drop publication everything",
    "create subscription @name_theirs connection 'host=127.0.0.1 port=1 dbname=x' publication p with (connect = false, slot_name = none)",
    "drop subscription @name_theirs",
    "select pg_create_logical_replication_slot('@name_others', 'test_decoding')",
    "select pg_drop_replication_slot('@name_others')",
    "select pg_logical_emit_message(true, 'millrace', 'somebody else'), pg_logical_emit_message(false, 'other', '')",
  ],
  "storage and maintenance": [
    "alter table flowing set (fillfactor = 70, autovacuum_enabled = false)",
    "alter table flowing reset (fillfactor)",
    "alter table flowing alter n set statistics 500",
    "alter table flowing alter n set (n_distinct = -0.5)",
    "alter table flowing alter body set storage extended",
    "alter table flowing alter body set storage external",
    "alter table flowing alter n set default 3",
    "alter table flowing alter n drop default",
    "alter table flowing cluster on flowing_key",
    "cluster flowing",
    "vacuum full flowing",
    "vacuum (full, analyze) parted_low",
    "vacuum freeze flowing",
    "analyze",
    "select lo_unlink(lo_from_bytea(0, '\\x00ff'))",
    "alter database @name set work_mem = '8MB'",
  ],
  "tables that come and go, or are nobody's": [
    "create temp table flowing (id int primary key, other text); insert into pg_temp.flowing values (1, 'x'); drop table pg_temp.flowing",
    "create unlogged table elsewhere.unlogged (id int primary key); insert into elsewhere.unlogged values (1)",
    "create table keyless (a int); insert into keyless values (1)",
    "begin; create table brief (id int primary key); insert into brief values (1); drop table brief; commit",
    "create table elsewhere.copied as select * from flowing",
    "begin; lock table flowing in access exclusive mode; commit",
    "drop table elsewhere.copied, keyless",
    "notify somebody, 'something'",
  ],
  "changes that are rolled back": [
    "begin; alter table flowing drop column n cascade; insert into flowing (id, body) values (100001, 'never'); rollback",
    "begin; alter table flowing rename to gone; alter table by_index drop constraint by_index_key; rollback",
    "begin; insert into flowing values (100002, 1, 'kept'); savepoint s; alter table flowing add column x int default 1; update flowing set x = 2; rollback to s; insert into flowing values (100003, 1, 'kept'); commit",
    "begin; drop table parted; create table parted (id text primary key); insert into parted values ('x'); rollback",
    "begin; truncate flowing; rollback",
    "begin; drop schema public cascade; rollback",
  ],
};

/** What the server refuses. */
const REFUSED = [
  "alter table flowing add column id int",
  "alter table flowing alter body type int using body::int",
  "alter table flowing add constraint never check (n < 0)",
  "alter table nowhere add column x int",
  "create unique index concurrently flowing_twice on flowing ((id / 2))",
  "begin; set local statement_timeout = 1; alter table flowing add column slow float8 default pg_sleep(1)::text::float8",
  "begin; set local lock_timeout = 1; insert into flowing values (100004, 1, 'never'); alter table flowing add column flowing int; alter table flowing drop column none",
];

/** Rows that move as long as it is not disposed of. */
function moving(source: FreshDatabase): AsyncDisposable & { readonly count: number } {
  let count = 0;
  const over = new AbortController();
  const ended = (async () => {
    await using client = await source.connect();
    for (; !over.signal.aborted; count++) {
      const [id, fresh] = [1 + (count % 200), 1_000 + count];
      await client.query(`update flowing set n = n + 1 where id = ${id}; update parted set n = n + 1 where id = ${id}`);
      await client.query(
        `begin; insert into flowing values (${fresh}, 0, 'b'); insert into by_index values (${fresh}, 0);
         insert into parted values (${fresh}, 0); delete from flowing where id = ${fresh - 50};
         update by_index set n = n + 1 where id = ${id}; commit`,
      );
      await sleep(5);
    }
  })();
  // Told when it is waited for.
  ended.catch(() => undefined);
  return {
    get count() {
      return count;
    },
    async [Symbol.asyncDispose]() {
      over.abort();
      await ended;
    },
  };
}

test("unrelated and exotic statements while rows flow", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: CHOSEN_KINDS,
    configure: (config: PipelineConfig) => ({
      ...config,
      source: { ...config.source, tables: ["public.*", "!public.parted_*"] },
    }),
  });
  const { source, daemon, installation } = pipeline;
  const expectStreaming = async (after: string): Promise<void> => {
    const { sinks, tables } = await installation.status();
    const stopped = sinks.filter(({ state, error }) => state !== "streaming" || error !== null);
    expect({ stopped, suspended: tables.suspended }, after).toEqual({ stopped: [], suspended: [] });
  };
  {
    await using rows = moving(source);
    await using client = await source.connect();
    const run = (sql: string) =>
      client.query(sql.replaceAll("@name", source.name).replaceAll("@role", `${source.name}_role`));
    for (const sql of Object.values(STATEMENTS).flat()) {
      await run(sql).catch((error: unknown) => expect.fail(`${sql}: ${String(error)}`));
      await expectStreaming(sql);
    }
    for (const sql of REFUSED) {
      await expect(run(sql), sql).rejects.toBeInstanceOf(DatabaseError);
      await client.query("rollback");
      await expectStreaming(sql);
    }
    await eventually(() => rows.count > MOVES_MIN, { withinMs: 60_000 });
  }
  await pipeline.expectEqual(TABLES);
  expect(daemon.exited).toBe(false);
  // At the first start, transactions of other tests on this server may be open.
  expect(pipeline.complaints().filter((line) => !line.includes("creating the slot waits"))).toEqual([]);
  const { stdout } = await installation.command("schema", "list", "--json");
  const { tables }: { tables: readonly { table: string; version: number; suspended: string | null }[] } =
    JSON.parse(stdout);
  const versions = tables.filter(({ table }) => TABLES.includes(table.replace("public.", "")));
  expect(versions.map(({ version, suspended }) => [version, suspended])).toEqual(TABLES.map(() => [1, null]));
});
