/** A lake whose catalogue is in Postgres: connections that break, logins that are refused. */
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { readTextRows } from "../../connectors/kit/duckdb-engine/engine.ts";
import { METADATA } from "../../connectors/duckdb/lake/engine.ts";
import { quoteLiteral } from "../../connectors/duckdb/names.ts";
import { Lake } from "../../connectors/duckdb/lake/lake.ts";
import { queryLake } from "../../connectors/duckdb/lake/query.ts";
import { lakeSink } from "../../connectors/duckdb/lake/sink.ts";
import { placeOf } from "../../connectors/duckdb/lake/place.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { listening } from "../support/network/listening.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { lacksPgBouncer, startPgBouncer } from "../support/postgres/pgbouncer.ts";
import { freshDatabase, ownPostgres, postgresMajor } from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { lakeTarget } from "../support/warehouses/ducklake-target.ts";

const SHAPES = 15;

const items = tableVersion({ table: "items", columns: { id: "int8", v: "text" } });

test("a broken connection costs no row: the step succeeds, at the latest once the sink is opened again", async () => {
  await using target = await lakeTarget("postgres");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(1n, [items, [put(["1", "a"])]]), new Reports(), timeout());
  await target.cut!();
  const batch = rowsBatch(2n, [items, [put(["1", "b"]), put(["2", "b"])]]);
  // DuckDB may have noticed by itself. If not: as the runtime does.
  await sink.apply(batch, new Reports(), timeout()).catch(async (error: unknown) => {
    expect(findMillraceError(error)).toMatchObject({ kind: "retryable" });
    await sink.open(2, timeout());
    await sink.prepare([items], timeout());
    await sink.apply(batch, new Reports(), timeout());
  });
  const rows = await target.readRows(items);
  expect(rows.map(({ cells }) => cells.join(" ")).toSorted()).toEqual(["1 b", "2 b"]);
  await sink.close();
});

test("a delete and a compaction that meet in one file never both commit: the row would be back", async () => {
  await using target = await lakeTarget("postgres");
  await target.query("create schema lake.public");
  const lake = await Lake.acquire(target.options);
  const [writer, upkeep] = [await lake.connect(), await lake.connect()];
  for (const compaction of ["merge_adjacent_files", "rewrite_data_files"]) {
    for (const isDeleteFirst of [true, false]) {
      const name = `${compaction}_${isDeleteFirst ? "late" : "early"}`;
      const table = `lake.public.${name}`;
      await writer.run(`create table ${table} as select range as id from range(1000)`);
      await writer.run(`insert into ${table} select range from range(1000, 2000)`);
      if (compaction === "rewrite_data_files") await writer.run(`delete from ${table} where id < 990`);
      await upkeep.run(`begin; call ducklake_${compaction}('lake', '${name}', schema => 'public')`);
      // So few that DuckLake keeps the delete in the catalogue.
      await writer.run(`begin; delete from ${table} where id = 995`);
      const [first, second] = isDeleteFirst ? [writer, upkeep] : [upkeep, writer];
      await first.run("commit");
      await expect(second.run("commit"), name).rejects.toThrow(/Failed to commit/);
      const left = await target.query(`select count(*)::integer from ${table} where id = 995`);
      expect([name, left]).toEqual([name, [[isDeleteFirst ? 0 : 1]]]);
    }
  }
  for (const connection of [writer, upkeep]) connection.disconnectSync();
  await lake.release();
});

test("what another daemon begins while the sink is forgotten stays", async () => {
  await using target = await lakeTarget("postgres");
  const { place } = target.options;
  await using proxy = await tcpProxy(place.catalog);
  const of = (name: string, catalog: string) =>
    lakeSink({
      ...target.options,
      name,
      owner: `${name}/lake`,
      schema: name,
      place: placeOf({ ...place, catalog }, "/"),
    });
  const [going, coming] = [of("going", proxy.url(place.catalog)), of("coming", place.catalog)];
  const batch = (at: bigint) => rowsBatch(at, [items, [put([`${at}`, "a"])]]);
  await going.open(1, timeout());
  await going.prepare([items], timeout());
  await going.apply(batch(10n), new Reports(), timeout());
  const held = proxy.hold("INSERT INTO");
  const forgetting = going.forget(timeout());
  await held.reached;
  expect(await coming.open(1, timeout())).toBeNull();
  await coming.prepare([items], timeout());
  await coming.apply(batch(20n), new Reports(), timeout());
  await held.release();
  await forgetting;
  await coming.verify(timeout());
  await coming.apply(batch(30n), new Reports(), timeout());
  await coming.close();
  const again = of("coming", place.catalog);
  expect((await again.open(2, timeout()))?.position.commit).toBe(31n);
  expect(await target.query("select id from lake.coming.items order by id")).toEqual([["20"], ["30"]]);
  expect(await going.look(timeout())).toBeNull();
  for (const sink of [going, again]) await sink.close();
});

