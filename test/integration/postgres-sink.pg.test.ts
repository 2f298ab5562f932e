/** What only a Postgres target has: its own indexes, constraints and triggers, lost COMMITs, declared types. */
import { Client } from "pg";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Batch } from "../../src/core/model/batch.ts";
import { factory } from "../../connectors/postgres/sink/config.ts";
import { PostgresSink } from "../../connectors/postgres/sink/sink.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import {
  checkpointAt,
  failure,
  patch,
  put,
  remove,
  Reports,
  rowsBatch,
  timeout,
  UNCHANGED,
  type Write,
} from "../conformance/stage.ts";
import { blockOf, type Change, tableVersion, writesOf } from "../support/model/blocks.ts";
import { type FreshDatabase, freshDatabase, ownPostgres } from "../support/run/services.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { eventually } from "../support/run/waiting.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";

const people = tableVersion({ table: "people", columns: { id: "integer", email: "text", bio: "text" } });

async function opened(
  database: FreshDatabase,
  tables: readonly TableVersion[],
  schema?: string,
  form = DEFAULT_FORM,
): Promise<PostgresSink> {
  const address = parsePostgresUrl(database.url);
  const sink = new PostgresSink({ name: "replica", checkpointName: "shop/replica", address, schema, form });
  onTestFinished(() => sink.close());
  await sink.open(1, timeout());
  for (const table of tables) await sink.prepare([table], timeout());
  return sink;
}

async function apply(sink: PostgresSink, batch: Batch): Promise<Reports> {
  const reports = new Reports();
  await sink.apply(batch, reports, timeout());
  return reports;
}

async function rowsOf(database: FreshDatabase, sql: string): Promise<unknown[][]> {
  const { rows } = await database.query<Record<string, unknown>>(sql);
  return rows.map((row) => Object.values(row));
}

const PEOPLE = "select id, email, bio from people order by id";

test("columns that somebody made NOT NULL stand in no soft delete's way", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database, [people], undefined, { ...DEFAULT_FORM, deletes: "soft" });
  await database.query("alter table people alter email set not null, add other text not null default ''");
  const ids = Array.from({ length: 40 }, (_, i) => `${i}`);
  await apply(sink, rowsBatch(10n, [people, ids.map((id) => put([id, "a", null]))]));
  const removals = ["3", "99"].map((id) => remove([id, null, null]));
  const few = await apply(sink, rowsBatch(20n, [people, removals]));
  const many = await apply(sink, rowsBatch(30n, [people, ids.map((id) => remove([`${Number(id) * 2}`, null, null]))]));
  expect([...few.poisons, ...many.poisons]).toEqual([]);
  expect(await rowsOf(database, "select count(*)::int from people where _millrace_deleted")).toEqual([[21]]);
});

describe("batches of many tables", () => {
  const tables = Array.from({ length: 270 }, (_, i) => tableVersion({ table: `many${i}`, columns: { id: "integer" } }));
  const STAGES = "select count(*)::int from pg_class where relname like 'millrace_stage_%'";
  const each = (version: bigint, some: readonly TableVersion[], ids: readonly number[]): Batch =>
    rowsBatch(version, ...some.map((table) => [table, ids.map((id) => remove([`${id}`]))] as const));

  test("make no staging table for a row or two, and keep few of those that larger ones need", async () => {
    await using database = await freshDatabase();
    const sink = await opened(database, []);
    await sink.prepare(tables, timeout());
    const rows = tables.map(
      ({ table }) => `insert into ${table} (id, _millrace_version) select g, 0 from generate_series(1, 7) g`,
    );
    await database.query(rows.join(";"));
    await apply(sink, each(10n, tables.slice(0, 100), [1]));
    expect(await rowsOf(database, STAGES)).toEqual([[0]]);
    for (let i = 0; i < 3; i++)
      await apply(sink, each(20n + BigInt(i), tables.slice(i * 90, i * 90 + 90), [2, 3, 4, 5, 6]));
    expect(await rowsOf(database, STAGES)).toEqual([[250]]);
    expect(await rowsOf(database, "select count(*)::int from many0")).toEqual([[1]]);
    expect(await rowsOf(database, "select count(*)::int from many269")).toEqual([[2]]);
  });

  test("for which a target has no room for locks name the setting that has it, and are looked at in parts", async () => {
    await using server = await ownPostgres({ settings: { max_locks_per_transaction: 10, max_connections: 20 } });
    await using database = await freshDatabase(server);
    const wide = tables
      .slice(0, 250)
      .map(({ table }) => tableVersion({ table, columns: { id: "integer", v: "text" } }));
    const sink = await opened(database, []);
    await sink.prepare(wide, timeout());
    const rows = ["1", "2", "3", "4", "5", "6"].map((id) => put([id, "a"]));
    const all = (some: readonly TableVersion[]): Batch =>
      rowsBatch(10n, ...some.map((table) => [table, rows] as const));
    // Somebody holds all locks that the server can take, but for some: it has memory for more than it promises.
    await using other = await database.connect();
    const everything = "select pg_advisory_lock(g) from generate_series(1, 1000000) g";
    await expect(other.query(everything)).rejects.toMatchObject({ code: "53200" });
    // A session takes a lock too.
    const opening = await failure(sink.open(2, timeout()));
    expect([opening.code, opening.hint]).toEqual(["MR2006", expect.stringContaining("max_locks_per_transaction")]);
    await other.query("select pg_advisory_unlock(g) from generate_series(1, 500) g");
    await sink.open(2, timeout());
    const whole = await failure(apply(sink, all(wide)));
    const told =
      /is 10, for each of 40 sessions .* and 250 tables at once take up to 1755 locks\. .*: ALTER SYSTEM SET max_locks_per_transaction = 54, and/;
    expect([whole.code, whole.hint]).toEqual(["MR2006", expect.stringMatching(told)]);
    // A smaller step that follows needs what a whole one does.
    expect((await failure(apply(sink, all(wide.slice(0, 200))))).hint).toMatch(told);
    await apply(sink, all(wide.slice(0, 20)));
    expect(await rowsOf(database, "select count(*)::int from many19")).toEqual([[6]]);
    // Room for 300 locks: those of 150 tables and their keys.
    await other.query("select pg_advisory_lock(g) from generate_series(1, 200) g");
    await sink.verify(timeout());
    // For those of 50.
    await other.query("select pg_advisory_lock(g) from generate_series(201, 400) g");
    await sink.expel(wide, 5n, timeout());
    expect(await rowsOf(database, "select count(*)::int from many19")).toEqual([[0]]);
  });
});

