/** Rows of large tables are replaced by a delete and an append, found by the key's index: the work does not grow with the table. */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";
import { expect, test } from "vitest";
import {
  appendStagedSql,
  completeSql,
  DELETES,
  deleteSql,
  layoutOf,
  markSql,
  removeAnySql,
  removeSql,
  stagedPuts,
} from "../../connectors/duckdb/write/layout.ts";
import { readTextRows } from "../../connectors/kit/duckdb-engine/engine.ts";
import { expectLookups, NewestVersions, TableSizes, withoutLookups } from "../../connectors/duckdb/write/replace.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import {
  type Cells,
  failure,
  patch,
  put,
  remove,
  rowsBatch,
  Stage,
  timeout,
  type Write,
} from "../conformance/stage.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { landed } from "../support/warehouses/duckdb-landing.ts";
import { type DuckdbTarget, duckdbTarget } from "../support/warehouses/duckdb-target.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { eventually } from "../support/run/waiting.ts";
import { DEFAULT_FORM, type TargetForm } from "../../connectors/warehouse/own-columns.ts";

const items = tableVersion({
  table: "items",
  columns: { id: "int8", name: "text", amount: "numeric(12,2)", note: "text", at: "timestamp with time zone" },
});
const AT = "2026-11-20 06:43:15.123456+00";
const row = (id: number, name: string, note = `note ${id}`): readonly string[] => [`${id}`, name, "1.50", note, AT];

/** With rows 0 to `rowCount` of commit 5. */
async function staged(form: TargetForm, table: TableVersion, rowCount: number, select: string): Promise<Stage> {
  const harness = { name: "duckdb", target: async () => duckdbTarget(form), landed, transactional: true };
  const stage = await Stage.of(harness, table);
  const soft = form.deletes === "soft" ? "false, " : "";
  const sql = `insert into public.${table.table} select ${select}, ${soft}${rowVersion(1, 5n)}, now() from range(${rowCount}) as r(g)`;
  await targetOf(stage).query(sql);
  await stage.restart(table);
  return stage;
}

const ITEMS = `g, 'n' || g, (g % 1000) / 100, 'note ' || g, timestamptz '${AT}'`;

function targetOf({ target }: Stage): DuckdbTarget {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `staged` makes nothing else
  return target as DuckdbTarget;
}

for (const deletes of ["hard", "soft"] as const) {
  test(
    `every kind of change to a large table, few and many at once, with ${deletes} deletes`,
    { tags: "heavy" },
    async () => {
      const size = 300_000;
      await using stage = await staged({ ...DEFAULT_FORM, deletes }, items, size, ITEMS);
      const model = new Map<number, readonly string[] | null>();
      let at = 10n;
      for (const count of [1, 7, 60, 3_000]) {
        const entries: Write[] = [];
        const ids = new Set<number>();
        while (ids.size < 4 * count) ids.add(Math.floor(Math.random() * size));
        for (const [i, id] of [...ids].entries()) {
          const before = model.get(id);
          const note = before?.[3] ?? `note ${id}`;
          if (before === null || i % 4 === 0) model.set(id, row(id, `put ${at}`));
          else if (i % 4 === 1) model.set(id, null);
          else if (i % 4 === 2) model.set(id, row(id, `patched ${at}`, note));
          else model.set(id, row(id, `old ${at}`));
          if (before === null || i % 4 === 0) entries.push(put(row(id, `put ${at}`)));
          else if (i % 4 === 1) entries.push(remove([`${id}`, null, null, null, null]));
          else if (i % 4 === 2) entries.push(patch([`${id}`, `patched ${at}`, "1.50", UNCHANGED, AT]));
          else entries.push(put(row(id, `old ${at}`)));
        }
        // A row that moves to a new key takes its note along.
        const from = 299_000 - count;
        if (!ids.has(from) && !model.has(from)) {
          const to = size + count;
          entries.push(patch([`${to}`, "moved", "1.50", UNCHANGED, AT], { from: [`${from}`, null, null, null, null] }));
          entries.push(remove([`${from}`, null, null, null, null]));
          model.set(from, null).set(to, row(to, "moved", `note ${from}`));
        }
        const reports = await stage.write(items, at, entries);
        expect([reports.incompletes, reports.poisons]).toEqual([[], []]);
        // Given again, and something older: nothing changes.
        await stage.write(
          items,
          at,
          entries.filter(({ action, moved }) => action === 0 && moved !== true),
        );
        const older = [...ids].filter((id) => model.get(id) !== null).slice(0, 60);
        await stage.write(
          items,
          3n,
          older.map((id) => put(row(id, "older"))),
        );
        at += 10n;
      }
      const target = targetOf(stage);
      const where = deletes === "soft" ? "where not _millrace_deleted" : "";
      const gone = [...model.values()].filter((cells) => cells === null).length;
      const added = [...model.keys()].filter((id) => id >= size).length;
      expect(await target.query(`select count(*)::int, count(distinct id)::int from public.items ${where}`)).toEqual([
        [size + added - gone, size + added - gone],
      ]);
      const found = await target.query(
        `select id::varchar, name, amount::varchar, note from public.items ${where === "" ? "where" : `${where} and`} name not like 'n%' order by id`,
      );
      const wanted = [...model].filter(([, cells]) => cells !== null).toSorted(([a], [b]) => a - b);
      expect(found).toEqual(wanted.map(([, cells]) => cells!.slice(0, 4)));
    },
  );
}