test(
  "queries and comparisons never end the process while maintenance removes places of former shapes",
  { tags: "heavy" },
  async () => {
    await using target = await lakeTarget("postgres");
    const sink = target.makeSink();
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    const over = new AbortController();
    const repeated = async (work: () => Promise<void>) => {
      let count = 0;
      for (; !over.signal.aborted; count++) await work();
      return count;
    };
    const asked = repeated(async () => {
      const sql = "select count(*) < 100 from lake.public.items";
      const { rows } = await queryLake(target.options, { sql, rowCountMax: 10, byteCountMax: 1_000 }, timeout());
      expect(rows).toEqual([[true]]);
    });
    const compared = repeated(async () => {
      await using inspection = await sink.inspect();
      // It may have lost its engine, and then says so.
      const read = inspection.rows(items, [["1"]], timeout());
      await read.catch((error: unknown) => expect(findMillraceError(error)?.kind).toBe("retryable"));
    });
    for (let i = 1; i <= SHAPES; i++) {
      await sink.apply(rowsBatch(BigInt(i), [items, [put([`${i}`, "a"])]]), new Reports(), timeout());
      await target.query(`alter table lake.public.items add column c${i} integer`);
      if (i % 3 === 0) await target.query("call ducklake_flush_inlined_data('lake')");
    }
    over.abort();
    for (const count of await Promise.all([asked, compared])) expect(count).toBeGreaterThan(3);
    expect(await target.readRows(items)).toHaveLength(SHAPES);
    await sink.close();
  },
);

test("a server that never answers is given up", { tags: "heavy" }, async () => {
  await using target = await lakeTarget("postgres");
  await using silent = await listening(createServer((socket) => socket.on("error", () => socket.destroy()).resume()));
  const place = placeOf({ catalog: `postgres://u:p@${silent.host}/d`, data: "data" }, target.options.place.data);
  const sink = lakeSink({ ...target.options, place });
  expect(await failure(sink.open(1, timeout()))).toMatchObject({ code: "MR2001", kind: "retryable" });
  await sink.close();
});

test("no limit of the catalogue's database, and no option of its URL, ends what a lake does", async () => {
  await using target = await lakeTarget("postgres");
  const { options } = target;
  const url = new URL(options.place.catalog);
  await using database = await freshDatabase();
  const name = database.name;
  const limits = {
    statement_timeout: "1",
    lock_timeout: "1",
    idle_in_transaction_session_timeout: "1",
    idle_session_timeout: "1",
  };
  const others = {
    default_transaction_isolation: "serializable",
    synchronous_commit: "off",
  };
  const ofServer = postgresMajor() >= 17 ? { transaction_timeout: "1" } : {};
  for (const [setting, value] of Object.entries({ ...limits, ...others, ...ofServer }))
    await database.query(`alter database ${name} set ${setting} = '${value}'`);
  for (const more of ["", "?options=-c%20statement_timeout%3D1%20-c%20geqo%3Doff"]) {
    const place = placeOf({ catalog: `${new URL(`/${name}`, url).href}${more}`, data: options.place.data }, "/");
    const sink = lakeSink({ ...options, place });
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    await sink.apply(rowsBatch(1n, [items, [put(["1", "a"])]]), new Reports(), timeout());
    const lake = await Lake.acquire({ ...options, place });
    const connection = await lake.connect();
    const names = Object.keys({ ...limits, ...others, ...ofServer }).map((setting) => `'${setting}'`);
    const asked = `select name, setting from pg_settings where name in (${names.join(", ")}, 'geqo')`;
    const rows = await readTextRows(connection, `FROM postgres_query('${METADATA}', ${quoteLiteral(asked)})`);
    expect(Object.fromEntries(rows)).toEqual({
      ...Object.fromEntries(Object.keys({ ...limits, ...ofServer }).map((setting) => [setting, "0"])),
      default_transaction_isolation: "read committed",
      synchronous_commit: "on",
      geqo: more === "" ? "on" : "off",
    });
    connection.disconnectSync();
    await lake.release();
    await sink.close();
  }
});