describe("a second unique index in the target", () => {
  test("does not stop two rows from swapping their values", async () => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people]);
    await database.query("create unique index on people (email)");
    await apply(sink, rowsBatch(10n, [people, [put(["1", "a", "x"]), put(["2", "b", "y"]), put(["3", "c", "z"])]]));
    const reports = await apply(
      sink,
      rowsBatch(20n, [people, [put(["1", "b", "x"]), patch(["2", "c", UNCHANGED]), put(["3", "a", "z"])]]),
    );
    expect(reports.poisons).toEqual([]);
    expect(await rowsOf(database, PEOPLE)).toEqual([
      [1, "b", "x"],
      [2, "c", "y"],
      [3, "a", "z"],
    ]);
  });

  test("takes a value that another row gives up in the same step, in steps of any size", async () => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people]);
    await database.query("create unique index on people (email)");
    const ids = Array.from({ length: 100 }, (_, i) => i);
    await apply(sink, rowsBatch(10n, [people, ids.map((i) => put([`${i}`, `m${i}`, null], { fresh: true }))]));
    // Every mail moves to the next row; a new row takes the last one.
    const moved = ids.map((i) => put([`${i}`, `m${i - 1}`, null]));
    await apply(sink, rowsBatch(20n, [people, [...moved, put(["100", "m99", null], { fresh: true })]]));
    expect(await rowsOf(database, "select count(*)::int from people where email = 'm' || (id - 1)")).toEqual([[101]]);
    await apply(sink, rowsBatch(30n, [people, [remove(["0", null, null]), put(["200", "m-1", null])]]));
    expect(await rowsOf(database, "select id from people where email = 'm-1'")).toEqual([[200]]);
  });

  test("refuses one row, where it is really broken", async () => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people]);
    await database.query("create unique index on people (email)");
    await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
    const { poisons } = await apply(sink, rowsBatch(20n, [people, [put(["2", "a", null]), put(["3", "c", null])]]));
    expect(poisons.map(({ entry, error }) => [entry, error.code])).toEqual([[0, "MR3111"]]);
    expect(poisons[0]?.error.message).toContain("people_email_idx");
    expect(await rowsOf(database, "select id from people order by id")).toEqual([[1], [3]]);
  });
});

describe("many updates at once write each row once, of rows that are", () => {
  const prices = tableVersion({ table: "prices", columns: { amount: "numeric", label: "text" } });
  const ids = Array.from({ length: 100 }, (_, i) => i);
  const newer = `update prices set label = 'newer', _millrace_version = ${rowVersion(1, 30n)} where amount = 4`;

  test.each<[string, string, Write[], [string, number][]]>([
    ["all there", "", [], [["updated", 100]]],
    ["partly gone", "delete from prices where amount in (3, 5)", [], [["updated", 100]]],
    [
      "partly newer",
      newer,
      [],
      [
        ["newer", 1],
        ["updated", 99],
      ],
    ],
    // 7 and 7.0 are one key here, though not in the log's bytes.
    [
      "named by two entries",
      "",
      [put(["7.0", "last"], { at: 21n })],
      [
        ["last", 1],
        ["updated", 99],
      ],
    ],
  ])("%s", async (_, change, more, expected) => {
    await using database = await freshDatabase();
    const sink = await opened(database, [prices]);
    await apply(sink, rowsBatch(10n, [prices, ids.map((i) => put([`${i}`, "old"], { fresh: true }))]));
    await database.query(`
      ${change};
      create table effects (n int);
      create function count_effect() returns trigger language plpgsql set search_path = public as $$
        begin insert into effects values (1); return null; end $$;
      create trigger count_effect after insert or update on prices for each row execute function count_effect();`);
    const updates = ids.map((i) => put([`${i}`, "updated"], { at: 20n }));
    await apply(sink, rowsBatch(40n, [prices, [...updates, ...more]]));
    const labels = await rowsOf(database, "select label, count(*)::int from prices group by 1 order by 1");
    expect(labels).toEqual(expected);
    const written = expected.filter(([label]) => label !== "newer").reduce((sum, [, count]) => sum + count, 0);
    expect(await rowsOf(database, "select count(*)::int from effects")).toEqual([[written]]);
  });
});

test("rows that a constraint or a trigger of the target refuses are reported without their values", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database, [people]);
  await database.query(`
    alter table people add check (bio <> 'secret-bio');
    create function no_root() returns trigger language plpgsql as $$
      begin if new.email = 'secret-root' then raise exception 'no % here', new.email; end if; return new; end $$;
    create trigger no_root before insert or update on people for each row execute function no_root();`);
  const ids = Array.from({ length: 200 }, (_, i) => i);
  const cells = (i: number) => [`${i}`, i === 41 ? "secret-root" : `m${i}`, i === 7 ? "secret-bio" : null];
  for (const at of [10n, 20n]) {
    const fresh = at === 10n;
    const { poisons } = await apply(sink, rowsBatch(at, [people, ids.map((i) => put(cells(i), { fresh }))]));
    expect(poisons.map((report) => report.entry).toSorted((a, b) => a - b)).toEqual([7, 41]);
    for (const { error } of poisons) {
      expect(error.kind).toBe("poison");
      expect(`${error.message} ${error.hint} ${String(error.cause)}`).not.toContain("secret");
    }
    expect(await rowsOf(database, "select count(*)::int from people")).toEqual([[198]]);
  }
});

test("a trigger that fails for its own reasons stops the sink and is named", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database, [people]);
  await database.query(`
    create table public.effects (n int);
    create function count_effect() returns trigger language plpgsql as $$
      begin insert into effects values (1); return null; end $$;
    create trigger count_effect after insert or update on people for each row execute function count_effect();`);
  const batch = rowsBatch(10n, [people, [put(["1", "a", null])]]);
  const error = await failure(apply(sink, batch));
  expect([error.code, error.kind]).toEqual(["MR3119", "fatal"]);
  await database.query("alter function count_effect() set search_path = public");
  await apply(sink, batch);
  expect(await rowsOf(database, "select count(*)::int from effects")).toEqual([[1]]);
});

