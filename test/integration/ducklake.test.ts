/** A lake and other processes: readers, killed writers, takers-over; and its upkeep. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { DuckDBConnection } from "@duckdb/node-api";
import { expect, test, vi } from "vitest";
import { readTextRows } from "../../connectors/kit/duckdb-engine/engine.ts";
import { startEngine } from "../../connectors/duckdb/lake/engine.ts";
import { Lake } from "../../connectors/duckdb/lake/lake.ts";
import { queryLake } from "../../connectors/duckdb/lake/query.ts";
import { placeOf } from "../../connectors/duckdb/lake/place.ts";
import { SharedTurn } from "../../connectors/duckdb/lake/shared-turn.ts";
import { lakeSink } from "../../connectors/duckdb/lake/sink.ts";
import { lookUpTargets, tablesIn } from "../../connectors/duckdb/tables/existing.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { failure, put, remove, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { lakeTarget, type LakeTarget } from "../support/warehouses/ducklake-target.ts";
import { Writer } from "../support/warehouses/ducklake-writers.ts";
import { BULK_BASE, BULK_COUNT, expectedAfter, batches } from "../support/warehouses/duckdb-writer.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

const KILLS = 5;
const MOVES = 30;
const LOOKS = 60;
const SHAPES = 17;
const TURNS = 10;
/** Each of some 40 MB. */
const [LARGE_FILES, LARGE_FILE_ROWS] = [3, 320_000];
/** Up to so long after a batch the process is killed; a batch takes about as long. */
const KILL_WITHIN_MS = 250;

const items = tableVersion({ table: "items", columns: { id: "int8", v: "text" } });

const wider = tableVersion({ table: "items", columns: { id: "int8", v: "text", w: "text" } });

test(
  "a writer that is killed at any moment leaves rows and progress that belong together",
  { tags: "heavy" },
  async () => {
    await using target = await lakeTarget("sqlite");
    let reached = 0;
    for (let kill = 1; kill <= KILLS; kill++) {
      await using writer = new Writer(target, kill);
      await writer.next();
      // Anywhere in the next batches: the moment is what the test is about, nothing waits for it.
      await delay(Math.random() * KILL_WITHIN_MS);
      await writer.kill();
      const sink = target.makeSink();
      const held = await sink.open(kill, timeout());
      const n = Number(held?.position.commit);
      expect(n).toBeGreaterThan(reached);
      reached = n;
      const rows = await target.readRows(batches);
      expect(rows.map(({ cells }) => cells.join(" ")).toSorted()).toEqual(expectedAfter(n).toSorted());
      await sink.close();
    }
  },
);

test.each(["sqlite", "duckdb"] as const)("a catalogue in %s that is emptied in place is noticed", async (kind) => {
  await using target = await lakeTarget(kind);
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const batch = (at: bigint) => rowsBatch(at, [items, [put([`${at}`, "x"])]]);
  await sink.apply(batch(10n), new Reports(), timeout());
  await sink.verify(timeout());
  truncateSync(target.options.place.catalog);
  for (const call of [() => sink.verify(timeout()), () => sink.apply(batch(20n), new Reports(), timeout())])
    expect(await failure(call())).toMatchObject({ code: "MR3110", kind: "reopen" });
  await sink.close();
});

test("other processes read whole transactions while one writes", async () => {
  await using target = await lakeTarget("sqlite");
  await using writer = new Writer(target, 1);
  await writer.next();
  for (let read = 0; read < 5; read++) {
    const n = Number(await writer.next());
    // An engine of its own, as another process has.
    const { rows } = await queryLake(
      target.options,
      {
        sql: `select (select n from public.steps where id = 0), count(*) filter (where id >= ${BULK_BASE}), max(id) filter (where id < ${BULK_BASE}) from public.steps`,
        rowCountMax: 1,
        byteCountMax: 1_000,
      },
      timeout(),
    );
    const [counted, bulk, newest] = rows[0] ?? [];
    expect(bulk).toBe(BULK_COUNT);
    expect(newest).toBe(counted);
    expect(counted).toBeGreaterThanOrEqual(n);
  }
});

test("a writer in another process that is taken over writes no more", async () => {
  await using target = await lakeTarget("sqlite");
  await using writer = new Writer(target, 1);
  await writer.next();
  const sink = target.makeSink();
  await eventually(async () => void (await sink.open(2, timeout())));
  expect(await writer.last()).toBe("MR3109");
  const held = await sink.look(timeout());
  const rows = await target.readRows(batches);
  expect(rows.map(({ cells }) => cells.join(" ")).toSorted()).toEqual(
    expectedAfter(Number(held?.position.commit)).toSorted(),
  );
  await sink.close();
});

