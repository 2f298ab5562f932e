/** Rows read beside the stream: the first copy and chunks. */
import { firstVersion } from "../support/model/blocks.ts";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import type { Chunk, KeyText } from "../../src/core/contracts/row-reads.ts";
import type { FirstCopy } from "../../src/core/contracts/log-admin.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { baseVersion } from "../../src/core/model/position.ts";
import {
  chunkRows,
  createLog,
  Follower,
  never,
  openSource,
  rowsOf,
  tableVersion,
  type TextCells,
} from "../support/postgres/postgres-source.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { freshDatabase } from "../support/run/services.ts";

async function copied(copy: FirstCopy, id: string): Promise<TextCells[]> {
  const shape = copy.tables.find((table) => table.id === id)!;
  const rows: TextCells[] = [];
  for await (const block of copy.read(firstVersion(shape), never)) {
    for (const row of rowsOf(block)) {
      expect([row.op, row.version]).toEqual(["r", baseVersion(1)]);
      rows.push(row.after!);
    }
    block.release();
  }
  return rows;
}

async function wholeTable(source: Source, id: string, where: string | null = null): Promise<TextCells[]> {
  const table = await tableVersion(source, id);
  const rows: TextCells[] = [];
  let after: KeyText | null = null;
  do {
    const chunk = await source.rows.readRange(table, { after, where }, never);
    rows.push(...chunkRows(chunk));
    after = chunk.last;
  } while (after !== null);
  return rows;
}

test("under a condition that no index serves a chunk ends after so many rows, wanted or not", async () => {
  await using database = await freshDatabase();
  await database.query(`create extension citext;
    create table t (a int, b text, c citext, note text, primary key (a, b)); create table u (k citext primary key, n int);
    insert into t select g % 10, 'b' || g, 'c', case when g % 700 = 0 then 'wanted' end from generate_series(1, 2100) g;
    insert into u select 'k' || g, g from generate_series(1, 1000) g`);
  await using source = await openSource(database);
  for (const [id, where, wanted] of [
    ["public.t", "note = 'wanted'", 3],
    ["public.u", "n % 100 = 0", 10],
  ] as const) {
    const table = await tableVersion(source, id);
    let after: KeyText | null = null;
    let [rowCount, chunkCount] = [0, 0];
    do {
      const chunk: Chunk = await source.rows.readRange(table, { after, where, scanRowCountMax: 100 }, never);
      rowCount += chunkRows(chunk).length;
      chunkCount++;
      after = chunk.last;
    } while (after !== null);
    expect({ id, rowCount }).toEqual({ id, rowCount: wanted });
    expect(chunkCount).toBeGreaterThanOrEqual(10);
  }
});

test("copy and stream together give the table, under concurrent writers", async () => {
  await using database = await freshDatabase();
  await database.query(
    "create table t (id int primary key, n int); insert into t select g, 0 from generate_series(1, 5000) g",
  );
  await using source = await openSource(database);
  const stop = new AbortController();
  const writers = Array.from({ length: 3 }, async (_, i) => {
    await using session = await database.connect();
    for (let n = 1; !stop.signal.aborted; n++) {
      const id = 1 + ((n * 7919 + i * 31) % 6000);
      await session.query(
        `begin; insert into t values (${id}, 1) on conflict (id) do update set n = t.n + 1; delete from t where id = ${(id * 13) % 6000}; commit`,
      );
    }
  });
  await delay(50);
  const log = await createLog(source, true);
  const rows = new Map((await copied(log.copy!, "public.t")).map((row) => [row["id"], row["n"]]));
  await log.copy!.close();
  await using follower = await Follower.from(source, log.position);
  stop.abort();
  await Promise.all(writers);
  await follower.catchUp(source);
  for (const row of follower.rows) {
    if (row.op === "d") expect(rows.delete(row.before!["id"])).toBe(true);
    // Exactly once: an insert finds nothing, an update finds its row.
    else expect([row.op, rows.has(row.after!["id"])]).toEqual([row.op, row.op === "u"]);
    if (row.after !== undefined) rows.set(row.after["id"], row.after["n"]);
  }
  const { rows: there } = await database.query<{ id: string; n: string }>("select id::text, n::text from t");
  expect(follower.rows.length).toBeGreaterThan(0);
  expect(rows).toEqual(new Map(there.map((row) => [row.id, row.n])));
});