describe("triggers that keep rows from being written", () => {
  const swallow = (when: string, row: string): string =>
    `create function keep_${when}() returns trigger language plpgsql as $$
       begin if ${row}.bio = 'kept' then return null; end if; return ${when === "delete" ? "old" : "new"}; end $$;
     create trigger keep_${when} before ${when} on people for each row execute function keep_${when}();`;

  test.each([
    ["few rows", 10, "hard"],
    ["many rows", 60, "hard"],
    ["few rows", 10, "soft"],
    ["many rows", 60, "soft"],
  ] as const)("each of %s (%i, deletes: %s) that one keeps is reported", async (_, count, deletes) => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people], undefined, { ...DEFAULT_FORM, deletes });
    const all = Array.from({ length: count }, (__, i) => `${i}`);
    const bio = (id: string): string => (id === "3" ? "kept" : "x");
    await apply(sink, rowsBatch(10n, [people, all.map((id) => put([id, "a", bio(id)], { fresh: true }))]));
    await database.query(
      `${swallow("insert", "new")} ${swallow("update", "old")} ${deletes === "hard" ? swallow("delete", "old") : ""}`,
    );
    await sink.verify(timeout());
    const entries = [
      ...all.slice(0, 6).map((id) => put([id, "b", bio(id)])),
      put(["100", "b", "kept"], { fresh: true }),
      put(["101", "b", "x"], { fresh: true }),
      remove(["200", null, null]),
    ];
    const written = await apply(sink, rowsBatch(20n, [people, entries]));
    expect(written.poisons.map(({ entry }) => entry).toSorted((a, b) => a - b)).toEqual([3, 6]);
    for (const { error } of written.poisons)
      expect(error).toMatchObject({ code: "MR3111", kind: "poison", message: expect.stringContaining("keep_insert") });
    // Read again: what is there is newer, or the same.
    expect((await apply(sink, rowsBatch(20n, [people, entries]))).poisons).toHaveLength(2);
    const gone = await apply(sink, rowsBatch(30n, [people, all.map((id) => remove([id, null, null]))]));
    expect(gone.poisons.map(({ entry }) => entry)).toEqual([3]);
    const live = deletes === "soft" ? "where not _millrace_deleted" : "";
    expect(await rowsOf(database, `select id, email from people ${live} order by id`)).toEqual([
      [3, "a"],
      [101, "b"],
    ]);
    const truncate: Batch = {
      kind: "truncate",
      table: people,
      version: rowVersion(1, 40n),
      checkpoint: checkpointAt(41n),
    };
    expect(await failure(apply(sink, truncate))).toMatchObject({
      code: "MR2027",
      hint: expect.stringContaining("a trigger has refused it"),
    });
    await database.query("drop trigger keep_update on people; drop trigger if exists keep_delete on people");
    await apply(sink, truncate);
    expect(await rowsOf(database, `select id from people ${live}`)).toEqual([]);
  });

  test("so is each change that a history lacks", async () => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people], undefined, { ...DEFAULT_FORM, mode: "history" });
    await database.query(swallow("insert", "new"));
    await sink.verify(timeout());
    const entries = [put(["1", "a", "x"], { fresh: true }), put(["2", "a", "kept"], { fresh: true })];
    for (const _ of [1, 2])
      expect((await apply(sink, rowsBatch(10n, [people, entries]))).poisons.map(({ entry }) => entry)).toEqual([1]);
    expect(await rowsOf(database, "select id from people")).toEqual([[1]]);
  });

  test("a rule that comes while the sink runs has its table refused at the next look", async () => {
    await using database = await freshDatabase();
    const other = tableVersion({ table: "other", columns: { id: "integer" } });
    const sink = await opened(database, [people, other]);
    await database.query("create rule no_more as on insert to people do instead nothing");
    expect(await failure(sink.verify(timeout()))).toMatchObject({ code: "MR3107", table: people.id });
    await sink.verify(timeout());
  });
});

test("rows that a history may not get at all are refused one by one, however many", { tags: "heavy" }, async () => {
  await using database = await freshDatabase();
  const small = tableVersion({ table: "small", columns: { id: "integer", n: "smallint", bio: "text" } });
  const sink = await opened(database, [small], undefined, { ...DEFAULT_FORM, mode: "history" });
  await apply(sink, rowsBatch(10n, [small, [put(["0", "1", "x"])]]));
  const held = (id: number, n: string): Change => {
    return { table: small, op: "u", after: [`${id}`, n, UNCHANGED], isIfHeld: true, commit: 20n };
  };
  const ids = Array.from({ length: 1_100 }, (_, i) => i + 1);
  const block = blockOf([held(0, "2"), ...ids.map((id) => held(id, "70000"))]);
  const batch = { kind: "rows", tables: [writesOf(small, block)], checkpoint: checkpointAt(21n) } as const;
  const { poisons, incompletes } = await apply(sink, batch);
  expect([poisons.map(({ entry }) => entry).toSorted((a, b) => a - b), incompletes]).toEqual([ids, []]);
  expect(await rowsOf(database, "select n, bio from small order by _millrace_version")).toEqual([
    [1, "x"],
    [2, "x"],
  ]);
});

test("a key too large for an index is one row's fault", async () => {
  await using database = await freshDatabase();
  const words = tableVersion({ table: "words", columns: { word: "text" } });
  const sink = await opened(database, [words]);
  // Random, so that it does not compress below the limit.
  const long = Array.from({ length: 20_000 }, (_, i) => String.fromCodePoint(0x4e00 + ((i * 7919) % 20_000))).join("");
  const { poisons } = await apply(sink, rowsBatch(10n, [words, [put([long]), put(["short"])]]));
  expect(poisons.map((report) => report.entry)).toEqual([0]);
  expect(await rowsOf(database, "select word from words")).toEqual([["short"]]);
});

test("a step whose COMMIT got no answer is not written twice", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database, [people]);
  // Counts effects, and holds the commit's answer back until the connection is gone.
  await database.query(`
    create table effects (n int);
    create function count_effect() returns trigger language plpgsql as $$
      begin insert into public.effects values (1); return null; end $$;
    create trigger count_effect after insert or update on people for each row execute function count_effect();`);
  await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
  const batch = rowsBatch(20n, [people, [put(["1", "b", null])]]);
  // The batch waits for a row that the test holds; its session is cut at the moment it commits or before.
  await using holder = await database.connect();
  await holder.query("begin; select * from people for update");
  const outcome = sink.apply(batch, new Reports(), timeout()).then(
    () => "done",
    (error: unknown) => error,
  );
  await eventually(async () => {
    const { rows } = await database.query(
      "select 1 from pg_stat_activity where datname = current_database() and application_name = 'millrace' and wait_event_type = 'Lock'",
    );
    expect(rows).toHaveLength(1);
  });
  await database.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'millrace'",
  );
  expect(await outcome).toMatchObject({ kind: "retryable" });
  await holder.query("rollback");
  await apply(sink, batch);
  expect(await rowsOf(database, PEOPLE)).toEqual([[1, "b", null]]);
  expect(await rowsOf(database, "select count(*)::int from effects")).toEqual([[2]]);
});