test("writers in two processes take turns: none is refused, or waits for more than the other one's batch", async () => {
  await using target = await lakeTarget("sqlite");
  await using writer = new Writer(target, 1);
  await writer.next();
  const others = tableVersion({ table: "others", columns: { id: "int8", v: "text" } });
  const sink = target.makeSink("other");
  await sink.open(1, timeout());
  await sink.prepare([others], timeout());
  const reached = async (): Promise<number> => {
    const [row] = await target.query(`select "commit"::integer from lake._millrace.progress where name = 'shop/lake'`);
    return Number(row?.[0]);
  };
  const before = await reached();
  const rows = Array.from({ length: 10_000 }, (_, i) => put([`${i}`, "x"]));
  for (let n = 1; n <= TURNS; n++) await sink.apply(rowsBatch(BigInt(2 * n), [others, rows]), new Reports(), timeout());
  // Between two batches the other one may be too late for some turns.
  expect((await reached()) - before).toBeGreaterThanOrEqual(TURNS / 2);
  await sink.close();
});

function isLocked(path: string): boolean {
  using file = new DatabaseSync(path, { timeout: 0 });
  try {
    file.exec("BEGIN IMMEDIATE");
    return false;
  } catch {
    return true;
  }
}

test.runIf(process.platform === "linux")(
  "a writer that is stopped in its turn costs another one a single wait, and takes turns again when it goes on",
  { tags: "heavy" },
  async () => {
    await using target = await lakeTarget("sqlite");
    const { catalog } = target.options.place;
    await using writer = new Writer(target, 1);
    await writer.next();
    const others = tableVersion({ table: "others", columns: { id: "int8", v: "text" } });
    const sink = target.makeSink("other");
    await sink.open(1, timeout());
    await sink.prepare([others], timeout());
    const tookMs = async (from: number, to: number): Promise<number> => {
      const begunMs = performance.now();
      for (let n = from; n <= to; n++)
        await sink.apply(rowsBatch(BigInt(n), [others, [put([`${n}`, "x"])]]), new Reports(), timeout());
      return performance.now() - begunMs;
    };
    // In its turn, and not in a commit, which keeps everybody.
    await eventually(async () => {
      await writer.freeze();
      if (isLocked(`${catalog}-turn`) && !isLocked(catalog)) return true;
      writer.signal("SIGCONT");
      return false;
    });
    const waitedMs = await tookMs(1, 1);
    expect(await tookMs(2, 5)).toBeLessThan(waitedMs);
    writer.signal("SIGCONT");
    for (let n = 6; n <= 8; n++) {
      await writer.next();
      await tookMs(n, n);
    }
    expect(await target.readRows(others)).toHaveLength(8);
    await sink.close();
  },
);

test("who may write the catalogue may lock it; where its locks can't be had, batches go without turns", async () => {
  await using target = await lakeTarget("sqlite");
  const { catalog } = target.options.place;
  await target.query("create schema lake.public");
  chmodSync(catalog, 0o660);
  for (const file of ["turn", "next", "beat"]) rmSync(`${catalog}-${file}`);
  mkdirSync(`${catalog}-next`);
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(10n, [items, [put(["1", "x"])]]), new Reports(), timeout());
  expect(await target.readRows(items)).toHaveLength(1);
  for (const file of ["turn", "beat"]) expect(statSync(`${catalog}-${file}`).mode & 0o777).toBe(0o660);
  await sink.close();
});

test("a sink that waits for another writer's turn can be stopped, whatever it waits for", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  const other = new SharedTurn(target.options.place.catalog);
  const turn = await other.take(timeout());
  const calls = [
    (signal: AbortSignal) => sink.prepare([items], signal),
    (signal: AbortSignal) => sink.apply(rowsBatch(10n, [items, [put(["1", "x"])]]), new Reports(), signal),
    (signal: AbortSignal) => sink.rows.expel([items], 5n, signal),
  ];
  for (const call of calls) {
    const stop = new AbortController();
    const ended = failure(call(stop.signal));
    stop.abort();
    expect(await ended).toMatchObject({ kind: "aborted" });
  }
  turn[Symbol.dispose]();
  other[Symbol.dispose]();
  await sink.close();
});

test("upkeep joins small files and ends old snapshots; rows stay", async () => {
  await using target = await lakeTarget("sqlite");
  const maintenance = { everyMs: 500, keepSnapshotsMs: 0 };
  const sink = lakeSink({ ...target.options, maintenance });
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  // Each writes a file: more rows than the catalogue holds.
  for (let n = 1; n <= 24; n++) {
    const changes = Array.from({ length: 150 }, (_, i) => put([`${i * n}`, `${n}`]));
    await sink.apply(rowsBatch(BigInt(n), [items, changes]), new Reports(), timeout());
  }
  const before = await target.readRows(items);
  await eventually(
    async () => {
      const [files] = await target.query(
        "select file_count from ducklake_table_info('lake') where table_name = 'items'",
      );
      const [snapshots] = await target.query("select count(*)::integer from ducklake_snapshots('lake')");
      // So many with deleted rows stay until there are more, and one of the others.
      expect(Number(files?.[0])).toBeLessThanOrEqual(9);
      expect(snapshots?.[0]).toBeLessThanOrEqual(8);
    },
    { withinMs: 60_000 },
  );
  const order = (rows: typeof before) => rows.map(({ cells }) => cells.join(" ")).toSorted();
  expect(order(await target.readRows(items))).toEqual(order(before));
  await sink.apply(rowsBatch(100n, [items, [put(["1", "after"])]]), new Reports(), timeout());
  await sink.close();
});