const EVERY_KIND = `create type mood as enum ('sad', 'so ''so'''); create type pair as (a int, b text);
  create domain positive as int check (value > 0);
  create table t (id int primary key, flag bool, c char(5), v varchar(4), m mood, p pair, d positive, i interval, a int[], ta text[],
    r int4range, j jsonb, js json, ip inet, bits varbit, money money, "char" "char", n name, x xml, num numeric(50, 10), ts tsvector, o oid);
  insert into t values (1, true, 'ab', 'cd', 'so ''so''', '(1,"x y")', 5, '1 day', '{1,NULL,3}', '{"a,b",NULL,""}', '[1,5)',
    '{"b": 1.10, "a": null}', '{"b":  1}', '10.0.0.1', '10101', '12.34', 'z', 'name', '<a>1</a>', 1.5, 'a b', 4294967295);
  insert into t (id) values (2); insert into t (id, p) values (3, '(,)')`;

test("copy, chunk and stream give every kind of value the same text", async () => {
  await using database = await freshDatabase();
  await database.query(EVERY_KIND);
  await using source = await openSource(database);
  const log = await createLog(source, true);
  const fromCopy = await copied(log.copy!, "public.t");
  await log.copy!.close();
  expect(fromCopy).toHaveLength(3);
  expect(fromCopy[0]).toMatchObject({
    c: "ab   ",
    ip: "10.0.0.1",
    flag: "t",
    p: '(1,"x y")',
    m: "so 'so'",
    ta: '{"a,b",NULL,""}',
  });
  expect(fromCopy[1]).toMatchObject({ p: null, i: null });
  expect(fromCopy[2]).toMatchObject({ p: "(,)" });
  expect(await wholeTable(source, "public.t")).toEqual(fromCopy);
  await database.query("update t set id = id + 10");
  await using follower = await Follower.from(source, log.position);
  const streamed = (await follower.catchUp(source)).map((row) => ({
    ...row.after,
    id: String(Number(row.after!["id"]) - 10),
  }));
  expect(streamed).toEqual(fromCopy);
});

test("large rows, and more rows than a block holds, are copied whole", async () => {
  await using database = await freshDatabase();
  await database.query(`create table t (id int primary key, a text);
    insert into t select g, repeat('x', g % 100) from generate_series(1, 50000) g; insert into t values (0, repeat('z', 5000000))`);
  await using source = await openSource(database);
  const log = await createLog(source, true);
  const rows = await copied(log.copy!, "public.t");
  await log.copy!.close();
  expect(rows).toHaveLength(50_001);
  expect(new Set(rows.map((row) => row["id"])).size).toBe(50_001);
  expect(
    rows.every((row) => String(row["a"]).length === (row["id"] === "0" ? 5_000_000 : Number(row["id"]) % 100)),
  ).toBe(true);
});

test("several tables are copied at once, partitioned ones through their root, children by inheritance for themselves", async () => {
  await using database = await freshDatabase();
  await database.query(`create table p (id int primary key) partition by range (id);
    create table p1 partition of p for values from (0) to (10); create table p2 partition of p for values from (10) to (20);
    insert into p values (1), (11); create table parent (id int primary key); create table child (primary key (id)) inherits (parent);
    insert into parent values (1); insert into child values (2); create table nothing (id int primary key)`);
  await using source = await openSource(database, { tables: ["public.*", "public.parent"] });
  const log = await createLog(source, true);
  const ids = ["public.child", "public.nothing", "public.p", "public.parent"];
  expect(log.copy!.tables.map((table) => table.id)).toEqual(ids);
  const tables = await Promise.all(ids.map((id) => copied(log.copy!, id)));
  await log.copy!.close();
  expect(tables.map((rows) => rows.map((row) => row["id"]))).toEqual([["2"], [], ["1", "11"], ["1"]]);
});