test("a committed step whose answer was lost is recognised", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database, [people]);
  // The trigger runs inside COMMIT, which a server finishes although the client is gone.
  await database.query(`
    create table effects (n int);
    create function count_effect() returns trigger language plpgsql as $$
      begin insert into public.effects values (1); perform pg_sleep(0.3); return null; end $$;
    create constraint trigger count_effect after insert or update on people deferrable initially deferred
      for each row execute function count_effect();`);
  const batch = rowsBatch(10n, [people, [put(["1", "a", null])]]);
  const stop = new AbortController();
  const applying = failure(sink.apply(batch, new Reports(), stop.signal));
  const sessions = (condition: string) =>
    database.query(
      `select 1 from pg_stat_activity where datname = current_database() and application_name = 'millrace' and ${condition}`,
    );
  await eventually(async () => expect((await sessions("wait_event = 'PgSleep'")).rows).toHaveLength(1), { everyMs: 5 });
  stop.abort();
  expect((await applying).kind).toBe("aborted");
  await eventually(async () => expect((await sessions("true")).rows).toHaveLength(0));
  expect(await rowsOf(database, PEOPLE)).toEqual([[1, "a", null]]);
  await apply(sink, batch);
  await apply(sink, rowsBatch(20n, [people, [put(["2", "b", null])]]));
  expect(await rowsOf(database, "select count(*)::int from effects")).toEqual([[2]]);
});

describe("what is made in the target", () => {
  test("types keep their modifiers; the key is the primary key", async () => {
    await using database = await freshDatabase();
    const natives =
      `bigint|numeric(12,2)|character varying(10)|character(5)|timestamp(3) with time zone|time(0) without time zone|
bit(3)|bit varying(5)|interval day to second(3)|numeric(5,0)[]|integer[]|jsonb|int4range|tstzmultirange|"char"|money|
double precision|inet`
        .replaceAll("\n", "")
        .split("|");
    const table = tableVersion({
      table: "typed",
      columns: natives.map((native, i) => [`c${i}`, native] as const),
      key: ["c3", "c0"],
    });
    await opened(database, [table]);
    const { rows } = await database.query<{ name: string; type: string; required: boolean }>(
      `select attname as name, format_type(atttypid, atttypmod) as type, attnotnull as required from pg_attribute
       where attrelid = 'typed'::regclass and attnum > 0 order by attnum`,
    );
    expect(rows.map((row) => row.type)).toEqual([...natives, "bigint", "timestamp with time zone"]);
    expect(rows.filter((row) => row.required).map((row) => row.name)).toEqual(["c0", "c3", "_millrace_version"]);
    expect(await rowsOf(database, "select indexdef from pg_indexes where tablename = 'typed'")).toEqual([
      [expect.stringContaining("UNIQUE INDEX typed_pkey ON public.typed USING btree (c3, c0)")],
    ]);
  });

  test("types that are not built in become text, or what the target has under that name", async () => {
    await using database = await freshDatabase();
    await database.query('create type pair as (a int, b text); create type public."Odd""Type" as (n int)');
    const opaque = { kind: "opaque" } as const;
    const table = tableVersion({
      table: "others",
      columns: [
        ["id", "integer"],
        ["known", "public.pair", opaque],
        ["odd", 'public."Odd""Type"', opaque],
        ["list", "public.pair[]", { kind: "array", of: opaque }],
        ["unknown", "shop.geometry(Point,4326)", opaque],
        ["domain", "shop.amount", { kind: "decimal", precision: 8, scale: 3 }],
        ["hostile", "int); drop table t; --", opaque],
        ["named", "regclass", opaque],
      ],
      key: ["id"],
    });
    const sink = await opened(database, [table]);
    expect(
      await rowsOf(
        database,
        `select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'others'::regclass and attnum between 2 and 8 order by attnum`,
      ),
    ).toEqual([["pair"], ['"Odd""Type"'], ["pair[]"], ["text"], ["numeric(8,3)"], ["text"], ["text"]]);
    const cells = ["1", '(1,"a b")', "(2)", '{"(1,x)",NULL}', "0101", "1.500", "x", "public.orders"];
    const { poisons } = await apply(sink, rowsBatch(10n, [table, [put(cells)]]));
    expect(poisons).toEqual([]);
    expect(await rowsOf(database, "select known::text, odd::text, list::text, domain::text from others")).toEqual([
      ['(1,"a b")', "(2)", '{"(1,x)",NULL}', "1.500"],
    ]);
  });

  test("the option schema puts all tables together", async () => {
    await using database = await freshDatabase();
    const columns = [["id", "integer"]] as const;
    const a = tableVersion({ schema: "a", table: "t", columns, key: ["id"] });
    const b = tableVersion({ schema: "b", table: "t", columns, key: ["id"] });
    const sink = await opened(database, [a], 'all "in" one');
    await apply(sink, rowsBatch(10n, [a, [put(["1"])]]));
    expect(await rowsOf(database, 'select id from "all ""in"" one".t')).toEqual([[1]]);
    expect(sink.target(a)).toBe(sink.target(b));
  });

  test("a type and a key that somebody else changed, a view and a reserved name are refused", async () => {
    await using database = await freshDatabase();
    const columns = [
      ["id", "integer"],
      ["n", "integer"],
    ] as const;
    const [retyped, unkeyed] = ["t", "u"].map((table) => tableVersion({ table, columns, key: ["id"] }));
    await opened(database, [retyped!, unkeyed!]);
    await database.query(`alter table t alter n type text; alter table u drop constraint u_pkey;
      create view v as select 1 as id, 2::bigint as _millrace_version, now() as _millrace_commit_time`);
    const sink = await opened(database, []);
    const cases = [
      ["MR3107", retyped!],
      ["MR3107", unkeyed!],
      ["MR3106", tableVersion({ table: "v", columns: { id: "integer" } })],
      ["MR3117", tableVersion({ table: "r", columns: { id: "integer", _millrace_x: "text" } })],
    ] as const;
    for (const [code, table] of cases) {
      const error = await failure(sink.prepare([table], timeout()));
      expect([error.code, error.kind]).toEqual([code, "fatal"]);
      expect(error.hint).toBeTruthy();
    }
  });

  test("of several tables all are named that what is there refuses", async () => {
    await using database = await freshDatabase();
    const [own, taken, foreign, fresh] = ["own", "taken", "foreign", "fresh"].map((table) =>
      tableVersion({ table, columns: { id: "integer" } }),
    );
    const more = Array.from({ length: 20 }, (_, i) => tableVersion({ table: `more${i}`, columns: { id: "integer" } }));
    const tables = [fresh!, own!, taken!, ...more, foreign!];
    const refused = ["public.taken", "public.foreign"];
    await opened(database, [own!, taken!]);
    await database.query(`drop table taken; create table taken (id int primary key); create table "foreign" (id int)`);
    const sink = await opened(database, []);
    const prepared = await failure(sink.prepare(tables, timeout()));
    expect([prepared, ...prepared.further].map(({ code, table }) => [code, table])).toEqual(
      refused.map((table) => ["MR3106", table]),
    );
    expect(await sink.missing([fresh!, own!], timeout())).toEqual([fresh]);
  });

  test("a history whose keys do not fit a narrower type is refused by what stands in the way", async () => {
    await using database = await freshDatabase();
    const form = { ...DEFAULT_FORM, mode: "history" } as const;
    const [wide, narrow] = (["bigint", "integer"] as const).map((type) =>
      tableVersion({ table: "t", columns: [["id", type]], key: ["id"] }),
    );
    const sink = await opened(database, [wide!], undefined, form);
    await apply(sink, rowsBatch(10n, [wide!, [put(["5000000000"])]]));
    const error = await failure(sink.prepare([narrow!], timeout()));
    expect([error.code, error.kind, error.table]).toEqual(["MR3107", "fatal", "public.t"]);
    expect(error.message).toBe(
      `the key column "id" of "public"."t" can't become integer: its history has keys that are none of that type`,
    );
  });
});

