/**
 * A target that another tool fills is taken over: only what differs is written, readers see every row all the time, and the
 * source's rows are read for the comparison alone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { expect, test } from "vitest";
import { CANARY } from "../../support/daemon/canary.ts";
import { RunningPipeline, type PipelineOptions } from "../../support/daemon/running-pipeline.ts";
import { subscribed } from "../../support/postgres/subscription.ts";
import { type FreshDatabase, freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROWS = 3_000;
const LINES = "create table lines (order_id int, number int, text varchar(20), primary key (order_id, number))";
const ORDERS =
  "create table orders (id int primary key, note text, body text, at timestamp, data jsonb, kind text not null default 'plain')";
const FILL = `insert into orders select g, 'note ' || g, repeat(md5(g::text), 200), '2026-01-01', jsonb_build_object('b', g) from generate_series(1, ${ROWS}) g;
  alter table orders alter column body set storage external;
  insert into lines select g, n, 'line' from generate_series(1, ${ROWS / 10}) g, generate_series(1, 2) n`;
/** Lost, changed and foreign rows; one whose long value no change carries; each of another thousand. */
const PLANTED = `delete from orders where id in (10, 11, 12);
  update orders set note = 'theirs' where id in (20, 21); update orders set body = 'stale' where id = 30;
  insert into orders (id, note) values (-1, 'only here'), (-2, 'only here');
  delete from lines where order_id = 7; insert into lines values (100000, 1, 'only here')`;
const WRITTEN = [10, 11, 12, 20, 21, 30];

interface Adopted extends AsyncDisposable {
  readonly source: FreshDatabase;
  readonly target: FreshDatabase;
  run(options?: PipelineOptions, sink?: object): Promise<RunningPipeline>;
}

/** A target as a native subscription has filled it and left it, with differences. */
async function leftBehind(planted = PLANTED): Promise<Adopted> {
  const source = await freshDatabase();
  const target = await freshDatabase();
  for (const one of [source, target]) await one.query(`${LINES}; ${ORDERS}`);
  await target.query("alter table orders add seen_by text default 'nobody', alter at type timestamp(6)");
  {
    await using _ = await subscribed(source, target, "orders, lines");
    await source.query(FILL);
    await eventually(async () => {
      const { rows } = await target.query("select count(*) from orders union all select count(*) from lines");
      expect(rows.map(({ count }) => Number(count))).toEqual([ROWS, (ROWS / 10) * 2]);
    });
  }
  await target.query(planted);
  const run = (options: PipelineOptions = {}, sink = {}) =>
    RunningPipeline.start("select 1", {
      kinds: [],
      source,
      configure: (config) => ({
        ...config,
        sinks: { copy: { kind: "postgres", url: target.url, onForeign: "adopt", ...sink } },
      }),
      ...options,
    });
  // The pipeline ends with its source.
  return { source, target, run, [Symbol.asyncDispose]: () => target[Symbol.asyncDispose]() };
}

/** The columns that both have. */
async function digests(database: FreshDatabase): Promise<object[]> {
  const orders =
    "select md5(string_agg(t::text, ';' order by id)) from (select id, note, body, at, data from orders) t";
  const lines =
    "select md5(string_agg(t::text, ';' order by t::text)) from (select order_id, number, text from lines) t";
  return (await database.query(`select (${orders}) as orders, (${lines}) as lines`)).rows;
}

/** Whoever reads the target: every row that both sides have is always there. */
async function watched(target: FreshDatabase): Promise<AsyncDisposable & { readonly seen: ReadonlySet<number> }> {
  const client = new Client({ connectionString: target.url });
  await client.connect();
  const seen = new Set<number>();
  const stopping = new AbortController();
  const reading = (async () => {
    while (!stopping.signal.aborted) {
      const { rows } = await client.query("select count(*) from orders where id > 40 and id <= $1", [ROWS]);
      seen.add(Number(rows[0].count));
      await sleep(2);
    }
    await client.end();
  })();
  return {
    seen,
    [Symbol.asyncDispose]: async () => {
      stopping.abort();
      await reading;
    },
  };
}

async function versions(target: FreshDatabase): Promise<ReadonlyMap<number, string>> {
  const { rows } = await target.query<{ id: number; xmin: string }>("select id, xmin from orders where id <= 1000");
  return new Map(rows.map(({ id, xmin }) => [id, xmin]));
}

