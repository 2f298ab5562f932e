/** Both ends of a raw copy: the parts of a table at the source, and the sessions that write them at the target. */
import { setTimeout as delay } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import { PostgresSink } from "../../connectors/postgres/sink/sink.ts";
import { rangesOf } from "../../connectors/postgres/source/snapshot/initial-snapshot.ts";
import type { RawTable, RawTaker, RawWork, RawWriter } from "../../src/core/contracts/raw-copy.ts";
import type { FirstCopy } from "../../src/core/contracts/log-admin.ts";
import { abortOf } from "../../src/core/clock.ts";
import { abortedError, findMillraceError } from "../../src/core/errors.ts";
import { timeout } from "../conformance/stage.ts";
import { firstVersion, tableVersion } from "../support/model/blocks.ts";
import { LARGE } from "../support/postgres/large-tables.ts";
import { createLog, never, openSource } from "../support/postgres/postgres-source.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { createFreshDatabase } from "../support/run/fresh-database.ts";
import { type FreshDatabase, freshDatabase, ownPostgres } from "../support/run/services.ts";

const ROWS = 40_000;
/** Some 20 MB. */
const TABLE = `create table t (id int primary key, note text); insert into t select g, repeat('note', 100) from generate_series(1, ${ROWS}) g`;

async function rawTable(copy: FirstCopy, tableId = "public.t"): Promise<RawTable> {
  const table = firstVersion(copy.tables.find(({ id }) => id === tableId)!);
  return (await copy.raw!.table(table, never))!;
}

/** The ids in the rows of these parts, by a session of their own. */
async function idsOf(table: RawTable, parts: readonly number[]): Promise<number[]> {
  const ids: number[] = [];
  let held = 0;
  const taker: RawTaker = {
    take: (bytes, start) => {
      ids.push(bytes.readInt32BE(start + 6));
      // A taker that is often full.
      return ++held % 1000 !== 0;
    },
    room: async () => {},
  };
  const reader = await table.reader(["binary", "binary"], never);
  try {
    for (const part of parts) await reader.read(part, taker, never);
  } finally {
    reader.close();
  }
  return ids;
}

test("the parts of a table have each row of the snapshot once, whatever is written meanwhile", async () => {
  await using database = await freshDatabase();
  await database.query(TABLE);
  await using source = await openSource(database);
  const { copy } = await createLog(source, true);
  const table = await rawTable(copy!);
  expect(table.partCount).toBeGreaterThan(2);
  await database.query(`insert into t select g, 'new' from generate_series(${ROWS + 1}, ${ROWS * 2}) g`);
  await database.query(`update t set note = 'moved'; delete from t where id % 3 = 0; update t set id = -id`);
  await database.query("vacuum t");
  const parts = Array.from({ length: table.partCount }, (_, i) => i);
  const ids = (await Promise.all([idsOf(table, parts.slice(1)), idsOf(table, [0])])).flat();
  expect(ids.length).toBe(ROWS);
  expect(new Set(ids).size).toBe(ROWS);
  expect(Math.max(...ids) - Math.min(...ids)).toBe(ROWS - 1);
  await copy!.close();
});

test("a part of a table that was rewritten, renamed in part, or is gone, is not read", async () => {
  await using database = await freshDatabase();
  const statements = ["truncate", "drop table", "vacuum full"].map((verb) => (name: string) => `${verb} ${name}`);
  const all = [...statements, (name: string) => `alter table ${name} rename large to small`];
  const names = all.map((_, i) => `t${i}`);
  for (const name of names) {
    await database.query(`create table ${name} (id int primary key, ${LARGE.column}); ${LARGE.external(name)};
      insert into ${name} select g, ${LARGE.value} from generate_series(1, ${LARGE.rows * 2}) g`);
  }
  await using source = await openSource(database);
  const { copy } = await createLog(source, true);
  for (const [i, sql] of all.entries()) {
    const table = await rawTable(copy!, `public.${names[i]!}`);
    await idsOf(table, [0]);
    await database.query(sql(names[i]!));
    const error = await idsOf(table, [1]).catch((caught: unknown) => caught);
    expect({ i, code: findMillraceError(error)?.code }).toEqual({ i, code: "MR2025" });
  }
  await copy!.close();
});