test("a table that was rewritten after the snapshot is not readable from the copy", async () => {
  await using database = await freshDatabase();
  await database.query(`create table t (id int primary key, n int); insert into t values (1, 1);
    create table u (id int primary key, n int); insert into u values (1, 1); create table w (id int primary key, n int);
    create table x (id int primary key, a int, b int); create table y (id int primary key); alter table y add n int;
    create table p (id int primary key, n int) partition by range (id); create table p1 partition of p for values from (0) to (10)`);
  await using source = await openSource(database);
  const log = await createLog(source, true);
  await database.query(
    "alter table t alter n type bigint; truncate p1; alter table w drop column n; alter table x rename a to c; alter table x rename b to a; alter table x rename c to b; alter table y add m int",
  );
  const readable = await Promise.all(
    log.copy!.tables.map(async ({ id }) => {
      const rows = await copied(log.copy!, id).catch((error: unknown) => findMillraceError(error)?.code);
      return Array.isArray(rows) ? true : rows;
    }),
  );
  expect(log.copy!.tables.map((table, i) => [table.id, readable[i]])).toEqual([
    ["public.p", "MR2025"],
    ["public.t", "MR2025"],
    ["public.u", true],
    ["public.w", "MR2025"],
    ["public.x", "MR2025"],
    ["public.y", true],
  ]);
  await log.copy!.close();
});

const ARCHIVED = `
  create table users (id int primary key, mail text); insert into users values (1, 'of users');
  create table users_next (id int primary key, mail text); insert into users_next values (1, 'of users_next');
  create table archive (id int primary key, mail text) partition by range (id);
  create table archive_1 partition of archive for values from (100) to (200); insert into archive values (101, 'of archive');
`;
const SWAPPED = `begin; alter table users rename to tmp; alter table users_next rename to users;
  alter table tmp rename to users_next; commit`;
const ATTACHED = "alter table archive attach partition users for values from (0) to (100)";

test("a table that was swapped after the snapshot is not readable from the copy, and one attached since is not in it", async () => {
  await using database = await freshDatabase();
  await database.query(ARCHIVED);
  await using source = await openSource(database);
  const { copy } = await createLog(source, true);
  await database.query(SWAPPED);
  for (const id of ["public.users", "public.users_next"])
    await expect(copied(copy!, id)).rejects.toMatchObject({ code: "MR2025", kind: "retryable" });
  await database.query("alter table archive attach partition users_next for values from (0) to (100)");
  expect(await copied(copy!, "public.archive")).toEqual([{ id: "101", mail: "of archive" }]);
  await copy!.close();
});

test("a copy that is left half-way leaves nothing behind at the server", async () => {
  await using database = await freshDatabase();
  await database.query(
    "create table t (id int primary key, a text); insert into t select g, repeat('x', 500) from generate_series(1, 50000) g",
  );
  await using source = await openSource(database);
  const log = await createLog(source, true);
  for await (const block of log.copy!.read(firstVersion(log.copy!.tables[0]!), never)) {
    block.release();
    break;
  }
  await log.copy!.close();
  await expect
    .poll(
      async () =>
        (
          await database.query("select 1 from pg_stat_activity where datname = $1 and query like 'COPY%'", [
            database.name,
          ])
        ).rowCount,
    )
    .toBe(0);
});

