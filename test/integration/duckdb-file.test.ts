import type { QueryResult, Sink } from "../../src/core/contracts/sink.ts";
import { dirname } from "node:path";
import { queryFile } from "../../connectors/duckdb/inspect/query-file.ts";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  renameSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { expect, test } from "vitest";
import { factory, definition } from "../../connectors/duckdb/config.ts";
import { DuckdbInspection } from "../../connectors/duckdb/inspect/inspect.ts";
import { duckdbSink } from "../../connectors/duckdb/sink.ts";
import { findMillraceError, type MillraceError } from "../../src/core/errors.ts";
import { failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { duckdbTarget } from "../support/warehouses/duckdb-target.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const items = tableVersion({ table: "items", columns: { id: "int8", v: "text" } });

function sinkAt(path: string, more: { name?: string; schema?: string; memoryLimit?: string } = {}): Sink {
  const { name = "w", schema, memoryLimit = "256MB" } = more;
  return duckdbSink({ name, owner: `shop/${name}`, path, memoryLimit, threads: 2, schema });
}

/** Undefined where it succeeds. */
async function failureOf(work: Promise<void>): Promise<MillraceError | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    return findMillraceError(error);
  }
}

const batch = (at: bigint, id: string) => rowsBatch(at, [items, [put([id, "x"])]]);

/** What somebody did to the open file stops each call, until the sink is opened again. */
async function expectReopening(sink: Sink, next: ReturnType<typeof batch>): Promise<void> {
  for (const call of [() => sink.verify(timeout()), () => sink.apply(next, new Reports(), timeout())]) {
    const error = await failure(call());
    expect([error.code, error.kind]).toEqual(["MR3110", "reopen"]);
  }
}

test("what is no DuckDB file, a damaged one and a missing folder are told apart", async () => {
  using folder = temporaryFolder();
  const foreign = folder.file("notes.duckdb");
  writeFileSync(foreign, "not a database ".repeat(2000));
  expect(await failure(sinkAt(foreign).open(1, timeout()))).toMatchObject({
    code: "MR3202",
    message: expect.stringContaining(foreign),
  });

  const whole = folder.file("whole.duckdb");
  const sink = sinkAt(whole);
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(
    rowsBatch(10n, [items, Array.from({ length: 5000 }, (_, i) => put([`${i}`, "x".repeat(100)]))]),
    new Reports(),
    timeout(),
  );
  await sink.close();
  const damaged = folder.file("damaged.duckdb");
  copyFileSync(whole, damaged);
  truncateSync(damaged, 100_000);
  expect(await failure(sinkAt(damaged).open(1, timeout()))).toMatchObject({
    code: "MR3202",
    hint: expect.stringContaining(`mv ${damaged} ${damaged}.damaged`),
  });

  const nowhere = await failure(sinkAt(folder.file("missing/x.duckdb")).open(1, timeout()));
  expect([nowhere.code, nowhere.kind]).toEqual(["MR3203", "blocked"]);
  expect(nowhere.hint).toContain("mkdir");
});

test("a sink that could not be opened can be opened once the reason is gone", async () => {
  using folder = temporaryFolder();
  const sink = sinkAt(folder.file("later/x.duckdb"));
  await failure(sink.open(1, timeout()));
  mkdirSync(folder.file("later"));
  expect(await sink.open(1, timeout())).toBeNull();
  await sink.close();
});

test("a file moved away while it is open stops the sink before anything is taken for durable", async () => {
  using folder = temporaryFolder();
  const path = folder.file("x.duckdb");
  const sink = sinkAt(path);
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(batch(10n, "1"), new Reports(), timeout());
  renameSync(path, folder.file("moved.duckdb"));
  await expectReopening(sink, batch(20n, "2"));
  await sink.close();
});

test("a file that is emptied in place stops the sink before anything is taken for durable, and the way out is told", async () => {
  using folder = temporaryFolder();
  const path = folder.file("x.duckdb");
  const sink = sinkAt(path);
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(batch(10n, "1"), new Reports(), timeout());
  await sink.verify(timeout());
  truncateSync(path);
  await expectReopening(sink, batch(20n, "2"));
  expect(await failure(sink.open(2, timeout()))).toMatchObject({
    code: "MR3202",
    hint: expect.stringContaining(`mv ${path} ${path}.damaged`),
  });
  renameSync(path, `${path}.damaged`);
  renameSync(`${path}.wal`, `${path}.damaged.wal`);
  expect(await sink.open(3, timeout())).toBeNull();
  await sink.close();
});