test("a table whose files can't be joined, whatever the reason, stops no other's", async () => {
  await using target = await lakeTarget("sqlite");
  const told: unknown[] = [];
  const logger = { ...SILENT, warn: (fields: object) => void told.push(fields) };
  const names = ["before", "spoiled", "behind"];
  const tables = names.map((table) => tableVersion({ table, columns: { id: "int8", v: "text" } }));
  const writer = target.makeSink();
  await writer.open(1, timeout());
  await writer.prepare(tables, timeout());
  for (let n = 1; n <= 4; n++) {
    const changes = Array.from({ length: 150 }, (_, i) => put([`${n * 1_000 + i}`, `${n}`]));
    const batch = rowsBatch(BigInt(n), ...tables.map((table) => [table, changes] as const));
    await writer.apply(batch, new Reports(), timeout());
  }
  await writer.close();
  const [file] = await target.query("select data_file from ducklake_list_files('lake', 'spoiled', schema => 'public')");
  // A whole file, whose columns are none of the table's.
  const path = file!.map((cell) => (typeof cell === "string" ? cell : "")).join("");
  copyFileSync(path, `${path}.whole`);
  await target.query(`copy (select 'foreign' as other) to '${path}' (format parquet)`);
  await target.query(
    `update __ducklake_metadata_lake.ducklake_data_file set file_size_bytes = ${statSync(path).size}, footer_size = null ` +
      `where path = '${basename(path)}'`,
  );
  const sink = lakeSink({ ...target.options, logger, maintenance: { everyMs: 100, keepSnapshotsMs: 60_000 } });
  await sink.open(2, timeout());
  await eventually(async () => {
    const counts = "select table_name, file_count::integer from ducklake_table_info('lake') order by table_name";
    const files = new Map((await target.query(counts)).map(([table, count]) => [table, count]));
    expect(names.map((table) => files.get(table))).toEqual([1, 4, 1]);
    expect(told).toContainEqual(expect.objectContaining({ table: "public.spoiled", code: "MR2027" }));
  });
  expect(sink.hints).toMatchObject([{ table: "public.spoiled", what: expect.stringContaining("(MR2027)") }]);
  renameSync(`${path}.whole`, path);
  await target.query(
    `update __ducklake_metadata_lake.ducklake_data_file set file_size_bytes = ${statSync(path).size} where path = '${basename(path)}'`,
  );
  await eventually(() => expect(sink.hints).toEqual([]));
  await sink.close();
});

test("files of which rows are deleted are written again, also by an engine in a process of its own", async () => {
  await using target = await lakeTarget("sqlite");
  const writer = target.makeSink();
  await writer.open(1, timeout());
  await writer.prepare([items], timeout());
  const at = (n: number) => Array.from({ length: 300 }, (_, i) => [`${n * 1_000 + i}`, "1"]);
  for (let n = 1; n <= 3; n++) {
    await writer.apply(rowsBatch(BigInt(2 * n), [items, at(n).map((cells) => put(cells))]), new Reports(), timeout());
    const gone = at(n)
      .slice(100)
      .map((cells) => remove(cells));
    await writer.apply(rowsBatch(BigInt(2 * n + 1), [items, gone]), new Reports(), timeout());
  }
  await writer.close();
  const sink = lakeSink({ ...target.options, maintenance: { everyMs: 100, keepSnapshotsMs: 60_000 } });
  // DuckDB runs in a process of its own.
  sink.engine.follows({ died: true, errors: [] });
  await sink.open(2, timeout());
  const stored =
    "select sum(record_count)::integer from __ducklake_metadata_lake.ducklake_data_file f " +
    "join __ducklake_metadata_lake.ducklake_table t using (table_id) where t.table_name = 'items' and f.end_snapshot is null";
  await eventually(async () => {
    expect(sink.hints).toEqual([]);
    expect(await target.query(stored)).toEqual([[300]]);
  });
  await sink.close();
});