describe("a table that somebody", () => {
  const ids = (count: number) => Array.from({ length: count }, (_, i) => `${i}`);
  const told = async (sink: PostgresSink): Promise<string> => (await failure(sink.verify(timeout()))).code;

  describe.each([
    ["dropped", "drop table people"],
    [
      "dropped and made again",
      "create table p2 (like people including all); drop table people; alter table p2 rename to people",
    ],
    ["emptied", "truncate people"],
  ])("%s", (_, sql) => {
    test("is noticed", async () => {
      await using database = await freshDatabase();
      const sink = await opened(database, [people]);
      await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
      await sink.verify(timeout());
      await database.query(sql);
      expect(await told(sink)).toBe("MR3110");
    });

    test("and whose sink was opened again since, is missing until it is prepared again", async () => {
      await using database = await freshDatabase();
      const sink = await opened(database, [people]);
      await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
      await sink.verify(timeout());
      await database.query(sql);
      for (let lease = 2; lease < 5; lease++) {
        await sink.open(lease, timeout());
        expect(await sink.missing([people], timeout())).toEqual([people]);
      }
      await sink.prepare([people], timeout());
      expect(await sink.missing([people], timeout())).toEqual([]);
      await sink.verify(timeout());
    });

    test("is noticed by the next shape that it gets, which would hide it", async () => {
      await using database = await freshDatabase();
      const sink = await opened(database, [people]);
      await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
      await sink.verify(timeout());
      await database.query(sql);
      const wider = tableVersion({
        table: "people",
        columns: { id: "integer", email: "text", bio: "text", born: "date" },
      });
      expect((await failure(sink.prepare([wider], timeout()))).code).toBe("MR3110");
    });
  });

  test("dropped is told with all others that are lost, once", async () => {
    await using database = await freshDatabase();
    const tables = ["a", "b", "c"].map((table) => tableVersion({ table, columns: { id: "integer" } }));
    const sink = await opened(database, tables);
    await database.query("drop table a; drop table c");
    const error = await failure(sink.prepare(tables, timeout()));
    expect([error.code, error.lostTables]).toEqual(["MR3110", ["public.a", "public.c"]]);
    expect(error.message).toContain('"public"."a" was dropped, "public"."c" was dropped in the target');
    await sink.prepare(tables, timeout());
    await sink.verify(timeout());
  });

  test.each([
    ["rows", [put(["2", "b", null])]],
    ["deletes, but not of all that were there", [put(["7", "b", null]), remove(["1", null, null])]],
    ["rows of a read that had begun", [put(["2", "b", null])], 5n],
  ])("emptied is noticed although it got %s before anybody looked", async (_, writes, version = 20n) => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people]);
    await apply(sink, rowsBatch(10n, [people, ids(5).map((id) => put([id, "a", null]))]));
    await sink.verify(timeout());
    await database.query("truncate people");
    const { checkpoint } = rowsBatch(20n);
    await apply(sink, { ...rowsBatch(version, [people, writes]), checkpoint });
    expect(await told(sink)).toBe("MR3110");
  });

  test("emptied while no sink was open is missing for the next one; emptied through a sink it is not", async () => {
    await using database = await freshDatabase();
    const others = tableVersion({ table: "others", columns: { id: "integer" } });
    const sink = await opened(database, [people, others]);
    await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]], [others, [put(["1"])]]));
    await apply(sink, rowsBatch(20n, [others, [remove(["1"])]]));
    await sink.close();
    await database.query("truncate people");
    const next = await opened(database, []);
    expect(await next.missing([people, others], timeout())).toEqual([people]);
    await next.prepare([people, others], timeout());
    expect(await next.missing([people, others], timeout())).toEqual([]);
  });

  const OLDER = "insert into people select * from older";
  test.each([
    [
      "dropped, and made again with older rows",
      `drop table people; create table people (like older including all); ${OLDER}`,
    ],
    ["replaced by an older one", "alter table people rename to newer; alter table older rename to people"],
    ["emptied and filled with older rows", `truncate people; ${OLDER}`],
  ])("%s, while no sink was open, is missing until it is prepared", async (_, sql) => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people]);
    await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
    await sink.verify(timeout());
    await database.query("create table older (like people including all); insert into older table people");
    await apply(sink, rowsBatch(20n, [people, [put(["1", "b", null]), put(["2", "b", null])]]));
    await sink.close();
    await database.query(sql);
    for (const _ of [1, 2]) {
      const next = await opened(database, []);
      expect(await next.missing([people], timeout())).toEqual([people]);
      await next.close();
    }
    const next = await opened(database, [people]);
    expect(await next.missing([people], timeout())).toEqual([]);
    await next.close();
    expect(await (await opened(database, [])).missing([people], timeout())).toEqual([]);
  });

  test.each(["vacuum full people", "cluster people using people_pkey"])(
    "given another file while no sink was open is not, if its rows are carried over: %s",
    async (sql) => {
      await using database = await freshDatabase();
      const sink = await opened(database, [people]);
      await apply(sink, rowsBatch(10n, [people, ids(5).map((id) => put([id, "a", null]))]));
      await sink.verify(timeout());
      await apply(sink, rowsBatch(20n, [people, [put(["1", "b", null])]]));
      await sink.close();
      for (const _ of [1, 2]) {
        await database.query(sql);
        const next = await opened(database, []);
        expect(await next.missing([people], timeout())).toEqual([]);
        await next.close();
      }
      await database.query("truncate people; insert into people values (1, 'a', null, 0)");
      expect(await (await opened(database, [])).missing([people], timeout())).toEqual([people]);
    },
  );

  test("emptied in a history is noticed although it got rows before anybody looked, and told once", async () => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people], undefined, { ...DEFAULT_FORM, mode: "history" });
    await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
    await sink.verify(timeout());
    await database.query("truncate people");
    await apply(sink, rowsBatch(20n, [people, [put(["1", "b", null])]]));
    expect(await told(sink)).toBe("MR3110");
    await sink.verify(timeout());
    expect(await sink.missing([people], timeout())).toEqual([]);
  });

  test.each([
    ["vacuumed into another file", "vacuum full people"],
    ["clustered", "cluster people using people_pkey"],
    ["made logged", "alter table people set unlogged; alter table people set logged"],
    ["given a generated column", "alter table people drop if exists more, add more int generated always as (1) stored"],
  ])("%s, changed or emptied through us, is not", async (_, sql) => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people]);
    // Others' transactions may have been open since before the rows were there.
    await using held = await database.connect();
    await held.query("begin; select txid_current()");
    await apply(sink, rowsBatch(10n, [people, ids(5).map((id) => put([id, "a", null]))]));
    await sink.verify(timeout());
    await database.query(sql);
    await sink.verify(timeout());
    await held.query("rollback");
    await database.query(sql);
    await sink.open(2, timeout());
    expect(await sink.missing([people], timeout())).toEqual([]);
    await sink.verify(timeout());
    await apply(sink, rowsBatch(20n, [people, ids(5).map((id) => put([id, "b", null]))]));
    await database.query(sql);
    await sink.verify(timeout());
    await apply(sink, rowsBatch(30n, [people, ids(5).map((id) => remove([id, null, null]))]));
    await database.query(sql);
    await sink.verify(timeout());
    expect(await sink.missing([people], timeout())).toEqual([]);
  });

  test("changed by a batch whose answer was lost, and vacuumed, is not emptied", async () => {
    await using database = await freshDatabase();
    await using proxy = await tcpProxy(database.url);
    const address = parsePostgresUrl(proxy.url(database.url));
    const sink = new PostgresSink({ name: "r", checkpointName: "s/r", address, schema: undefined, silenceMs: 300 });
    onTestFinished(() => sink.close());
    await sink.open(1, timeout());
    await sink.prepare([people], timeout());
    await apply(sink, rowsBatch(10n, [people, ids(5).map((id) => put([id, "a", null]))]));
    await sink.verify(timeout());
    proxy.stall("toClient");
    const batch = rowsBatch(20n, [people, ids(5).map((id) => remove([id, null, null]))]);
    expect((await failure(apply(sink, batch))).kind).toBe("retryable");
    await proxy.resume();
    await apply(sink, batch);
    expect(await rowsOf(database, PEOPLE)).toEqual([]);
    await database.query("vacuum full people");
    await sink.verify(timeout());
  });

  test("put back with all others, to an earlier moment, is not: the sink goes on from there", async () => {
    await using database = await freshDatabase();
    const sink = await opened(database, [people]);
    await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
    await sink.verify(timeout());
    await database.query(`create table p2 (like people including all); insert into p2 table people;
      create table _millrace.c2 (like _millrace.progress including all); insert into _millrace.c2 table _millrace.progress`);
    await apply(sink, rowsBatch(20n, [people, [put(["2", "b", null])]]));
    await database.query(`drop table people; alter table p2 rename to people;
      drop table _millrace.progress; alter table _millrace.c2 rename to progress`);
    await sink.open(2, timeout());
    expect(await sink.missing([people], timeout())).toEqual([]);
  });
});