test.for(["pool_mode = session", "pool_mode = session\nignore_startup_parameters = options"])(
  "a pooler that takes no settings at the login: %s",
  async (settings, { skip }) => {
    const reason = await lacksPgBouncer();
    skip(reason !== null, reason ?? "");
    await using target = await lakeTarget("postgres");
    const { options } = target;
    await using pooler = await startPgBouncer(options.place.catalog, settings);
    const { pathname } = new URL(options.place.catalog);
    const catalog = `${pooler.url}${pathname}?sslmode=disable`;
    const sink = lakeSink({ ...options, place: placeOf({ catalog, data: options.place.data }, "/") });
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    await sink.apply(rowsBatch(1n, [items, [put(["1", "a"])]]), new Reports(), timeout());
    await sink.close();
  },
);

test("a server that is down and a login that is refused are told apart, without the password", async () => {
  await using target = await lakeTarget("postgres");
  const { options } = target;
  const opening = async (change: (url: URL) => void) => {
    const url = new URL(options.place.catalog);
    change(url);
    url.password = "hush-hush";
    const sink = lakeSink({ ...options, place: placeOf({ catalog: url.href, data: options.place.data }, "/") });
    const error = await failure(sink.open(1, timeout()));
    await sink.close();
    expect(`${error.message} ${error.hint} ${String(error.cause)} ${error.stack}`).not.toContain("hush-hush");
    return error;
  };
  expect(await opening((url) => (url.port = "1"))).toMatchObject({ code: "MR2001", kind: "retryable" });
  expect(await opening((url) => (url.username = "nobody"))).toMatchObject({ code: "MR2002", kind: "blocked" });
});

test("a password in the file of `passfile` may change while the sink is open", async () => {
  await using server = await ownPostgres({
    auth: ["host all writer 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"],
  });
  await using database = await freshDatabase(server);
  await database.query("create role writer superuser login password 'first'");
  using folder = temporaryFolder();
  const passfile = folder.file("pgpass");
  const rotate = (password: string): void => {
    writeFileSync(passfile, `*:*:*:writer:${password}\n`, { mode: 0o600 });
  };
  rotate("first");
  const url = new URL(database.url);
  url.username = "writer";
  url.password = "";
  url.searchParams.set("passfile", passfile);
  await using target = await lakeTarget("sqlite");
  const sink = lakeSink({
    ...target.options,
    place: placeOf({ catalog: url.href, data: folder.file("data") }, "/"),
  });
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(1n, [items, [put(["1", "a"])]]), new Reports(), timeout());
  await database.query("alter role writer password 'second'");
  await database.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'writer'");
  const batch = rowsBatch(2n, [items, [put(["1", "b"])]]);
  expect(await failure(sink.apply(batch, new Reports(), timeout()))).toMatchObject({ code: "MR2002" });
  expect(await failure(sink.open(1, timeout()))).toMatchObject({ code: "MR2002", kind: "blocked" });
  rotate("second");
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(batch, new Reports(), timeout());
  await sink.close();
});

test("a catalogue that takes no writes, or lacks a right, for a while is told as that, however often, and then the step is done", async () => {
  await using server = await ownPostgres();
  await using database = await freshDatabase(server);
  await database.query("create role writer login");
  await database.query("alter schema public owner to writer");
  using folder = temporaryFolder();
  const url = new URL(database.url);
  url.username = "writer";
  await using target = await lakeTarget("sqlite");
  const sink = lakeSink({ ...target.options, place: placeOf({ catalog: url.href, data: folder.file("data") }, "/") });
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(1n, [items, [put(["1", "a"])]]), new Reports(), timeout());
  const name = url.pathname.slice(1);
  const end = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'writer'";
  const refusals = {
    MR2031: [
      `alter database "${name}" set default_transaction_read_only = on`,
      `alter database "${name}" reset default_transaction_read_only`,
    ],
    MR2008: [
      "revoke all on all tables in schema public from writer; alter table public.ducklake_snapshot owner to postgres",
      "grant all on all tables in schema public to writer; alter table public.ducklake_snapshot owner to writer",
    ],
  };
  let commit = 2n;
  for (const [code, [begin, over]] of Object.entries(refusals)) {
    await database.query(begin!);
    await database.query(end);
    const batch = rowsBatch(commit++, [items, [put(["1", code])]]);
    for (let i = 0; i < 7; i++) {
      const step = async () => {
        await sink.open(1, timeout());
        await sink.prepare([items], timeout());
        await sink.apply(batch, new Reports(), timeout());
      };
      expect(await failure(i === 0 ? sink.apply(batch, new Reports(), timeout()) : step())).toMatchObject({
        code,
        kind: "blocked",
        message: expect.stringContaining(url.port),
      });
    }
    await database.query(over!);
    await database.query(end);
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    await sink.apply(batch, new Reports(), timeout());
  }
  await sink.close();
});