test("a small table has no parts", async () => {
  await using database = await freshDatabase();
  await database.query("create table t (id int primary key); insert into t select generate_series(1, 1000)");
  await using source = await openSource(database);
  const { copy } = await createLog(source, true);
  const table = firstVersion(copy!.tables[0]!);
  expect(await copy!.raw!.table(table, never)).toBeNull();
  await copy!.close();
});

test("parts cover all pages, each one once, and the last has no end", () => {
  for (const [bytes, pages, sessions] of [
    [5e6, 600, 2],
    [1e9, 122_070, 2],
    [1e12, 122_070_312, 8],
    [4e9, 12, 2],
    [9e6, 0, 2],
  ] as const) {
    const ranges = rangesOf(bytes, pages, sessions);
    expect(ranges[0]!.from).toBe(0);
    expect(ranges.at(-1)!.to).toBeNull();
    const isCut = ranges.every(({ from, to }, i) => to === null || (to > from && to === ranges[i + 1]?.from));
    expect({ bytes, isCut }).toEqual({ bytes, isCut: true });
  }
  expect(rangesOf(1e9, 122_070, 2).length).toBeGreaterThan(10);
});

const people = tableVersion({ table: "people", columns: { id: "integer", email: "text" } });

/** A row of the binary COPY form. */
function row(id: number, email: string): Buffer {
  const text = Buffer.from(email);
  const bytes = Buffer.alloc(2 + 8 + 4 + text.length);
  bytes.writeUInt16BE(2, 0);
  bytes.writeInt32BE(4, 2);
  bytes.writeInt32BE(id, 6);
  bytes.writeInt32BE(text.length, 10);
  text.copy(bytes, 14);
  return bytes;
}

function workOf(ids: readonly number[], email = "a@b"): RawWork {
  const read = async (taker: RawTaker): Promise<void> => {
    for (const id of ids) {
      const bytes = row(id, email);
      if (!taker.take(bytes, 0, bytes.length)) await taker.room();
    }
  };
  return { table: people, read, version: 7n, commitTimeUs: 1_700_000_000_123_456n };
}

async function opened(url: string, lease = 1, silenceMs = 15_000): Promise<PostgresSink> {
  const sink = new PostgresSink({
    name: "replica",
    checkpointName: "shop/replica",
    address: parsePostgresUrl(url),
    schema: undefined,
    silenceMs,
  });
  onTestFinished(() => sink.close());
  await sink.open(lease, timeout());
  await sink.prepare([people], timeout());
  return sink;
}

async function idsIn(database: FreshDatabase): Promise<readonly number[]> {
  const { rows } = await database.query<{ id: number }>("select id from people order by id");
  return rows.map(({ id }) => id);
}

test("several sessions write parts of one table, with rows of any size; each part appears with its commit", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database.url);
  expect(sink.raw.columns(people)).toEqual(["binary", "binary"]);
  const [a, b] = await Promise.all([sink.raw.writer(timeout()), sink.raw.writer(timeout())]);
  const written = await Promise.all([
    a.write(workOf([1, 2, 3], "x".repeat(3_000_000)), timeout()),
    b.write(workOf(Array.from({ length: 30_000 }, (_, i) => 10 + i)), timeout()),
  ]);
  expect([written, await idsIn(database)]).toEqual([[3, 30_000], []]);
  await Promise.all([a.commit(timeout()), b.commit(timeout())]);
  expect((await idsIn(database)).length).toBe(30_003);
  expect(await b.write(workOf([5]), timeout())).toBe(1);
  await b.commit(timeout());
  a.close();
  b.close();
  const { rows } = await database.query(
    "select distinct _millrace_version, _millrace_commit_time::text, length(email) from people order by 3",
  );
  const stamp = { _millrace_version: "7" };
  expect(rows).toMatchObject([
    { ...stamp, length: 3 },
    { ...stamp, length: 3_000_000 },
  ]);
  // The fence knows what was counted.
  await sink.verify(timeout());
});