test("a wrong password, database and port are named, without the password", async () => {
  await using database = await freshDatabase();
  const wrong = [
    [new URL(database.url), "MR2001", (url: URL) => (url.port = "1")],
    [new URL(database.url), "MR2002", (url: URL) => (url.pathname = "/not_there")],
  ] as const;
  for (const [url, code, change] of wrong) {
    url.password = "canary-password";
    change(url);
    const sink = new PostgresSink({
      name: "r",
      checkpointName: "s/r",
      address: parsePostgresUrl(url.href),
      schema: undefined,
    });
    const error = await failure(sink.open(1, timeout()));
    expect(error.code).toBe(code);
    expect(`${error.message} ${error.hint} ${String(error.cause)}`).not.toContain("canary-password");
    await sink.close();
  }
});

test("the grants that the preflight prints are enough", async () => {
  await using database = await freshDatabase();
  const role = `writer_${database.name}`;
  await database.query(`create role ${role} login; revoke temporary on database ${database.name} from public`);
  onTestFinished(async () => {
    await using other = await freshDatabase();
    await other.query(`drop role ${role}`);
  });
  const url = new URL(database.url);
  url.username = role;
  const context = { name: "replica", daemon: "shop", folder: "/", options: { url: url.href, ...DEFAULT_FORM } };
  const before = await factory.check(context, timeout());
  expect(before.map((finding) => [finding.id, finding.level])).toEqual([
    ["postgres.replica.temporary", "error"],
    ["postgres.replica.create", "error"],
  ]);
  for (const finding of before) await database.query(finding.fix ?? "");
  expect((await factory.check(context, timeout())).map((finding) => finding.level)).toEqual(["ok"]);
  const address = parsePostgresUrl(url.href);
  const sink = new PostgresSink({ name: "replica", checkpointName: "shop/replica", address, schema: undefined });
  await sink.open(1, timeout());
  const table = { ...people, schema: "shop", id: "shop.people" };
  await sink.prepare([table], timeout());
  const rows = Array.from({ length: 50 }, (_, i) => put([`${i}`, "m", null], { fresh: i % 2 === 0 }));
  await apply(sink, rowsBatch(10n, [table, rows]));
  await sink.verify(timeout());
  await sink.close();
  expect(await rowsOf(database, "select count(*)::int from shop.people")).toEqual([[50]]);
  await database.query(`drop owned by ${role}`);
});