test(
  "maintenance works in pieces of a file each, and batches that come meanwhile go in between any two",
  { tags: "heavy" },
  async () => {
    await using target = await lakeTarget("sqlite");
    const others = tableVersion({ table: "others", columns: { id: "int8", v: "text" } });
    const writer = target.makeSink();
    await writer.open(1, timeout());
    await writer.prepare([items, others], timeout());
    await writer.close();
    const texts = ["a", "b", "c", "d"].map((salt) => `md5('${salt}' || range)`).join(" || ");
    for (let n = 0; n < LARGE_FILES; n++) {
      const from = n * LARGE_FILE_ROWS;
      const rows = `select range as id, ${texts} as v, 1 as _millrace_version, now() as _millrace_commit_time from range(${from}, ${from + LARGE_FILE_ROWS})`;
      await target.query(`insert into lake.public.items by name ${rows}`);
      await target.query(`delete from lake.public.items where id >= ${from} and id % 100 < ${40 + 10 * n}`);
    }
    const [before] = await target.query("select max(snapshot_id)::integer from ducklake_snapshots('lake')");
    const [id] = await target.query(
      "select table_id::integer from __ducklake_metadata_lake.ducklake_table where table_name = 'items'",
    );
    const changes = async (): Promise<readonly string[]> => {
      const found = await target.query(
        `select changes_made from __ducklake_metadata_lake.ducklake_snapshot_changes where snapshot_id > ${Number(before?.[0])} order by snapshot_id`,
      );
      return found.flatMap(([change]) => (typeof change === "string" ? change : []));
    };
    const own = Number(id?.[0]);
    const isPiece = (change: string): boolean => /merge_adjacent|rewrite_delete|inline_flush/.test(change);
    const sink = lakeSink({ ...target.options, maintenance: { everyMs: 100, keepSnapshotsMs: 60_000 } });
    await sink.open(2, timeout());
    await sink.prepare([items, others], timeout());
    const stopped = new AbortController();
    const writing = (async () => {
      for (let n = 10n; !stopped.signal.aborted; n++)
        await sink.apply(rowsBatch(n, [others, [put([`${n}`, "x"])]]), new Reports(), timeout());
    })();
    try {
      await eventually(
        async () => {
          const made = await changes();
          expect(made.filter((change) => change.includes(`rewrite_delete:${own}`))).toHaveLength(LARGE_FILES);
          for (const piece of [`merge_adjacent:${own}`, "inline_flush:"])
            expect(made).toContainEqual(expect.stringContaining(piece));
        },
        { withinMs: 60_000 },
      );
    } finally {
      stopped.abort();
      await writing;
    }
    const made = (await changes()).map((change) => (isPiece(change) ? "|" : ".")).join("");
    expect(made).not.toContain("||");
    const [left] = await target.query("select count(*)::integer from lake.public.items");
    expect(left).toEqual([LARGE_FILE_ROWS * (0.6 + 0.5 + 0.4)]);
    await sink.close();
  },
);

/** Opens a sink until its maintenance has run twice, or more often: returns how often. */
async function upkeep({ options }: LakeTarget, keepSnapshotsMs: number): Promise<number> {
  let runs = 0;
  const logger = { ...SILENT, info: () => void runs++ };
  const sink = lakeSink({ ...options, logger, maintenance: { everyMs: 100, keepSnapshotsMs } });
  await sink.open(1, timeout());
  await eventually(async () => expect(runs).toBeGreaterThan(1));
  await sink.close();
  return runs;
}

test("a run of the maintenance ends, though each batch makes a file that could be joined", async () => {
  await using target = await lakeTarget("sqlite");
  const ended = new AbortController();
  const logger = { ...SILENT, info: () => ended.abort() };
  const sink = lakeSink({ ...target.options, logger, maintenance: { everyMs: 100, keepSnapshotsMs: 60_000 } });
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const signal = timeout();
  for (let n = 1; !ended.signal.aborted; n++) {
    const rows = Array.from({ length: 150 }, (_, i) => put([`${n * 1_000 + i}`, "x"]));
    await sink.apply(rowsBatch(BigInt(n), [items, rows]), new Reports(), signal);
  }
  await sink.close();
});

test("how large files become is what somebody has set, for a table or the lake; otherwise maintenance sets it", async () => {
  await using target = await lakeTarget("sqlite");
  const names = ["items", "own"];
  const files = async () => {
    const sql =
      "select file_count::integer from ducklake_table_info('lake') where table_name in ('items', 'own') order by table_name";
    return (await target.query(sql)).flat();
  };
  const sizes = async () =>
    await target.query(
      "select value from __ducklake_metadata_lake.ducklake_metadata where key = 'target_file_size' order by scope nulls first",
    );
  await target.query("create schema lake.public");
  for (const name of names) await target.query(`create table lake.public.${name} (id integer)`);
  await target.query("call lake.set_option('target_file_size', '1B', schema => 'public', table_name => 'own')");
  const fill = async () => {
    for (const name of names)
      for (let n = 0; n < 3; n++) await target.query(`insert into lake.public.${name} select range from range(500)`);
  };
  await fill();
  await upkeep(target, 60_000);
  expect(await files()).toEqual([1, 3]);
  expect(await sizes()).toEqual([["67108864"], ["1"]]);
  await target.query("call lake.set_option('target_file_size', '1B')");
  await fill();
  await upkeep(target, 60_000);
  expect(await files()).toEqual([4, 6]);
  expect(await sizes()).toEqual([["1"], ["1"]]);
});