test("an older copy that is written over an open file, or over its log, stops the sink, and what it has is what counts", async () => {
  using folder = temporaryFolder();
  const path = folder.file("x.duckdb");
  const first = sinkAt(path);
  await first.open(1, timeout());
  await first.prepare([items], timeout());
  await first.apply(batch(10n, "1"), new Reports(), timeout());
  await first.close();
  copyFileSync(path, folder.file("older"));
  const second = sinkAt(path);
  await second.open(2, timeout());
  await second.prepare([items], timeout());
  await second.apply(batch(15n, "2"), new Reports(), timeout());
  await second.close();
  const sink = sinkAt(path);
  await sink.open(3, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(batch(20n, "2"), new Reports(), timeout());
  await sink.verify(timeout());
  copyFileSync(folder.file("older"), path);
  writeFileSync(`${path}.wal`, "");
  await expectReopening(sink, batch(30n, "3"));
  expect(await sink.open(4, timeout())).toEqual(batch(10n, "1").checkpoint);
  await sink.prepare([items], timeout());
  await sink.apply(batch(20n, "2"), new Reports(), timeout());
  await sink.verify(timeout());
  await sink.close();
});

test("an older copy of the same size that is written over an open file stops the sink; a time that changes alone does not", async () => {
  using folder = temporaryFolder();
  const path = folder.file("x.duckdb");
  for (const lease of [1, 2]) {
    const sink = sinkAt(path);
    await sink.open(lease, timeout());
    await sink.prepare([items], timeout());
    await sink.apply(batch(BigInt(lease * 10), `${lease}`), new Reports(), timeout());
    await sink.close();
    if (lease === 1) copyFileSync(path, folder.file("older"));
  }
  const sink = sinkAt(path);
  await sink.open(3, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(batch(30n, "3"), new Reports(), timeout());
  for (const file of [path, `${path}.wal`]) utimesSync(file, new Date(0), new Date(0));
  await sink.verify(timeout());
  await sink.apply(batch(40n, "4"), new Reports(), timeout());
  const { size } = statSync(path);
  copyFileSync(folder.file("older"), path);
  truncateSync(path, size);
  await expectReopening(sink, batch(50n, "5"));
  await sink.close();
});

test.for(["removed", "replaced"])(
  "a log that is %s while it is open is noticed, and what was written is folded in",
  async (how) => {
    using folder = temporaryFolder();
    const path = folder.file("x.duckdb");
    const sink = sinkAt(path);
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    await sink.apply(batch(10n, "1"), new Reports(), timeout());
    await sink.verify(timeout());
    renameSync(`${path}.wal`, folder.file("log"));
    if (how === "replaced") copyFileSync(folder.file("log"), `${path}.wal`);
    await expectReopening(sink, batch(20n, "2"));
    expect(await sink.open(2, timeout())).toEqual(batch(10n, "1").checkpoint);
    await sink.prepare([items], timeout());
    await sink.apply(batch(20n, "2"), new Reports(), timeout());
    await sink.verify(timeout());
    await sink.close();
  },
);

test("a table dropped behind the sink's back is found", async () => {
  await using target = duckdbTarget();
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.verify(timeout());
  await target.query("drop table public.items");
  const error = await failure(sink.verify(timeout()));
  expect([error.code, error.kind]).toEqual(["MR3110", "reopen"]);
  expect(error.lostTables).toEqual(["public.items"]);
  await sink.close();
});

test("a sink whose memory a long read has filled goes on when the read has ended", async () => {
  using folder = temporaryFolder();
  const ROWS = 12_000;
  const settings = { path: folder.file("x.duckdb"), memoryLimit: "96MB", threads: 2 };
  const sink = sinkAt(settings.path, settings);
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const written = (at: bigint) => {
    const rows = Array.from({ length: ROWS }, (_, i) => put([`${i}`, `${at} `.repeat(200)]));
    return sink.apply(rowsBatch(at, [items, rows]), new Reports(), timeout());
  };
  await written(10n);
  await using inspection = await DuckdbInspection.open(settings, {
    schema: undefined,
    form: { deletes: "hard", mode: "mirror" },
  });
  const reading = inspection.keys(items, timeout())[Symbol.asyncIterator]();
  const piece = await reading.next();
  expect(piece.done === true ? ROWS : piece.value.length).toBeLessThan(ROWS);
  let error: MillraceError | undefined;
  let at = 20n;
  for (; error === undefined && at < 400n; at += 10n) error = await failureOf(written(at));
  expect(error).toMatchObject({ code: "MR2006", kind: "retryable" });
  while ((await reading.next()).done !== true);
  // The first attempt behind the read makes room, the second one uses it.
  await failureOf(written(at));
  await written(at);
  await sink.close();
});

test("two sinks share a file, each with its own progress; one target has one writer", async () => {
  using folder = temporaryFolder();
  const path = folder.file("x.duckdb");
  const [a, b] = [sinkAt(path, { name: "a" }), sinkAt(path, { name: "b", schema: "copies" })];
  for (const sink of [a, b]) {
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
  }
  await Promise.all([
    a.apply(batch(10n, "1"), new Reports(), timeout()),
    b.apply(batch(20n, "2"), new Reports(), timeout()),
  ]);
  await a.close();
  const { rows } = await queried(b, path, "select (select id from public.items), (select id from copies.items)");
  expect(rows).toEqual([[1, 2]]);
  const c = sinkAt(path, { name: "c", schema: "COPIES" });
  await c.open(1, timeout());
  expect((await failure(c.prepare([items], timeout()))).code).toBe("MR1305");
  const d = sinkAt(path, { name: "d", memoryLimit: "300MB" });
  expect((await failure(d.open(1, timeout()))).code).toBe("MR2004");
  for (const sink of [b, c, d]) await sink.close();
  const again = sinkAt(path, { name: "a" });
  expect((await again.open(2, timeout()))?.position.commit).toBe(11n);
  await again.close();
});

test("tables that would be one have one target; names that are taken are refused", async () => {
  await using target = duckdbTarget();
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const columns = [["id", "int8"]] as const;
  const refused = async (table: ReturnType<typeof tableVersion>): Promise<string> =>
    (await failure(sink.prepare([table], timeout()))).code;
  const upper = tableVersion({ table: "ITEMS", columns, key: ["id"] });
  expect(sink.target(upper)).toBe(sink.target(items));
  // The caller refuses the second of two; where the first is gone, its target is the second one's.
  await sink.prepare([upper], timeout());
  expect(await refused(tableVersion({ schema: "_Millrace", table: "progress", columns, key: ["id"] }))).toBe("MR3117");
  expect(await refused(tableVersion({ schema: "pg_catalog", table: "x", columns, key: ["id"] }))).toBe("MR3117");
  const own = tableVersion({ table: "own", columns: [...columns, ["_millrace_version", "int8"]], key: ["id"] });
  expect(await refused(own)).toBe("MR3117");
  // Names that are DuckDB's own only in other places.
  for (const schema of ["main", "temp", "warehouse", "select"]) {
    await sink.prepare([tableVersion({ schema, table: "warehouse", columns, key: ["id"] })], timeout());
  }
  await sink.close();
});

test("a type and a key that somebody else changed in the file are refused", async () => {
  await using target = duckdbTarget();
  const first = target.makeSink();
  await first.open(1, timeout());
  await first.prepare([items], timeout());
  await first.close();
  const [kept] = await target.query("select comment from duckdb_tables() where table_name = 'items'");
  const note = typeof kept?.[0] === "string" ? kept[0] : "";
  let lease = 1;
  for (const [code, columns] of [
    ["MR3107", "id bigint primary key, v int"],
    ["MR3107", "id bigint, v varchar primary key"],
  ] as const) {
    await target.query("drop table public.items");
    await target.query(
      `create table public.items (${columns}, _millrace_version bigint not null, _millrace_commit_time timestamptz not null)`,
    );
    await target.query(`comment on table public.items is '${note}'`);
    const sink = target.makeSink();
    await sink.open(++lease, timeout());
    expect((await failure(sink.prepare([items], timeout()))).code).toBe(code);
    await sink.close();
  }
});

/** As the command does it, but in this process. */
async function queried(sink: Sink, path: string, sql: string, signal = timeout()): Promise<QueryResult> {
  const request = { sql, rowCountMax: 5, byteCountMax: 10_000 };
  const copy = await sink.copies!.copy(timeout());
  return await queryFile({ path, memoryLimit: "256MB", threads: 2 }, request, copy, signal);
}

test("queries read beside the writes, and only read", async () => {
  await using target = duckdbTarget();
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(batch(10n, "9007199254740993"), new Reports(), timeout());
  const ask = (sql: string) => queried(sink, target.path, sql);
  expect(await ask("select id, v from public.items")).toEqual({
    columns: [
      { name: "id", type: "BIGINT" },
      { name: "v", type: "VARCHAR" },
    ],
    rows: [["9007199254740993", "x"]],
    truncated: false,
  });
  const integers = "9007199254740991::bigint, -9007199254740992::bigint, 2::hugeint, [1::ubigint], 1.50::decimal(9, 2)";
  expect((await ask(`select ${integers}`)).rows).toEqual([[9007199254740991, "-9007199254740992", 2, [1], "1.50"]]);
  expect(await ask("from range(1000000)")).toMatchObject({ rows: { length: 5 }, truncated: true });
  const wide = await ask("select repeat('x', 6000) from range(5)");
  expect(wide).toMatchObject({ rows: { length: 1 }, truncated: true });
  await ask("explain select 1");
  await ask("describe public.items");
  for (const sql of [
    "delete from public.items",
    "insert into public.items values (1)",
    "create table x (a int)",
    "drop table public.items",
    "update _millrace.progress set lease = 99",
    "select 1; delete from public.items",
    "explain analyze delete from public.items",
    "attach ':memory:' as m",
    "set memory_limit = '1GB'",
    "set enable_external_access = true",
    "copy public.items to '/tmp/millrace-copy.csv'",
    "pragma database_list; drop table public.items",
    "checkpoint",
    "commit",
    "call pragma_version(); commit",
    "select * from read_text('/etc/hostname')",
    "select * from glob('/etc/*')",
    "select * from '/proc/self/environ'",
    "install httpfs",
    "load httpfs",
    "",
    "no sql",
  ]) {
    const error = await failure(ask(sql));
    expect(error.code, sql).toBe("MR1321");
  }
  const long = "select count(*) from range(1000000000), range(1000000)";
  await expect(queried(sink, target.path, long, AbortSignal.timeout(50))).rejects.toThrow();
  expect((await ask("select count(*)::integer from public.items")).rows).toEqual([[1]]);
  await sink.apply(batch(20n, "2"), new Reports(), timeout());
  await sink.close();
});

test("a copy holds what was committed when it was asked for, while steps go on, and leaves nothing behind", async () => {
  await using target = duckdbTarget();
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const many = (from: number) => Array.from({ length: 20_000 }, (_, i) => put([`${from + i}`, "x".repeat(200)]));
  await sink.apply(rowsBatch(10n, [items, many(0)]), new Reports(), timeout());
  const over = new AbortController();
  const writer = (async () => {
    for (let at = 20n; !over.signal.aborted; at += 10n) {
      await sink.apply(rowsBatch(at, [items, many(Number(at) * 10_000)]), new Reports(), timeout());
    }
  })();
  for (let i = 0; i < 3; i++) {
    const sql =
      "select count(*)::integer % 20000, (max(_millrace_version) - min(_millrace_version))::integer / 10 + 1 - count(*)::integer / 20000 from public.items";
    expect((await queried(sink, target.path, sql)).rows).toEqual([[0, 0]]);
  }
  over.abort();
  await writer;
  expect(readdirSync(dirname(target.path)).filter((name) => name.includes("query"))).toEqual([]);
  await sink.close();
});

test("closing while a step is in flight abandons it; the file is free and nothing of it is there", async () => {
  await using target = duckdbTarget();
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const many = Array.from({ length: 20_000 }, (_, i) => put([`${i}`, "x".repeat(50)]));
  const applying = sink.apply(rowsBatch(10n, [items, many]), new Reports(), timeout());
  const [outcome] = await Promise.allSettled([applying, sink.close()]);
  const next = target.makeSink();
  const held = await next.open(2, timeout());
  const { rows } = await queried(next, target.path, "select count(*)::integer from public.items");
  expect([outcome.status, held?.position.commit ?? null, rows[0]?.[0]]).toEqual(
    outcome.status === "fulfilled" ? ["fulfilled", 11n, 20_000] : ["rejected", null, 0],
  );
  await next.close();
});

test("no staged row is left in any folder, and none can be read by others", async () => {
  const folders = ["/dev/shm", "/tmp"];
  const staged = () =>
    folders.flatMap((folder) => readdirSync(folder).filter((name) => /^millrace-[A-Za-z0-9]{6}$/.test(name)));
  const before = new Set(staged());
  await using target = duckdbTarget();
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(batch(10n, "1"), new Reports(), timeout());
  if (process.platform === "linux") expect(staged().filter((name) => !before.has(name))).toEqual([]);
  await sink.close();
});

test("check says what would fail, and creates nothing", async () => {
  using folder = temporaryFolder();
  const check = (path: string) =>
    factory.check({ name: "w", daemon: "shop", folder: folder.path, options: definition.parse({ path }) }, timeout());
  expect((await check("new.duckdb")).map(({ level }) => level)).toEqual(["ok"]);
  expect(readdirSync(folder.path)).toEqual([]);
  expect((await check("missing/new.duckdb")).map(({ level, fix }) => [level, fix])).toEqual([
    ["error", `mkdir -p ${folder.file("missing")}`],
  ]);
  writeFileSync(folder.file("foreign.duckdb"), "x".repeat(20_000));
  expect((await check("foreign.duckdb"))[0]?.what).toContain("MR3202");
  const sink = sinkAt(folder.file("real.duckdb"));
  await sink.open(1, timeout());
  await sink.close();
  expect((await check("real.duckdb")).map(({ level }) => level)).toEqual(["ok"]);
  chmodSync(folder.path, 0o700);
});