test("a role that may write a table of another daemon, and does not own it, is refused before anything changes", async () => {
  await using database = await freshDatabase();
  const role = `guest_${database.name}`;
  await database.query(`create role ${role} login; grant create on database ${database.name} to ${role}`);
  onTestFinished(async () => {
    await using other = await freshDatabase();
    await other.query(`drop role ${role}`);
  });
  const first = await opened(database, [people], "public");
  await apply(first, rowsBatch(90n, [people, [put(["1", "a", null])]]));
  await database.query(`grant usage on schema _millrace, public to ${role};
    grant create on schema _millrace, public to ${role}; grant all on all tables in schema _millrace, public to ${role}`);
  const url = new URL(database.url);
  url.username = role;
  const options = { url: url.href, schema: "public", ...DEFAULT_FORM };
  const context = { name: "replica", daemon: "second", folder: "/", options };
  const address = parsePostgresUrl(url.href);
  const second = new PostgresSink({ name: "replica", checkpointName: "second/replica", address, schema: "public" });
  await second.open(1, timeout());
  const owner = 'ALTER TABLE "public"."people" OWNER TO';
  const taken = [{ table: people, owner: "shop/replica" }];
  expect(await second.foreign([people], timeout())).toEqual(taken);
  const refused = await failure(second.prepare([people], timeout()));
  expect(refused).toMatchObject({ code: "MR3121", table: people.id, hint: expect.stringContaining(owner) });
  expect(refused.message).toContain("belongs to shop/replica");
  expect(await factory.check(context, timeout(), [people])).toMatchObject([
    { id: "postgres.replica.table", level: "error", fix: expect.stringContaining(owner) },
  ]);
  await first.verify(timeout());
  await database.query(`${owner} ${role}`);
  expect(await factory.check(context, timeout(), [people])).toMatchObject([
    { level: "warning", what: expect.stringMatching(/belongs to shop\/replica .*: a start takes it over/) },
  ]);
  expect(await second.foreign([people], timeout())).toEqual(taken);
  await second.prepare([people], timeout());
  expect((await factory.check(context, timeout(), [people])).map(({ level }) => level)).toEqual(["ok"]);
  expect(await failure(first.verify(timeout()))).toMatchObject({ code: "MR3121" });
  await second.close();
  await database.query(`drop owned by ${role}`);
});

test("a session in the middle of a batch is ended also if it has a login that the sink had before", async () => {
  await using database = await freshDatabase();
  const [before, after] = [`before_${database.name}`, `after_${database.name}`] as const;
  await database.query(`create role ${before} login; create role ${after} login; grant pg_signal_backend to ${after};
    grant create on database ${database.name} to ${before}; grant all on schema public to ${before}`);
  onTestFinished(async () => {
    await using other = await freshDatabase();
    await other.query(`drop role ${before}; drop role ${after}`);
  });
  const as = (user: string): FreshDatabase => {
    const url = new URL(database.url);
    url.username = user;
    return { ...database, url: url.href };
  };
  const sink = await opened(as(before), [people], "public");
  await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
  await database.query(`grant usage on schema _millrace to ${after}; grant all on _millrace.progress to ${after}`);
  const holder = new Client({ connectionString: database.url });
  await holder.connect();
  await holder.query("begin; lock table people in access exclusive mode");
  const held = failure(apply(sink, rowsBatch(20n, [people, [put(["1", "b", null])]])));
  await eventually(async () => {
    const waiting = "select count(*)::int from pg_locks where relation = 'people'::regclass and not granted";
    expect(await rowsOf(database, waiting)).toEqual([[1]]);
  });
  const address = parsePostgresUrl(as(after).url);
  const next = new PostgresSink({ name: "replica", checkpointName: "shop/replica", address, schema: "public" });
  expect((await next.open(2, timeout()))?.position.commit).toBe(11n);
  // It has no right to the table of tenants, and nothing there.
  await next.keepOnly([people], timeout());
  await next.close();
  await held;
  await holder.end();
  await sink.close();
  await database.query(`drop owned by ${after}; drop owned by ${before}`);
});

describe("a target that does not answer", () => {
  test("is given up when it can't be asked, and the step holds after it is back", async () => {
    await using database = await freshDatabase();
    await using proxy = await tcpProxy(database.url);
    const address = parsePostgresUrl(proxy.url(database.url));
    const sink = new PostgresSink({ name: "r", checkpointName: "s/r", address, schema: undefined, silenceMs: 300 });
    onTestFinished(() => sink.close());
    await sink.open(1, timeout());
    await sink.prepare([people], timeout());
    proxy.stall();
    const batch = rowsBatch(10n, [people, [put(["1", "a", null])]]);
    const error = await failure(apply(sink, batch));
    expect([error.code, error.kind]).toEqual(["MR2001", "retryable"]);
    // Not that the connection was closed, which it was by us.
    expect(error.message).toContain(`${address.host}:${address.port} gave no answer in time`);
    expect(error.hint).toContain("gave no answer: look whether the server there runs");
    await proxy.resume();
    await apply(sink, batch);
    expect(await rowsOf(database, PEOPLE)).toEqual([[1, "a", null]]);
  });

  test("does not hold up its successor, in the middle of a step, and delivers nothing late", async () => {
    await using database = await freshDatabase();
    await using proxy = await tcpProxy(database.url);
    const address = parsePostgresUrl(proxy.url(database.url));
    const sink = new PostgresSink({ name: "replica", checkpointName: "shop/replica", address, schema: undefined });
    onTestFinished(() => sink.close());
    await sink.open(1, timeout());
    await sink.prepare([people], timeout());
    const many = Array.from({ length: 500 }, (_, i) => put([`${i}`, "late", "x".repeat(1000)], { fresh: true }));
    proxy.limit(100_000);
    const late = failure(apply(sink, rowsBatch(10n, [people, many])));
    await eventually(async () => {
      const held = await database.query(
        "select 1 from pg_locks where relation = '_millrace.progress'::regclass and granted and mode = 'RowExclusiveLock'",
      );
      expect(held.rows).not.toHaveLength(0);
    });
    proxy.stall();
    const successor = new PostgresSink({
      name: "replica",
      checkpointName: "shop/replica",
      address: parsePostgresUrl(database.url),
      schema: undefined,
    });
    onTestFinished(() => successor.close());
    expect(await successor.open(2, timeout())).toBeNull();
    await successor.prepare([people], timeout());
    await apply(successor, rowsBatch(10n, [people, [put(["1", "a", null])]]));
    await proxy.resume();
    expect(["MR2001", "MR3109", "MR2006"]).toContain((await late).code);
    expect((await failure(apply(sink, rowsBatch(10n, [people, many])))).code).toBe("MR3109");
    await sink.close();
    await eventually(() => expect(proxy.counters.open).toBe(0));
    expect(await rowsOf(database, PEOPLE)).toEqual([[1, "a", null]]);
  });

  test("gets a part of a raw copy late, or its answer is lost, and the sink goes on", async () => {
    for (const isLate of [true, false]) {
      await using database = await freshDatabase();
      await using proxy = await tcpProxy(database.url);
      const address = parsePostgresUrl(proxy.url(database.url));
      const sink = new PostgresSink({ name: "r", checkpointName: "s/r", address, schema: undefined });
      onTestFinished(() => sink.close());
      await sink.open(1, timeout());
      await sink.prepare([people], timeout());
      await sink.raw.begin(people, timeout());
      const writer = await sink.raw.writer(timeout());
      await writer.write({ table: people, version: 1n, commitTimeUs: 0n, read: async () => {} }, timeout());
      const held = isLate ? proxy.hold("steps = steps + 1") : null;
      if (!isLate) proxy.stall("toClient");
      const stop = new AbortController();
      const lost = failure(writer.commit(stop.signal));
      await held?.reached;
      await eventually(async () => {
        const { rows } = await database.query("select steps from _millrace.progress");
        expect(rows).toEqual([{ steps: isLate ? "0" : "1" }]);
      });
      stop.abort();
      await lost;
      if (!isLate) await proxy.resume();
      await sink.prepare([people], timeout());
      await held?.release();
      await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
      await sink.verify(timeout());
      expect(await rowsOf(database, PEOPLE)).toEqual([[1, "a", null]]);
    }
  });

  test("is waited for while it works", async () => {
    await using database = await freshDatabase();
    const address = parsePostgresUrl(database.url);
    const sink = new PostgresSink({ name: "r", checkpointName: "s/r", address, schema: undefined, silenceMs: 300 });
    onTestFinished(() => sink.close());
    await sink.open(1, timeout());
    await sink.prepare([people], timeout());
    await database.query(`
      create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return null; end $$;
      create trigger slow after insert on people for each row execute function slow();`);
    await apply(sink, rowsBatch(10n, [people, [put(["1", "a", null])]]));
    expect(await rowsOf(database, PEOPLE)).toEqual([[1, "a", null]]);
  });
});