test("chunks walk a table in key order without gap or overlap, whatever the key's type", async () => {
  await using database = await freshDatabase();
  await database.query(`create table n (id int primary key, a text); insert into n select g, repeat('x', 3000) from generate_series(1, 9000) g;
    create table c (a text collate "C", b date, v int, primary key (a, b));
    insert into c select chr(65 + g % 50) || '''"\\' || g % 7, '2026-01-01'::date + g / 7, g from generate_series(1, 3000) g;
    create table k (id numeric primary key); insert into k values ('NaN'), (-1.5), ('Infinity'), (2)`);
  await using source = await openSource(database);
  const numbers = await wholeTable(source, "public.n");
  expect(numbers.map((row) => Number(row["id"]))).toEqual(Array.from({ length: 9_000 }, (_, i) => i + 1));
  const pairs = await wholeTable(source, "public.c");
  expect(new Set(pairs.map((row) => row["v"])).size).toBe(3_000);
  expect(pairs).toHaveLength(3_000);
  expect((await wholeTable(source, "public.k")).map((row) => row["id"])).toEqual(["-1.5", "2", "Infinity", "NaN"]);
});

test("chunks walk a table in the order of an extension's type, which is found without a search path", async () => {
  await using database = await freshDatabase();
  await database.query(`create extension citext; create extension hstore;
    create domain label as citext;
    create table one (k label primary key, a text);
    insert into one select case when g % 2 = 0 then upper(md5(g::text)) else md5(g::text) end, repeat('x', 4000) from generate_series(1, 5000) g;
    create table two (h hstore, k citext, a text, primary key (h, k));
    insert into two select hstore('h', (g % 3)::text), k, a from (select row_number() over () as g, * from one) o`);
  await using source = await openSource(database);
  for (const id of ["public.one", "public.two"]) {
    const rows = await wholeTable(source, id);
    expect(new Set(rows.map((row) => row["k"])).size).toBe(5_000);
    expect(rows).toHaveLength(5_000);
  }
});

test("a chunk of large rows ends by its bytes, and goes on behind its last key, also where small ones come first", async () => {
  await using database = await freshDatabase();
  await database.query(
    `create table t (id int primary key, a text); alter table t alter a set storage external;
     insert into t select g, repeat('x', case when g <= 100 then 100 else 1000000 end) from generate_series(1, 200) g`,
  );
  await using source = await openSource(database);
  const table = await tableVersion(source, "public.t");
  const ids: string[] = [];
  const sizes: number[] = [];
  let after: KeyText | null = null;
  do {
    const chunk: Chunk = await source.rows.readRange(table, { after, where: null }, never);
    sizes.push(chunk.block?.byteCount ?? 0);
    ids.push(...chunkRows(chunk).map((row) => String(row["id"])));
    if (chunk.last !== null) expect(chunk.last).toEqual([ids.at(-1)]);
    after = chunk.last;
  } while (after !== null);
  expect(ids).toEqual(Array.from({ length: 200 }, (_, i) => String(i + 1)));
  expect(Math.max(...sizes)).toBeLessThan(18_000_000);
});

test("a range can be narrowed by a condition", async () => {
  await using database = await freshDatabase();
  await database.query(
    "create table t (id int primary key, a text); insert into t select g, 'x' from generate_series(1, 10) g",
  );
  await using source = await openSource(database);
  expect((await wholeTable(source, "public.t", "id % 2 = 0 -- even")).map((row) => row["id"])).toEqual([
    "2",
    "4",
    "6",
    "8",
    "10",
  ]);
});

test("listed keys are read; a key that does not exist is missing, one listed twice comes once", async () => {
  await using database = await freshDatabase();
  await database.query(`create table t (a text, b timestamptz, v text, primary key (a, b));
    insert into t values (E'it''s {"\\\\', '2026-01-01 00:00:00.000001+00', 'one'), ('x', '2026-01-02Z', 'two')`);
  await using source = await openSource(database);
  const table = await tableVersion(source, "public.t");
  const hostile = ["it's {\"\\", "2026-01-01 00:00:00.000001+00"];
  const chunk = await source.rows.readKeys(
    table,
    [hostile, ["x", "2026-01-02 00:00:00+00"], hostile, ["y", "2026-01-02 00:00:00+00"]],
    never,
  );
  expect(chunk.last).toBeNull();
  expect(new Set(chunkRows(chunk).map((row) => row["v"]))).toEqual(new Set(["one", "two"]));
  const none = await source.rows.readKeys(table, [["y", "2026-01-02 00:00:00+00"]], never);
  expect(none.block).toBeNull();
});