test("maintenance asks the catalogue for the files of many tables together", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  const tables = ["a", "b", "c", "d"].map((table) => tableVersion({ table, columns: { id: "int8", v: "text" } }));
  await sink.open(1, timeout());
  await sink.prepare(tables, timeout());
  for (let n = 1; n <= 2; n++) {
    const rows = Array.from({ length: 150 }, (_, i) => put([`${n * 1_000 + i}`, "x"]));
    const batch = rowsBatch(BigInt(n), ...tables.map((table) => [table, rows] as const));
    await sink.apply(batch, new Reports(), timeout());
  }
  await sink.close();
  using asked = vi.spyOn(DuckDBConnection.prototype, "runAndReadAll");
  const runs = await upkeep(target, 60_000);
  const looks = asked.mock.calls.filter(([sql]) => sql.includes("ducklake_data_file AS f"));
  // For those of which rows are gone, and for small ones; the last run may have begun.
  expect(looks.length).toBeLessThanOrEqual(2 * (runs + 1));
  const files = "select file_count::integer from ducklake_table_info('lake') where table_name in ('a', 'b', 'c', 'd')";
  expect(await target.query(files)).toEqual([[1], [1], [1], [1]]);
});

test("snapshots stay as long as they are to be kept, and files until their readers are done", async () => {
  await using target = await lakeTarget("sqlite");
  const snapshots = async () =>
    Number((await target.query("select count(*)::integer from ducklake_snapshots('lake')"))[0]?.[0]);
  await upkeep(target, 60_000);
  await target.query("create schema lake.public");
  await target.query("create table lake.public.items as select range as id from range(500)");
  await target.query("insert into lake.public.items select range from range(500)");
  await target.query("drop table lake.public.items");
  const kept = await snapshots();
  await upkeep(target, 60_000);
  expect(await snapshots()).toBeGreaterThanOrEqual(kept);
  await upkeep(target, 0);
  expect(await snapshots()).toBeLessThan(kept);
  const folder = `${target.options.place.data}public/items`;
  expect(readdirSync(folder)).toHaveLength(2);
  await target.query(
    "update __ducklake_metadata_lake.ducklake_files_scheduled_for_deletion set schedule_start = now() - interval '3 days'",
  );
  await upkeep(target, 0);
  expect(readdirSync(folder)).toEqual([]);
});

test("a program that attached the lake before a table got another shape reads on after upkeep", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = lakeSink({ ...target.options, maintenance: { everyMs: 2_500, keepSnapshotsMs: 60_000 } });
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(1n, [items, [put(["1", "one"])]]), new Reports(), timeout());
  await sink.prepare([wider], timeout());
  await sink.apply(rowsBatch(2n, [wider, [put(["2", "two", "more"])]]), new Reports(), timeout());
  const engine = await startEngine(target.options, "read");
  const connection = await engine.connect();
  const read = async () =>
    (await connection.runAndReadAll("select id, v from lake.public.items order by id")).getRowsJson();
  const rows = [
    ["1", "one"],
    ["2", "two"],
  ];
  expect(await read()).toEqual(rows);
  await eventually(async () => {
    const places = await target.query(
      "select table_id from __ducklake_metadata_lake.ducklake_inlined_data_tables group by table_id having count(*) > 1",
    );
    expect(places).toEqual([]);
  });
  await eventually(async () => expect(await read()).toEqual(rows));
  connection.disconnectSync();
  await engine.close();
  await sink.close();
});

test("a table that often got another shape does not keep all of them in the catalogue until the next run", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = lakeSink({ ...target.options, maintenance: { everyMs: 3_600_000, keepSnapshotsMs: 60_000 } });
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(1n, [items, [put(["1", "one"])]]), new Reports(), timeout());
  for (let n = 0; n < SHAPES; n++) {
    await target.query(`alter table lake.public.items add column c${n} integer`);
    await target.query(
      `insert into lake.public.items (id, v, c${n}, _millrace_version, _millrace_commit_time) values (${n + 10}, 'more', ${n}, 1, now())`,
    );
  }
  const places = async () => {
    const inCatalogue = "__ducklake_metadata_lake.ducklake_inlined_data_tables";
    const counts = await target.query(`select count(*)::integer from ${inCatalogue} group by table_id`);
    return Math.max(...counts.flat().map(Number));
  };
  expect(await places()).toBe(SHAPES + 1);
  await sink.prepare([wider], timeout());
  await eventually(async () => expect(await places()).toBeLessThan(3));
  await sink.apply(rowsBatch(2n, [wider, [put(["1", "two", "more"])]]), new Reports(), timeout());
  const [row] = await target.query(
    "select count(*)::integer, count(c3)::integer, min(v), max(w) from lake.public.items",
  );
  expect(row).toEqual([SHAPES + 1, 1, "more", "more"]);
  await sink.close();
});