/** The target's indexes and comment. */
async function keyIn(database: FreshDatabase): Promise<{ readonly indexes: readonly string[]; readonly note: string }> {
  const { rows } = await database.query<{ indexes: string[]; note: string }>(
    `select array(select indexdef from pg_indexes where tablename = 'people' order by 1) as indexes,
       obj_description('people'::regclass) as note`,
  );
  return rows[0]!;
}

async function writeAll(sink: PostgresSink, ids: readonly number[]): Promise<void> {
  const writer = await sink.raw.writer(timeout());
  await writer.write(workOf(ids), timeout());
  await writer.commit(timeout());
  writer.close();
}

test("a new table has no index while it is copied, and its primary key when it is finished", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database.url);
  const before = await keyIn(database);
  expect(before.indexes).toEqual([expect.stringContaining("UNIQUE INDEX people_pkey")]);
  await sink.raw.begin(people, timeout());
  await writeAll(sink, [1, 2]);
  expect(await keyIn(database)).toMatchObject({ indexes: [], note: expect.stringContaining('"keyless":true') });
  await sink.raw.finish(people, timeout());
  expect(await keyIn(database)).toEqual(before);
  const { rows } = await database.query("select contype from pg_constraint where conname = 'people_pkey'");
  expect(rows).toEqual([{ contype: "p" }]);
  await sink.verify(timeout());
});

test("a copy that was not finished: whoever prepares the table next gives it its key", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database.url);
  const before = await keyIn(database);
  await sink.raw.begin(people, timeout());
  await writeAll(sink, [1, 2]);
  await opened(database.url, 2);
  expect(await keyIn(database)).toEqual(before);
  expect(await idsIn(database)).toEqual([1, 2]);
  // With the lease gone, this one can't finish.
  await expect(sink.raw.finish(people, timeout())).rejects.toMatchObject({ code: "MR3109" });
  expect(await keyIn(database)).toEqual(before);
});

test.for([
  ["it was there before", "select 1", "reopened"],
  ["something depends on its key", "create table child (id int references people)", "new"],
  ["a view does", "create view people_of as select id, email from people group by id", "new"],
] as const)("a table keeps its key during a copy if %s", async ([, sql, which]) => {
  await using database = await freshDatabase();
  let sink = await opened(database.url);
  if (which === "reopened") sink = await opened(database.url, 2);
  const before = await keyIn(database);
  await database.query(sql);
  await sink.raw.begin(people, timeout());
  expect(await keyIn(database)).toEqual(before);
  await writeAll(sink, [1, 2]);
  await sink.raw.finish(people, timeout());
  expect(await keyIn(database)).toEqual(before);
});

test("a table that has rows is not copied: the copy's may be among them", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database.url);
  const before = await keyIn(database);
  await writeAll(sink, [1]);
  expect(await sink.raw.begin(people, timeout())).toBe(false);
  expect(await keyIn(database)).toEqual(before);
});

test("a part with a row that exists fails, and leaves nothing", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database.url);
  const writer = await sink.raw.writer(timeout());
  await writer.write(workOf([1]), timeout());
  await writer.commit(timeout());
  await expect(writer.write(workOf([2, 1]), timeout())).rejects.toMatchObject({ code: "MR3111" });
  expect(await idsIn(database)).toEqual([1]);
  await sink.verify(timeout());
});