test.each([
  ["unlogged", "alter table people set unlogged", /UNLOGGED/],
  ["without its key", "alter table people drop constraint people_pkey", /no primary key over "id"/],
  ["with a rule", 'create rule "no more" as on insert to people do instead nothing', /the rule "no more"/],
  [
    "with a column that it writes itself",
    "alter table people drop bio, add bio text generated always as ('x') stored",
    /"bio"/,
  ],
  ["with an identity", "alter table people alter id add generated always as identity", /"id"/],
  ["with another type", "alter table people alter bio type varchar(9)", /character varying\(9\).* should be text/],
])("a target that somebody has left %s is refused, check says so, and its fix is right", async (_, sql, what) => {
  await using database = await freshDatabase();
  await opened(database, [people], "public");
  await database.query(sql);
  const context = {
    name: "replica",
    daemon: "shop",
    folder: "/",
    options: { url: database.url, schema: "public", ...DEFAULT_FORM },
  };
  const problems = async () =>
    (await factory.check(context, timeout(), [people])).filter(({ level }) => level !== "ok");
  const [found, ...more] = await problems();
  expect([found, more]).toMatchObject([{ level: "error", what: expect.stringMatching(what) }, []]);
  const sink = await opened(database, [], "public");
  const refusal = { code: "MR3107", kind: "fatal", message: expect.stringMatching(what), table: "public.people" };
  await expect(sink.prepare([people], timeout())).rejects.toMatchObject(refusal);
  const fix = what.source.includes("primary key") ? "alter table people add primary key (id)" : found!.fix!;
  await database.query(fix.replace(/; or drop .*/, ""));
  expect(await problems()).toEqual([]);
  await sink.prepare([people], timeout());
  await apply(sink, rowsBatch(10n, [people, [put(["1", "m", "b"])]]));
  expect(await rowsOf(database, "select id, bio from people")).toEqual([[1, "b"]]);
});

test("check names a target of the other mode as the start does, and takes its own types", async () => {
  await using database = await freshDatabase();
  await database.query("create type mood as enum ('calm'); create domain positive as numeric(8,2) check (value > 0)");
  const columns = [
    ["id", "integer"],
    ["price", "numeric(10,2)"],
    ["at", "timestamp(3) with time zone"],
    ["codes", "character varying(3)[]"],
    ["mood", "public.mood"],
    ["paid", "public.positive"],
  ] as const;
  const bought = tableVersion({ table: "bought", columns, key: ["id"] });
  const sink = await opened(database, [bought], "public");
  await sink.close();
  await database.query("alter table bought alter price type numeric");
  const check = async (mode: "mirror" | "history") => {
    const options = { url: database.url, schema: "public", ...DEFAULT_FORM, mode };
    return await factory.check({ name: "replica", daemon: "shop", folder: "/", options }, timeout(), [bought]);
  };
  expect((await check("mirror")).map(({ level }) => level)).toEqual(["ok"]);
  const address = parsePostgresUrl(database.url);
  const form = { ...DEFAULT_FORM, mode: "history" } as const;
  const other = new PostgresSink({ name: "replica", checkpointName: "shop/replica", address, schema: "public", form });
  await other.open(2, timeout());
  const { code, message, hint } = await failure(other.prepare([bought], timeout()));
  await other.close();
  expect(await check("history")).toMatchObject([{ level: "error", what: `${code}: ${message}`, fix: hint }]);
});

test("check names triggers that may swallow rows, and policies that hide them", async () => {
  await using database = await freshDatabase();
  const role = `owner_${database.name}`;
  await database.query(
    `create role ${role} login; grant all on database ${database.name} to ${role}; grant all on schema public to ${role}`,
  );
  const url = new URL(database.url);
  url.username = role;
  await opened({ ...database, url: url.href }, [people], "public");
  await database.query(`create function swallow() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger swallow before insert on people for each row execute function swallow();
    create trigger told after insert on people for each row execute function swallow();
    alter table people enable row level security, force row level security`);
  const context = {
    name: "replica",
    daemon: "shop",
    folder: "/",
    options: { url: url.href, schema: "public", ...DEFAULT_FORM },
  };
  expect((await factory.check(context, timeout(), [people])).map(({ level, what }) => [level, what])).toEqual([
    ["error", expect.stringContaining('policies hide rows of "public"."people"')],
    ["warning", expect.stringContaining("BEFORE triggers (swallow)")],
  ]);
  await database.query(`drop owned by ${role}; drop role ${role}`);
});