test("few rows go into the catalogue, new ones too, and no older row replaces one; more make a file", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const files = async () =>
    Number(
      (
        await target.query("select count(*)::integer from ducklake_list_files('lake', 'items', schema => 'public')")
      )[0]?.[0],
    );
  const rows = (from: number, count: number, v: string) =>
    Array.from({ length: count }, (_, i) => put([`${from + i}`, v]));
  await sink.apply(rowsBatch(10n, [items, rows(0, 1, "a")]), new Reports(), timeout());
  await sink.apply(rowsBatch(20n, [items, rows(0, 10, "b")]), new Reports(), timeout());
  await sink.apply(rowsBatch(5n, [items, rows(0, 3, "older")]), new Reports(), timeout());
  expect(await files()).toBe(0);
  await sink.apply(rowsBatch(30n, [items, rows(10, 101, "b")]), new Reports(), timeout());
  expect(await files()).toBe(1);
  await sink.apply(rowsBatch(40n, [items, rows(10, 100, "c")]), new Reports(), timeout());
  expect(await files()).toBe(1);
  expect(await target.query("select v, count(*)::integer from lake.public.items group by v order by v")).toEqual([
    ["b", 11],
    ["c", 100],
  ]);
  await sink.close();
});

test("few rows replace older ones, also where another process has written meanwhile", async () => {
  await using target = await lakeTarget("sqlite");
  const [first, second] = [target.makeSink(), target.makeSink()];
  const rows = async () => await target.query("select id::integer, v from lake.public.items order by id");
  const write = async (sink: typeof first, at: bigint, entries: Parameters<typeof rowsBatch>[1][1]) => {
    await sink.apply(rowsBatch(at, [items, entries]), new Reports(), timeout());
  };
  await first.open(1, timeout());
  await first.prepare([items], timeout());
  await write(first, 10n, [put(["1", "a"]), put(["2", "a"]), put(["3", "a"])]);
  await write(first, 20n, [put(["1", "b"]), remove(["2", null]), put(["4", "b"], { fresh: true })]);
  expect(await rows()).toEqual([
    [1, "b"],
    [3, "a"],
    [4, "b"],
  ]);
  await second.open(2, timeout());
  await second.prepare([items], timeout());
  await write(second, 100n, [put(["1", "newer"]), put(["3", "newer"])]);
  await first.open(3, timeout());
  await write(first, 50n, [put(["1", "older"]), remove(["3", null]), put(["4", "c"]), put(["5", "c"])]);
  expect(await rows()).toEqual([
    [1, "newer"],
    [3, "newer"],
    [4, "c"],
    [5, "c"],
  ]);
  await second.close();
  await first.close();
});

test("readers can go back in time", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(10n, [items, [put(["1", "then"])]]), new Reports(), timeout());
  const [then] = await target.query("select max(snapshot_id)::integer from ducklake_snapshots('lake')");
  await sink.apply(rowsBatch(20n, [items, [put(["1", "now"])]]), new Reports(), timeout());
  expect(await target.query(`select v from lake.public.items at (version => ${Number(then?.[0])})`)).toEqual([
    ["then"],
  ]);
  expect(await target.query("select v from lake.public.items")).toEqual([["now"]]);
  await sink.close();
});

test(
  "a query counts each row once, while maintenance moves rows from the catalogue into files",
  { tags: "heavy" },
  async () => {
    await using target = await lakeTarget("sqlite");
    const sink = target.makeSink();
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    const rows = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => put([`${from + i}`, "a"]));
    await sink.apply(rowsBatch(1n, [items, rows(0, 200)]), new Reports(), timeout());
    const over = new AbortController();
    const request = { sql: "select count(*)::integer from public.items", rowCountMax: 1, byteCountMax: 100 };
    const asked = Array.from({ length: 3 }, async () => {
      const found: unknown[] = [];
      while (!over.signal.aborted) {
        found.push(...(await queryLake(target.options, request, timeout())).rows.flat());
      }
      return found;
    });
    for (let i = 2; i < MOVES; i++) {
      await sink.apply(rowsBatch(BigInt(i), [items, rows(i, i + 50)]), new Reports(), timeout());
      await target.query("call ducklake_flush_inlined_data('lake')");
    }
    over.abort();
    const found = (await Promise.all(asked)).flat();
    found.push(...(await queryLake(target.options, request, timeout())).rows.flat());
    expect(new Set(found)).toEqual(new Set([200]));
    await sink.close();
  },
);

test("a transaction sees the rows that were there at its beginning, whatever another program moves meanwhile", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const rows = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => put([`${from + i}`, "a"]));
  for (const n of [0, 1])
    await sink.apply(rowsBatch(BigInt(2 * n + 1), [items, rows(200 * n, 200 * (n + 1))]), new Reports(), timeout());
  // Few enough for the catalogue.
  await sink.apply(rowsBatch(5n, [items, rows(400, 405)]), new Reports(), timeout());
  await sink.close();
  // An engine of its own, as another process has.
  const engine = await startEngine(target.options, "write");
  const connection = await engine.connect();
  const count = async () => await readTextRows(connection, "select count(*)::varchar from lake.public.items");
  await connection.run("begin");
  expect(await count()).toEqual([["405"]]);
  await target.query("call ducklake_flush_inlined_data('lake')");
  expect(await count()).toEqual([["405"]]);
  expect(await connection.run("delete from lake.public.items where id > 300")).toMatchObject({ rowsChanged: 104 });
  await expect(connection.run("commit")).rejects.toThrow("database is locked");
  expect(await count()).toEqual([["405"]]);
  connection.disconnectSync();
  await engine.close();
});