test("keys of any text are found by the index as they are, also those that begin with a byte order mark", async () => {
  const table = tableVersion({ table: "texts", columns: { key: "text", value: "text" } });
  await using stage = await staged(DEFAULT_FORM, table, 0, "g::varchar, ''");
  const keys = ["abc", "\uFEFFabc", "'", "''", " ", "", "\u0000", "a\u0000b", "NULL", "é", "e\u0301", "1", "01"];
  const rows = (value: string): Cells[] => keys.map((key) => [key, value]);
  await stage.write(
    table,
    10n,
    rows("first").map((cells) => put(cells, { fresh: true })),
  );
  await stage.write(
    table,
    20n,
    rows("second").map((cells) => put(cells)),
  );
  await stage.expectRows(table, rows("second"));
  await stage.write(table, 30n, [put(["\uFEFFabc", "third"]), put(["new", "third"])]);
  await stage.write(
    table,
    40n,
    ["\uFEFFabc", "'", "\u0000", "missing"].map((key) => remove([key, null])),
  );
  const gone = new Set(["\uFEFFabc", "'", "\u0000"]);
  await stage.expectRows(table, [...rows("second").filter(([key]) => !gone.has(String(key))), ["new", "third"]]);
});

/** Rows of the target, dead ones included. */
async function storedIn(stage: Stage): Promise<number> {
  const sql = "select estimated_size::integer from duckdb_tables() where table_name = 'items'";
  return Number((await targetOf(stage).query(sql))[0]![0]);
}

/** Changes that many rows of a table, spread over all of it. */
async function spread(stage: Stage, at: bigint, size: number, count: number): Promise<void> {
  const step = Math.floor(size / count);
  const entries = Array.from({ length: count }, (_, i) => put(row(i * step, `${at}`)));
  await stage.write(items, at, entries);
}

test("a batch that meets many rows of each vector leaves no dead rows, however large the table is", async () => {
  const size = 300_000;
  await using stage = await staged(DEFAULT_FORM, items, size, ITEMS);
  await spread(stage, 10n, size, size / 30);
  expect(await storedIn(stage)).toBe(size);
  await spread(stage, 20n, size, size / 100);
  expect(await storedIn(stage)).toBe(size + size / 100);
});

test("rows of a large table are never marked as deleted in place, however their keys are found", async () => {
  const size = 300_000;
  const pairs = tableVersion({ table: "items", columns: { a: "int8", b: "int4", note: "text" }, key: ["a", "b"] });
  const soft = { ...DEFAULT_FORM, deletes: "soft" } as const;
  for (const [table, select, keyOf] of [
    [pairs, "g // 5, g % 5, 'note ' || g", (id: number) => [`${Math.floor(id / 5)}`, `${id % 5}`, null]],
    [items, ITEMS, (id: number) => [`${id}`, null, null, null, null]],
  ] as const) {
    await using stage = await staged(soft, table, size, select);
    // Some that are looked up, and more than are.
    for (const [at, count] of [
      [10n, 60],
      [20n, 400],
    ] as const) {
      const before = await storedIn(stage);
      const ids = Array.from({ length: count }, (_, i) => i * Math.floor(size / count) + Number(at));
      await stage.write(
        table,
        at,
        ids.map((id) => remove(keyOf(id))),
      );
      expect(await storedIn(stage)).toBe(before + count);
    }
    const sql = "select count(*)::int, sum(case when note = 'note ' || id then 1 else 0 end)::int from";
    const marked = `(select note, ${table === items ? "id" : "a * 5 + b as id"} from public.items where _millrace_deleted)`;
    expect(await targetOf(stage).query(`${sql} ${marked}`)).toEqual([[460, 460]]);
    expect(await targetOf(stage).query("select count(*)::int from public.items")).toEqual([[size]]);
  }
});