test("a chunk knows which transactions it saw", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  const table = await tableVersion(source, "public.t");
  const { rows: done } = await database.query<{ xid: string }>(
    "insert into t values (1) returning pg_current_xact_id()::text as xid",
  );
  await using other = await database.connect();
  const { rows: open } =
    (await other.query<{ xid: string }>("begin")) &&
    (await other.query<{ xid: string }>("insert into t values (2) returning pg_current_xact_id()::text as xid"));
  const chunk = await source.rows.readRange(table, { after: null, where: null }, never);
  expect(chunkRows(chunk)).toHaveLength(1);
  expect(chunk.sees(Number(done[0]!.xid))).toBe(true);
  expect(chunk.sees(Number(open[0]!.xid))).toBe(false);
  expect(chunk.sees(Number(open[0]!.xid) + 1000)).toBe(false);
  await other.query("commit");
});

test("a chunk of a table that has changed since is refused as a passing fault; a renamed column is followed", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key, a int); insert into t values (1, 5)");
  await using source = await openSource(database);
  const table = await tableVersion(source, "public.t");
  await database.query("alter table t rename column a to b");
  expect(chunkRows(await source.rows.readRange(table, { after: null, where: null }, never))).toEqual([
    { id: "1", a: "5" },
  ]);
  await database.query("alter table t alter b type text");
  await expect(source.rows.readRange(table, { after: null, where: null }, never)).rejects.toMatchObject({
    code: "MR2025",
    kind: "retryable",
  });
  await database.query("drop table t");
  await expect(source.rows.readKeys(table, [["1"]], never)).rejects.toMatchObject({
    code: "MR2025",
    kind: "retryable",
  });
});

test("no chunk, and no row by its key, is of a table that was swapped since, or attached since the last look", async () => {
  await using database = await freshDatabase();
  await database.query(ARCHIVED);
  await using source = await openSource(database);
  const [next, archive] = [
    await tableVersion(source, "public.users_next"),
    await tableVersion(source, "public.archive"),
  ];
  const reads = (table: TableVersion, ...keys: readonly KeyText[]): readonly (() => Promise<unknown>)[] => [
    () => source.rows.readRange(table, { after: null, where: null }, never),
    () => source.rows.readKeys(table, keys, never),
    () => source.rows.readWritten!(table, keys, [], never),
  ];
  const expectRefused = async (table: TableVersion, ...keys: readonly KeyText[]): Promise<void> => {
    for (const read of reads(table, ...keys))
      await expect(read()).rejects.toMatchObject({ code: "MR2025", kind: "retryable" });
  };
  await database.query(ATTACHED);
  await expectRefused(archive, ["1"], ["101"]);
  await source.catalog.tables(never);
  expect(chunkRows(await source.rows.readKeys(archive, [["1"]], never))).toEqual([{ id: "1", mail: "of users" }]);
  await database.query(`alter table archive detach partition users; ${SWAPPED}`);
  await expectRefused(next, ["1"]);
});

test("a chunk does not wait for ever behind a lock", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key)");
  await using source = await openSource(database);
  const table = await tableVersion(source, "public.t");
  await using other = await database.connect();
  await other.query("begin; lock table t");
  await expect(source.rows.readRange(table, { after: null, where: null }, never)).rejects.toMatchObject({
    code: "MR2026",
    kind: "retryable",
  });
  await other.query("rollback");
});