test("a query reads, and can do nothing else", async () => {
  await using target = await lakeTarget("sqlite");
  const ask = (sql: string) => queryLake(target.options, { sql, rowCountMax: 10, byteCountMax: 1_000 }, timeout());
  expect((await failure(ask("select 1"))).code).toBe("MR3203");
  expect(readdirSync(fileURLToPath(new URL(".", `file://${target.options.place.catalog}`)))).toEqual([]);
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await sink.apply(rowsBatch(10n, [items, [put(["1", "a"])]]), new Reports(), timeout());
  expect((await ask("select id, v from public.items")).rows).toEqual([[1, "a"]]);
  for (const sql of [
    "delete from public.items",
    "copy public.items to 'out.csv'",
    "attach 'x.db'",
    "install httpfs",
    "load httpfs",
    "select * from read_text('/etc/hostname')",
    "explain analyze delete from public.items",
    "call ducklake_expire_snapshots('lake', older_than => now())",
    "select 1; drop table public.items",
  ])
    expect((await failure(ask(sql))).code, sql).toMatch(/MR1321/);
  expect(await target.readRows(items)).toHaveLength(1);
  await sink.close();
});

test("what is in the way is named", async () => {
  await using target = await lakeTarget("sqlite");
  using folder = temporaryFolder();
  const { options } = target;
  const opening = async (more: Partial<typeof options>) => {
    const sink = lakeSink({ ...options, ...more });
    try {
      return await failure(sink.open(1, timeout()));
    } finally {
      await sink.close();
    }
  };
  const place = (catalog: string, data = folder.file("data")) => ({ place: placeOf({ catalog, data }, "/") });
  expect(await opening({ extensions: folder.path })).toMatchObject({ code: "MR3224", kind: "blocked" });
  expect(await opening(place(`sqlite:${folder.file("no/lake.db")}`))).toMatchObject({
    code: "MR3203",
    kind: "blocked",
  });
  writeFileSync(folder.file("notes.db"), "not a database ".repeat(2000));
  expect(await opening(place(`sqlite:${folder.file("notes.db")}`))).toMatchObject({ code: "MR3202", kind: "fatal" });
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.close();
  const { catalog } = options.place;
  const locks =
    `const { DatabaseSync } = require("node:sqlite"); new DatabaseSync(process.argv[1]).exec("begin exclusive"); ` +
    "console.log(1); process.stdin.resume()";
  const other = spawn(process.execPath, ["-e", locks, catalog]);
  await once(other.stdout, "data");
  expect(await opening({})).toMatchObject({
    code: "MR2026",
    kind: "retryable",
    message: expect.stringMatching(new RegExp(`^pid ${other.pid} .*catalogue.*${catalog}`)),
  });
  other.kill();
  await once(other, "exit");
  const damaged = folder.file("damaged.db");
  writeFileSync(damaged, readFileSync(catalog).fill(0x5a, 100, 4_000));
  expect(await opening({ place: { ...options.place, catalog: damaged } })).toMatchObject({
    code: "MR3202",
    kind: "fatal",
    message: expect.stringContaining(damaged),
  });
  const elsewhere = placeOf({ catalog: `sqlite:${options.place.catalog}`, data: folder.file("elsewhere") }, "/");
  expect(await opening({ place: elsewhere })).toMatchObject({ code: "MR2004", kind: "fatal" });
});

test("what the catalogue says of tables and views is what DuckDB's own functions say", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  await target.query(
    `create table lake.public."It's ""odd""" ("A b" decimal(38, 9), c varchar[], d timestamp with time zone, e struct(x tinyint, "Y" json[]), f uuid, g map(varchar, blob), h time)`,
  );
  await target.query("create view lake.public.seen as select 1 as one");
  await target.query("create schema lake.former; create table lake.former.gone (id integer)");
  await target.query("drop table lake.former.gone; alter table lake.public.items rename to Things");
  await target.query("alter table lake.public.Things add column w date");
  const lake = await Lake.acquire(target.options);
  const connection = await lake.connect();
  const names = ["items", "things", `It's "odd"`, "seen", "gone"].map((table) => ({ schema: "PUBLIC", table }));
  const wanted = [...names, { schema: "former", table: "gone" }];
  const there = await lake.find(connection, wanted);
  const shown = await lookUpTargets(connection, lake.catalogue, wanted);
  // Nobody asks for the columns of a view.
  const compared = (all: typeof shown) =>
    new Map([...all].map(([key, found]) => [key, found.isView ? { ...found, columns: null } : found]));
  expect(compared(there)).toEqual(compared(shown));
  expect(there.size).toBe(3);
  const byName = (all: Awaited<ReturnType<typeof tablesIn>>) =>
    new Map(all.map((table) => [`${table.name.schema}.${table.name.table}`, table]));
  expect(byName(await lake.tables(connection))).toEqual(byName(await tablesIn(connection, lake.catalogue)));
  connection.disconnectSync();
  await lake.release();
  await sink.close();
});