async function expectTakenOver(adopted: Adopted, pipeline: RunningPipeline, before: ReadonlyMap<number, string>) {
  const { target, source } = adopted;
  await pipeline.settled();
  expect(await digests(target)).toEqual(await digests(source));
  const { rows: others } = await target.query("select seen_by, count(*) from orders group by 1");
  expect(others).toEqual([{ seen_by: "nobody", count: String(ROWS) }]);
  const after = await versions(target);
  const written = [...after].filter(([id, xmin]) => before.get(id) !== xmin).map(([id]) => id);
  expect(written.toSorted((a, b) => a - b)).toEqual([...WRITTEN, ...TOUCHED]);
}

/** What the source changes meanwhile, without the long value; also of a row that the target lacks, and has in an old form. */
const TOUCHED = [40];
const MEANWHILE = "update orders set note = 'moved on' where id in (12, 30, 40)";

test("what a native subscription has left is taken over: only what differs is written, and no reader misses a row", async () => {
  await using adopted = await leftBehind();
  const { target, source } = adopted;
  const before = await versions(target);
  await using watch = await watched(target);
  await using pipeline = await adopted.run();
  await source.query(MEANWHILE);
  await expectTakenOver(adopted, pipeline, before);
  expect([...watch.seen]).toEqual([ROWS - 40]);
  // It streams, and later shapes leave the other program's column alone.
  await source.query(
    "insert into orders (id, note) values (5000, 'new'); alter table orders add extra int, drop kind; update orders set extra = 1 where id in (50, 5000)",
  );
  await pipeline.settled();
  const { rows } = await target.query("select id, extra, seen_by, kind from orders where id in (50, 5000) order by id");
  expect(rows).toEqual([
    { id: 50, extra: 1, seen_by: "nobody", kind: null },
    { id: 5000, extra: 1, seen_by: "nobody", kind: null },
  ]);
  expect((await pipeline.installation.status()).sinks).toMatchObject([{ deadLetters: 0 }]);
  await expect(target.query("insert into orders (id) values (-9)")).rejects.toThrow("_millrace_version");
});

test("rows that only the target has are marked where deletes are soft", { tags: "heavy" }, async () => {
  await using adopted = await leftBehind();
  const { target, source } = adopted;
  await using pipeline = await adopted.run({}, { deletes: "soft" });
  await pipeline.settled();
  const { rows } = await target.query("select id from orders where _millrace_deleted order by id");
  expect(rows.map(({ id }) => id)).toEqual([-2, -1]);
  await target.query("delete from orders where _millrace_deleted; delete from lines where _millrace_deleted");
  expect(await digests(target)).toEqual(await digests(source));
});

test.for([
  "sink.adoption-listed",
  "postgres-sink.table-made",
  "sink.prepared",
  "sink.carried",
  "snapshot.keys-durable",
])("killed at %s, the daemon goes on with the comparison", { tags: "heavy" }, async (where) => {
  await using adopted = await leftBehind();
  const before = await versions(adopted.target);
  const environment = { MILLRACE_FAILPOINTS: `${where}=kill@1` };
  await using pipeline = await adopted.run({ environment, untilStreaming: false });
  await adopted.source.query(MEANWHILE);
  await pipeline.killed(where);
  await pipeline.start();
  await expectTakenOver(adopted, pipeline, before);
});