test("after another process has taken over, no part is committed, and none stands in its way", async () => {
  await using database = await freshDatabase();
  const sink = await opened(database.url);
  const [a, b] = await Promise.all([sink.raw.writer(timeout()), sink.raw.writer(timeout())]);
  await a.write(workOf([1]), timeout());
  const next = await opened(database.url, 2);
  await expect(a.commit(timeout())).rejects.toMatchObject({ code: expect.stringMatching(/^MR(?:2001|2029|31)/) });
  await expect(b.write(workOf([2]), timeout())).rejects.toMatchObject({
    code: expect.stringMatching(/^MR(?:2001|2029|31)/),
  });
  const late = await sink.raw.writer(timeout());
  await expect(late.write(workOf([3]), timeout())).rejects.toMatchObject({
    code: expect.stringMatching(/^MR(?:2001|2029|31)/),
  });
  const writer = await next.raw.writer(timeout());
  await writer.write(workOf([1]), timeout());
  await writer.commit(timeout());
  writer.close();
  expect(await idsIn(database)).toEqual([1]);
  await next.verify(timeout());
});

test("parts that a crash of the target takes back are missed, also by a session that is opened after it; those of a finished copy stay", async () => {
  // Commits that do not wait reach the disk with the next one that does.
  await using server = await ownPostgres({ settings: { wal_writer_delay: "10s", autovacuum: "off" } });
  await using database = await createFreshDatabase(server);
  const sink = await opened(database.url);
  const writePart = async (id: number): Promise<RawWriter> => {
    const writer = await sink.raw.writer(timeout());
    await writer.write(workOf([id]), timeout());
    await writer.commit(timeout());
    return writer;
  };
  (await writePart(1)).close();
  await sink.raw.finish(people, timeout());
  (await writePart(2)).close();
  await server.kill();
  await server.start();
  expect(await idsIn(database)).toEqual([1]);
  await expect(sink.raw.finish(people, timeout())).rejects.toMatchObject({
    code: expect.stringMatching(/^MR(?:2001|2029|31)/),
  });
  await sink.open(1, timeout());
  (await writePart(3)).close();
  expect(await idsIn(database)).toEqual([1, 3]);
});

test("if the answer to a commit is lost, the sink goes on behind it, whatever became of the part", async () => {
  await using database = await freshDatabase();
  await using proxy = await tcpProxy(database.url);
  const sink = await opened(proxy.url(database.url));
  for (const direction of ["toClient", "toServer"] as const) {
    const writer = await sink.raw.writer(timeout());
    const id = direction === "toClient" ? 1 : 2;
    await writer.write(workOf([id]), timeout());
    proxy.stall(direction);
    await expect(writer.commit(AbortSignal.timeout(500))).rejects.toBeDefined();
    await proxy.resume();
    await sink.open(1, timeout());
    await sink.verify(timeout());
    const again = await sink.raw.writer(timeout());
    await again.write(workOf([10 + id]), timeout());
    await again.commit(timeout());
    again.close();
  }
  expect(await idsIn(database)).toEqual(expect.arrayContaining([11, 12]));
});

test("a session that waits for a slow source is kept, one whose target is silent is given up", async () => {
  const silenceMs = 100;
  await using database = await freshDatabase();
  await using proxy = await tcpProxy(database.url);
  const sink = await opened(proxy.url(database.url), 1, silenceMs);
  const writer = await sink.raw.writer(timeout());
  const { read: first } = workOf([1]);
  const { read: second, ...work } = workOf([2]);
  const slowly: RawWork["read"] = async (taker, signal) => {
    await first(taker, signal);
    await delay(silenceMs * 5);
    await second(taker, signal);
  };
  expect(await writer.write({ ...work, read: slowly }, timeout())).toBe(2);
  await writer.commit(timeout());

  const unending: RawWork["read"] = async (taker, signal) => {
    proxy.stall();
    const bytes = row(3, "x".repeat(1_000_000));
    while (!signal.aborted) {
      if (!taker.take(bytes, 0, bytes.length)) await Promise.race([taker.room(), abortOf(signal)]);
    }
    throw abortedError(signal);
  };
  await expect(writer.write({ ...work, read: unending }, timeout())).rejects.toMatchObject({ kind: "retryable" });
  await proxy.resume();
  await sink.open(1, timeout());
  expect(await idsIn(database)).toEqual([1, 2]);
});