test("a table is seen as it was at one moment, while others change shapes", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const lake = await Lake.acquire(target.options);
  const connection = await lake.connect();
  const read = connection.runAndReadAll.bind(connection);
  let asked = 0;
  connection.runAndReadAll = async (...parts) => {
    const answer = await read(...parts);
    await target.query(`create table lake.public.other${asked++} (id integer)`);
    return answer;
  };
  const there = await lake.find(connection, [{ schema: "public", table: "items" }]);
  expect(asked).toBeGreaterThan(1);
  expect([...there.values()].map(({ columns }) => [...columns.keys()])).toEqual([
    ["id", "v", "_millrace_version", "_millrace_commit_time"],
  ]);
  connection.disconnectSync();
  await lake.release();
  await sink.close();
});

test("a file whose deleted rows are counted wrong does not close the engine", async () => {
  await using target = await lakeTarget("sqlite");
  const rows = ["1", "2", "3"];
  const first = target.makeSink();
  await first.open(1, timeout());
  await first.prepare([items], timeout());
  await first.apply(rowsBatch(1n, [items, rows.map((id) => put([id, "x"]))]), new Reports(), timeout());
  await first.apply(rowsBatch(2n, [items, rows.map((id) => remove([id, "x"]))]), new Reports(), timeout());
  await target.query("CALL ducklake_flush_inlined_data('lake')");
  // As a race inside DuckLake can leave it: more rows are counted as deleted than the file has.
  await target.query("UPDATE __ducklake_metadata_lake.ducklake_delete_file SET delete_count = delete_count + 1");
  await first.close();
  let runs = 0;
  const logger = { ...SILENT, info: () => void runs++ };
  const sink = lakeSink({ ...target.options, logger, maintenance: { everyMs: 50, keepSnapshotsMs: 60_000 } });
  await sink.open(2, timeout());
  await eventually(async () => {
    await sink.verify(timeout());
    expect(runs).toBeGreaterThan(0);
  });
  const catalogue = "__ducklake_metadata_lake.ducklake_";
  const wrong = `FROM ${catalogue}delete_file JOIN ${catalogue}data_file USING (data_file_id) WHERE delete_count > record_count`;
  expect(await target.query(`SELECT count(*) ${wrong}`)).toEqual([["0"]]);
  await sink.close();
});

test("several rows of progress are noticed, and named", async () => {
  await using target = await lakeTarget("sqlite");
  const first = target.makeSink();
  await first.open(1, timeout());
  await first.close();
  await target.query("INSERT INTO lake._millrace.progress BY NAME SELECT * FROM lake._millrace.progress");
  const sink = target.makeSink();
  for (const work of [() => sink.open(2, timeout()), () => sink.look(timeout())]) {
    const { code, kind, message, hint } = await failure(work());
    expect({ code, kind }).toEqual({ code: "MR3202", kind: "fatal" });
    expect(message).toContain("several rows of progress");
    expect(hint).toContain("DELETE FROM");
  }
  await sink.close();
});

test("a table has its columns at every look, while maintenance changes shapes", { tags: "heavy" }, async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const lake = await Lake.acquire(target.options);
  const connection = await lake.connect();
  const stopped = new AbortController();
  const changing = (async () => {
    while (!stopped.signal.aborted) {
      await target.query("create or replace table lake.public.mark (id integer); drop table lake.public.mark");
      await target.query("select comment from duckdb_tables() where database_name = 'lake'");
    }
  })();
  const seen = new Set<string>();
  for (let look = 0; look < LOOKS; look++) {
    const there = await lake.find(connection, [{ schema: "public", table: "items" }]);
    for (const { columns } of there.values()) seen.add([...columns.keys()].join(" "));
  }
  stopped.abort();
  await changing;
  expect([...seen]).toEqual(["id v _millrace_version _millrace_commit_time"]);
  connection.disconnectSync();
  await lake.release();
  await sink.close();
});

test("data files that are gone are told", async () => {
  await using target = await lakeTarget("sqlite");
  const sink = target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([items], timeout());
  const changes = Array.from({ length: 200 }, (_, i) => put([`${i}`, "x"]));
  await sink.apply(rowsBatch(1n, [items, changes]), new Reports(), timeout());
  rmSync(target.options.place.data, { recursive: true });
  const again = sink.apply(rowsBatch(2n, [items, changes]), new Reports(), timeout());
  expect(await failure(again)).toMatchObject({
    code: "MR3226",
    kind: "blocked",
    // Reading again alone fails over the same files.
    hint: expect.stringContaining("remove the catalogue"),
  });
  await sink.close();
});