test("what can't be taken over is refused alone, by check and by the start, and taken over once that is done", async () => {
  await using adopted = await leftBehind("select 1");
  const { target, source } = adopted;
  await source.query(
    "create table other (id int primary key, v text); create table keyless (id int primary key); create table free (id int primary key)",
  );
  await target.query(
    `create table other (id int primary key, v int); create table keyless (id int); create table free (id int primary key, must int not null);
     alter table lines add foreign key (order_id) references orders not valid`,
  );
  await target.query("insert into free values (1, 1)");
  const live = await subscribed(source, target, "free");
  // A sink that leads to its own source would write to the captured tables.
  const own = { kind: "postgres", url: source.url, tables: ["public.orders"], onForeign: "adopt" };
  await using pipeline = await adopted.run({
    configure: (config) => ({
      ...config,
      sinks: { copy: { kind: "postgres", url: target.url, onForeign: "adopt" }, own },
    }),
  });
  const { installation } = pipeline;
  const suspended = async (sink = "copy") => {
    const found = (await installation.status()).tables.suspended
      .filter((one) => one.sink === sink)
      .map(({ table, error }) => ({
        table,
        code: error.code,
        message: error.message,
      }));
    return found.toSorted((a, b) => a.table.localeCompare(b.table));
  };
  const reference = 'a foreign key of or to "public"';
  await eventually(async () =>
    expect(await suspended()).toMatchObject([
      { table: "public.free", code: "MR3123", message: expect.stringContaining("still writes to") },
      { table: "public.keyless", code: "MR3107", message: expect.stringContaining('no primary key over "id"') },
      { table: "public.lines", code: "MR3123", message: expect.stringContaining(reference) },
      { table: "public.orders", code: "MR3123", message: expect.stringContaining(reference) },
      {
        table: "public.other",
        code: "MR3107",
        message: expect.stringContaining("is integer in the target and should be text"),
      },
    ]),
  );
  await eventually(async () =>
    expect(await suspended("own")).toMatchObject([
      { code: "MR3123", message: expect.stringContaining("may be a captured table itself") },
    ]),
  );
  const { stdout } = await installation.command("check", "--json");
  const checked: { findings: { part: string; level: string; fix: string }[] } = JSON.parse(stdout);
  const fixes = checked.findings
    .filter(({ part, level }) => part === "copy" && level === "error")
    .map(({ fix }) => fix);
  expect(fixes).toHaveLength(6);
  await live[Symbol.asyncDispose]();
  const before = await versions(target);
  const statements = fixes.flatMap((fix) => /^ALTER TABLE [^;]*;/.exec(fix)?.[0] ?? []);
  await target.query([...new Set(statements), "ALTER TABLE keyless ADD PRIMARY KEY (id)"].join(" "));
  await pipeline.readAgain(...["free", "keyless", "lines", "orders", "other"].map((table) => `public.${table}`));
  await eventually(async () => expect(await suspended()).toEqual([]));
  expect(await installation.command("wait", "--sink", "copy")).toMatchObject({ exitCode: 0 });
  expect(await digests(target)).toEqual(await digests(source));
  expect(await versions(target)).toEqual(before);
  expect((await target.query("select count(*) from free")).rows).toEqual([{ count: "0" }]);
});

test("a table that shows what rules hide at the source is not taken over before it lacks that", async () => {
  await using adopted = await leftBehind("select 1");
  const { target, source } = adopted;
  const users = `create table users (id int primary key, mail text, phone text, note text);
    insert into users values (1, 'm@${CANARY}', 'p${CANARY}', 'n'), (2, 'm@${CANARY}', 'p${CANARY}', 'n')`;
  for (const one of [source, target]) await one.query(users);
  await source.query("delete from users where id = 2");
  const tables = { "public.users": { columns: { only: ["id", "mail", "note"], mail: { mask: "redact" } } } };
  await using pipeline = await adopted.run({
    configure: (config) => ({
      ...config,
      tables,
      sinks: { copy: { kind: "postgres", url: target.url, onForeign: "adopt" } },
    }),
  });
  const { installation } = pipeline;
  const what = '"public"."users"."phone" has what the rules hide at the source';
  const fix = 'ALTER TABLE "public"."users" DROP COLUMN "phone";';
  await eventually(async () => {
    const { suspended } = (await installation.status()).tables;
    expect(suspended).toMatchObject([{ table: "public.users", error: { code: "MR3123" } }]);
    expect(suspended[0]!.error.message).toContain(what);
  });
  const { stdout } = await installation.command("check", "--json");
  expect(JSON.parse(stdout).findings).toContainEqual(expect.objectContaining({ level: "error", what, fix }));
  await target.query(fix);
  await pipeline.readAgain("public.users");
  await eventually(async () => expect((await installation.status()).tables.suspended).toEqual([]));
  await pipeline.settled();
  const { rows } = await target.query(
    "select to_jsonb(u) - '_millrace_version' - '_millrace_commit_time' as row from users u",
  );
  expect(rows).toEqual([{ row: { id: 1, mail: "[redacted]", note: "n" } }]);
});