test("a table that was rewritten counts as small as it is", async () => {
  const [size, replaced, inPlace] = [20_000, 400, 600];
  await using stage = await staged(DEFAULT_FORM, items, size, ITEMS);
  // A third is dead before the last of them, and the table is rewritten.
  for (let at = 10n; at <= 250n; at += 10n) await spread(stage, at, size, replaced);
  await eventually(async () => {
    await stage.sink.verify(timeout());
    expect(await storedIn(stage)).toBeLessThan(1.2 * size);
  });
  const stored = await storedIn(stage);
  await spread(stage, 300n, size, inPlace);
  expect(await storedIn(stage)).toBe(stored);
});

/** In both tables so few rows are looked up. */
const LOOKED_UP = 150;

for (const key of ["int8", "text"] as const) {
  test(
    `a change costs the same in a table of twenty times the rows, with a key of ${key}`,
    { tags: "heavy" },
    async () => {
      const random = new Random(testSeed());
      await using small = await measured(50_000, key, random);
      await using large = await measured(1_000_000, key, random);
      // In turn, and the least: other work on the machine is in neither.
      const costs: (readonly [number, number])[] = [];
      for (let at = 10n; at < 200n; at += 10n) costs.push([await small.change(at), await large.change(at)]);
      const [ofSmall, ofLarge] = [Math.min(...costs.map(([a]) => a)), Math.min(...costs.map(([, b]) => b))];
      expect(ofLarge / ofSmall).toBeLessThan(2);
    },
  );
}

/** A table of that size; `change` tells the processor time of a batch of random updates. */
async function measured(size: number, key: "int8" | "text", random: Random) {
  const table = tableVersion({ table: "items", columns: { id: key, name: "text", note: "text" } });
  const keyOf = (id: number): string => (key === "text" ? createHash("md5").update(`${id}`).digest("hex") : `${id}`);
  const select = `${key === "text" ? "md5(g::varchar)" : "g"}, 'n' || g, 'note ' || g`;
  const stage = await staged(DEFAULT_FORM, table, size, select);
  const change = async (at: bigint): Promise<number> => {
    const ids = new Set<number>();
    while (ids.size < LOOKED_UP) ids.add(random.below(size));
    const entries = [...ids].map((id) => put([keyOf(id), `${at}`, `note ${id}`]));
    const before = process.cpuUsage();
    await stage.write(table, at, entries);
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  return { change, [Symbol.asyncDispose]: () => stage[Symbol.asyncDispose]() };
}

test("other connections keep DuckDB's own limits for keys that it looks up", async () => {
  const size = 300_000;
  await using stage = await staged(DEFAULT_FORM, items, size, ITEMS);
  await spread(stage, 10n, size, 100);
  const sql =
    "select value from duckdb_settings() where name in ('index_scan_max_count', 'dynamic_or_filter_threshold') order by name";
  expect(await targetOf(stage).query(sql)).toEqual([["50"], ["2048"]]);
});

test("deletes of 0 and -0, which are one key, mark one row, beside a column that is named as one of ours", async () => {
  const table = tableVersion({ table: "items", columns: { id: "float8", commit_us: "text" } });
  const size = 300_000;
  await using stage = await staged({ ...DEFAULT_FORM, deletes: "soft" }, table, size, "g, 'n' || g");
  const others = Array.from({ length: 10 }, (_, i) => remove([`${i + 1}`, null]));
  const { poisons } = await stage.write(table, 10n, [remove(["0", null]), remove(["-0", null]), ...others]);
  expect(poisons).toEqual([]);
  const sql = "select count(*)::int, (count(*) filter (_millrace_deleted))::int from public.items";
  expect(await targetOf(stage).query(sql)).toEqual([[size, 11]]);
});

test("rows are found by the key's index, and without trust in the hints by reading the key's column", async () => {
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  const layout = layoutOf(items, { schema: "main", table: "items" }, "memory", { ...DEFAULT_FORM, deletes: "soft" });
  const cells = 'id bigint primary key, name varchar, amount decimal(12,2), note varchar, "at" timestamptz';
  const own =
    "_millrace_deleted boolean, _millrace_version bigint not null, _millrace_commit_time timestamptz not null";
  await connection.run(`create table items (${cells}, ${own})`);
  await connection.run(`insert into items select ${ITEMS}, false, 5, now() from range(100000) as r(g)`);
  const row = 'id as c0, name as c1, amount as c2, note as c3, "at" as c4';
  const tail = "9::bigint as version, 0::bigint as commit_us, null::varchar as exact";
  const some = "from items where id % 999 = 1";

  const scanOf = async (sql: string, trust: boolean): Promise<string | undefined> => {
    // Rows that the same transaction has staged, as in a batch: DuckDB has no statistics of them.
    await connection.run("begin");
    await connection.run(`create temp table millrace_puts as select ${row}, ${tail} ${some}`);
    await connection.run(`create temp table millrace_deletes as select id as k0, ${tail} ${some}`);
    await connection.run(
      `create temp table millrace_patches as select 1 as entry, false as moved, 'tuttt' as mask, ${row}, id as k0, ${tail} ${some}`,
    );
    const tools = { newest: new NewestVersions(), isFrugal: false, hasExact: () => false };
    await expectLookups({ ...tools, connection, sizes: new TableSizes(), trust }, layout);
    const [plan = []] = await readTextRows(connection, `explain (analyze, format json) ${sql}`);
    await connection.run("rollback");
    return /"Table": "memory\.main\.items",\s*"Type": "(\w+) Scan"/.exec(plan[1]!)?.[1];
  };
  const puts = stagedPuts(layout);
  for (const sql of [
    completeSql(layout, false),
    removeSql(layout, puts),
    removeAnySql(layout, [puts]),
    deleteSql(layout, DELETES),
    markSql(layout, DELETES),
    appendStagedSql(layout, puts, false, false),
  ]) {
    expect(await scanOf(sql, true), sql).toBe("Index");
    expect(await withoutLookups(connection, () => scanOf(sql, false)), sql).toBe("Sequential");
  }
  instance.closeSync();
});

test("once a hint was wrong, the key's index is not believed that it has no row: one that lacks it is noticed", async () => {
  const table = tableVersion({ table: "items", columns: { id: "int8", name: "text" } });
  await using stage = await staged(DEFAULT_FORM, table, 0, "g, ''");
  const lacking = Buffer.from("1122334455667788", "hex");
  const id = `${lacking.readBigInt64BE()}`;
  await stage.write(table, 10n, [put(["1", "a"], { fresh: true }), put([id, "a"], { fresh: true })]);
  const { path, query } = targetOf(stage);
  await query("force checkpoint");
  await stage.sink.close();
  // The index branches at the first byte, in which the keys differ, and has the others behind it.
  damage(path, lacking.subarray(1));
  await stage.restart(table);
  expect(await query(`select count(*)::int from public.items where id = ${id}`)).toEqual([[0]]);

  await stage.write(table, 20n, [put(["1", "b"], { fresh: true })]);
  for (const [at, entry] of [
    [30n, put([id, "b"])],
    [40n, remove([id, null])],
  ] as const) {
    const attempt = () => failure(stage.apply(rowsBatch(at, [table, [entry]])));
    let refused = await attempt();
    // DuckDB takes no row out of an index that lacks it, and closes the file over it.
    for (; refused.code === "MR3216"; refused = await attempt()) {
      await stage.open(stage.lease);
      await stage.prepare(table);
    }
    expect(refused).toMatchObject({ code: "MR3234", kind: "fatal" });
    await stage.open(stage.lease);
    await stage.prepare(table);
  }
  await stage.expectRows(table, [
    ["1", "b"],
    [id, "a"],
  ]);
});

/** Sets a byte of a file to 0, and the checksum of its block right: an exclusive or over the block's words. */
function damage(path: string, of: Buffer): void {
  const file = readFileSync(path);
  const at = file.indexOf(of) + of.length - 1;
  expect([file.indexOf(of) > 0, file.indexOf(of, at)]).toEqual([true, -1]);
  const blockBytes = Number(file.readBigUInt64LE(BLOCK_BYTES_AT));
  const checksum = at - ((at - HEADERS_BYTES) % blockBytes);
  const word = at - (at % 8);
  const ofWord = (): bigint => BigInt.asUintN(64, file.readBigUInt64LE(word) * 0xbf58476d1ce4e5b9n);
  const without = file.readBigUInt64LE(checksum) ^ ofWord();
  file[at] = 0;
  file.writeBigUInt64LE(without ^ ofWord(), checksum);
  writeFileSync(path, file);
}

const HEADERS_BYTES = 3 * 4096;
/** In the first of two headers of the database: behind a checksum and four other numbers. */
const BLOCK_BYTES_AT = 4096 + 5 * 8;
