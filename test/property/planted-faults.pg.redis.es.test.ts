/**
 * Single faults of every kind, planted at random in every sink: `reconcile` finds each with its key and columns, and nothing else.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { runInFile } from "../support/warehouses/duckdb-file.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { driftOf, reconcile } from "../support/daemon/reconciled.ts";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { rowIdOf } from "../../src/core/model/row-id.ts";
import { searchCall } from "../support/caches/search-rows.ts";
import { Workload, WORKLOAD_TABLES } from "../support/load/workload.ts";
import { elasticsearchUrl } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

/** A value in the spellings that it has in the sinks. */
interface Cell {
  /** For Postgres and DuckDB alike. */
  readonly sql: string;
  /** In a hash of the cache; null: the field is not there. */
  readonly plain: string | null;
  readonly json: string;
}

type Row = Readonly<Record<string, Cell>>;

/** What has to be said of a row, and how each sink comes to it. */
interface Fault {
  readonly what: string;
  readonly id: number;
  readonly kind: "different" | "missing" | "extra";
  readonly columns: readonly string[];
  /** What stands there afterwards, besides the key; null: nothing, or of an extra row the key alone. */
  readonly row: Row | null;
  /** With the version that it had before. */
  readonly isStale: boolean;
}

const COLUMNS = ["a", "b", "note", "seen", "amount", "ratio", "n", "flag", "tags", "body"] as const;

/** Rows of these ids are changed once more when they are in the sinks. */
const CHANGED_EVERY = 5;

function sourceSql(table: string, rowCount: number): string {
  return `create table ${table} (id int, part text, a text not null, b text not null, note text, seen timestamptz,
      amount numeric(12,2), ratio float8, n bigint, flag bool, tags text[], body jsonb, primary key (id, part));
    insert into ${table} select g, 'p:' || g, 'a' || g, 'b' || g, case g % 2 when 0 then '' end,
      '2026-11-20 06:43:15.123456+00', g + 0.01, case g % 3 when 0 then '0' when 1 then '-0' else '1.5' end::float8, g * 7,
      g % 2 = 0, array['t' || g, null], jsonb_build_object('n', g) from generate_series(1, ${rowCount}) g`;
}

function changeSql(table: string): string {
  return `update ${table} set a = a || '!', n = n + 1 where id % ${CHANGED_EVERY} = 0`;
}

function rowOf(id: number): Row {
  const isChanged = id % CHANGED_EVERY === 0;
  return {
    a: text(isChanged ? `a${id}!` : `a${id}`),
    b: text(`b${id}`),
    note: id % 2 === 0 ? text("") : NOTHING,
    seen: seen("123456"),
    amount: decimal(`${id}.01`),
    ratio: float(["0", "-0", "1.5"][id % 3]!),
    n: int(isChanged ? id * 7 + 1 : id * 7),
    flag: bool(id % 2 === 0),
    tags: list([`t${id}`, null]),
    body: json(`{"n": ${id}}`),
  };
}

const NOTHING: Cell = { sql: "null", plain: null, json: "null" };
const WRONG_TYPES: Readonly<Record<string, (right: Cell) => string>> = {
  a: () => "17",
  amount: ({ json: right }) => JSON.parse(right),
  ratio: ({ json: right }) => JSON.stringify(right),
  n: ({ json: right }) => JSON.stringify(right),
  flag: ({ json: right }) => JSON.stringify(right),
  tags: ({ json: right }) => JSON.stringify(right),
};

/** Each takes as many rows as it needs from the ids that are still whole. */
type Plant = (ids: Ids, random: Random) => readonly Fault[];

interface Ids {
  readonly next: (isRight?: (id: number) => boolean) => number;
  readonly unused: () => number;
}

function changed(what: string, id: number, values: Row, isStale = false): Fault {
  const right = rowOf(id);
  const columns = COLUMNS.filter((name) => values[name] !== undefined && values[name].json !== right[name]!.json);
  if (columns.length === 0) throw new Error(`nothing is wrong with row ${id}: ${what}`);
  return { what, id, kind: "different", columns, row: { ...right, ...values }, isStale };
}

const VALUES: Readonly<Record<string, (random: Random) => Cell>> = {
  a: (random) => text(`wrong ${random.text(6)}`),
  note: (random) => text(`wrong ${random.below(100)}`),
  amount: (random) => decimal(`-${random.below(1000)}.5${random.below(10)}`),
  ratio: (random) => float(String(-2 - random.next())),
  n: (random) => int(-1 - random.below(1000)),
  tags: (random) => list(["t", String(random.below(100))]),
  body: (random) => json(`{"n": "${random.below(100)}"}`),
};

const PLANTS: Readonly<Record<string, Plant>> = {
  "a cell changed": (ids, random) => {
    const name = random.pick(Object.keys(VALUES));
    return [changed("a cell changed", ids.next(), { [name]: VALUES[name]!(random) })];
  },
  "a flag turned": (ids) => {
    const id = ids.next();
    return [changed("a flag turned", id, { flag: bool(id % 2 !== 0) })];
  },
  "NULL against ''": (ids) => {
    const id = ids.next();
    return [changed("NULL against ''", id, { note: id % 2 === 0 ? NOTHING : text("") })];
  },
  "a space at the end": (ids) => {
    const id = ids.next();
    return [changed("a space at the end", id, { b: text(`b${id} `) })];
  },
  "the last microsecond": (ids) => [changed("the last microsecond", ids.next(), { seen: seen("123457") })],
  "-0 against 0": (ids) => {
    const id = ids.next((one) => one % 3 !== 2);
    return [changed("-0 against 0", id, { ratio: float(id % 3 === 0 ? "-0" : "0") })];
  },
  "two columns swapped": (ids) => {
    const id = ids.next();
    return [changed("two columns swapped", id, { a: rowOf(id)["b"]!, b: rowOf(id)["a"]! })];
  },
  "two rows swapped": (ids) => {
    const [one, other] = [ids.next(), ids.next()];
    return [changed("two rows swapped", one, rowOf(other)), changed("two rows swapped", other, rowOf(one))];
  },
  "a row missing": (ids) => [
    { what: "a row missing", id: ids.next(), kind: "missing", columns: [], row: null, isStale: false },
  ],
  "a row extra": (ids) => [
    { what: "a row extra", id: ids.unused(), kind: "extra", columns: [], row: null, isStale: false },
  ],
  "a stale version": (ids) => {
    const id = ids.next((one) => one % CHANGED_EVERY === 0);
    return [changed("a stale version", id, { a: text(`a${id}`), n: int(id * 7) }, true)];
  },
};

/** In documents only. */
const WRONG_TYPE: Plant = (ids, random) => {
  const id = ids.next();
  const name = random.pick(Object.keys(WRONG_TYPES));
  const right = rowOf(id)[name]!;
  return [changed("a wrong type", id, { [name]: { ...right, json: WRONG_TYPES[name]!(right) } })];
};

/** `count` of them, every kind as often, each in rows of its own. */
function faultsFor(random: Random, rowCount: number, count: number, isDocument: boolean): readonly Fault[] {
  const whole = new Set(Array.from({ length: rowCount }, (_, i) => i + 1));
  let unused = rowCount;
  const ids: Ids = {
    next: (isRight = () => true) => {
      const left = [...whole].filter(isRight);
      const id = random.pick(left);
      whole.delete(id);
      return id;
    },
    unused: () => ++unused,
  };
  const plants = [...Object.values(PLANTS), ...(isDocument ? [WRONG_TYPE] : [])];
  return Array.from({ length: count }, (_, i) => plants[i % plants.length]!(ids, random)).flat();
}

/** As `driftOf` tells it. */
function lineOf(table: string, { id, kind, columns }: Fault): string {
  return [table, id, `p:${id}`, kind, ...columns].join(" ");
}

function text(value: string): Cell {
  return { sql: quoted(value), plain: value, json: JSON.stringify(value) };
}

function seen(fraction: string): Cell {
  const iso = `2026-11-20T06:43:15.${fraction}Z`;
  return { sql: `'2026-11-20 06:43:15.${fraction}+00'`, plain: iso, json: JSON.stringify(iso) };
}

function decimal(digits: string): Cell {
  return { sql: digits, plain: digits, json: JSON.stringify(digits) };
}

function float(digits: string): Cell {
  return { sql: `'${digits}'::double precision`, plain: digits, json: digits };
}

function int(value: number): Cell {
  return { sql: String(value), plain: String(value), json: String(value) };
}

function bool(value: boolean): Cell {
  return { sql: String(value), plain: String(value), json: String(value) };
}

function list(values: readonly (string | null)[]): Cell {
  const items = values.map((value) => (value === null ? "null" : quoted(value)));
  return { sql: `array[${items.join(", ")}]`, plain: JSON.stringify(values), json: JSON.stringify(values) };
}

function json(value: string): Cell {
  return { sql: quoted(value), plain: value, json: value };
}

function quoted(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}

/** `stale`: the version of rows that were not changed since they were copied. */
function faultsInSql(table: string, faults: readonly Fault[], stale: string, inDuckdb = false): string {
  return faults.map((fault) => statement(table, fault, stale, inDuckdb)).join(";\n");
}

function statement(
  table: string,
  { what, id, kind, columns, row, isStale }: Fault,
  stale: string,
  inDuckdb: boolean,
): string {
  if (kind === "missing") return `delete from public.${table} where id = ${id}`;
  if (kind === "extra")
    return `insert into public.${table} (id, part, a, b, _millrace_version, _millrace_commit_time) values (${id}, 'p:${id}', 'a', 'b', ${stale}, now())`;
  const sets = columns.map((name) => `${name} = ${row![name]!.sql}`);
  // The storage of DuckDB may merge both zeros: what tells them apart stands beside the column.
  if (inDuckdb && columns.includes("ratio") && what !== "a cell changed")
    sets.push(`_millrace_exact = ${row!["ratio"]!.json === "-0" ? `'{"ratio": "-0"}'` : "null"}`);
  if (isStale) sets.push(`_millrace_version = ${stale}`);
  return `update public.${table} set ${sets.join(", ")} where id = ${id}`;
}

async function plantInCache(pipeline: RunningPipeline, table: string, faults: readonly Fault[], stale: string) {
  using cache = pipeline.cache();
  const calls = cache.pipeline();
  for (const { id, kind, columns, row, isStale } of faults) {
    const key = `${pipeline.sinks.keyPrefix}public:${table}:${idOf(id)}`;
    if (kind === "extra") calls.hset(key, { id, part: `p:${id}`, a: "a", _millrace_version: stale });
    else if (kind === "missing") {
      // Lost, or evicted.
      if (id % 2 === 0) calls.del(key);
      else calls.pexpire(key, 1);
    }
    for (const name of columns) {
      const { plain } = row![name]!;
      if (plain === null) calls.hdel(key, name);
      else calls.hset(key, name, plain);
    }
    if (isStale) calls.hset(key, "_millrace_version", stale);
  }
  for (const [error] of (await calls.exec())!) if (error !== null) throw error;
}

/** Each under the version that the document has, so that the engine's number tells nothing. */
async function plantInIndex(pipeline: RunningPipeline, table: string, faults: readonly Fault[], stale: string) {
  const alias = `/${pipeline.sinks.indexPrefix}public.${table}`;
  const versions = await versionsIn(alias);
  // Who deletes a document may write an older one afterwards.
  await called("PUT", `${alias}/_settings`, '{"index": {"gc_deletes": "0s"}}');
  const lines: string[] = [];
  const late: string[] = [];
  for (const { id, kind, row, isStale } of faults) {
    const version = versions.get(idOf(id)) ?? stale;
    const head = (action: string, at: string) =>
      `{"${action}": {"_id": "${idOf(id)}", "version": ${at}, "version_type": "external_gte"}}`;
    const cells = row ?? (kind === "extra" ? rowOf(id) : null);
    if (cells === null || isStale) lines.push(head("delete", version));
    if (cells === null) continue;
    const at = isStale ? stale : version;
    const fields = COLUMNS.map((name) => `"${name}": ${cells[name]!.json}`).join(", ");
    (isStale ? late : lines).push(
      head("index", at),
      `{"id": ${id}, "part": "p:${id}", ${fields}, "_millrace_version": ${at}}`,
    );
  }
  for (const some of [lines, late]) {
    if (some.length === 0) continue;
    // The engine forgets what was deleted at a refresh, by a clock that is a moment behind.
    await eventually(async () => {
      await called("POST", `${alias}/_refresh`);
      await called("POST", `${alias}/_bulk`, `${some.join("\n")}\n`);
    });
  }
  await called("POST", `${alias}/_refresh`);
}

async function versionsIn(alias: string): Promise<ReadonlyMap<string, string>> {
  await called("POST", `${alias}/_refresh`);
  const found = await called("POST", `${alias}/_search`, '{"size": 10000, "version": true, "_source": false}');
  const hits = found.matchAll(/"_id":"([^"]+)","_version":(\d+)/g);
  return new Map([...hits].map(([, id = "", version = ""]) => [id, version]));
}

async function called(method: string, path: string, body?: string): Promise<string> {
  const { status, text } = await searchCall(elasticsearchUrl(), method, path, body);
  if (status > 201 || text.includes('"errors":true')) throw new Error(text.slice(0, 2_000));
  return text;
}

function idOf(id: number): string {
  return rowIdOf([String(id), `p:${id}`]);
}

/** What the proof of a table in a sink says of its rows. */
interface Proof {
  readonly table: string;
  readonly sink: string;
  readonly provenAt: string | null;
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
}

const ROUND_COUNT = isLongForm() ? 5 : 1;
const ROW_COUNT = 2_000;
/** In each sink: with all of them more than a thousand. */
const FAULT_COUNT = 260;
const SINKS = ["postgres", "duckdb", "redis", "elasticsearch"] as const;

test(`${FAULT_COUNT * SINKS.length} planted faults are found, and nothing else; repaired, nothing is left`, async () => {
  const random = new Random(testSeed());
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      await source.query(sourceSql("planted", ROW_COUNT));
      await source.query(sourceSql("clean", 500));
    },
    { kinds: SINKS },
  );
  const stale = await versionIn(pipeline);
  await pipeline.run(changeSql("planted"));
  for (let round = 0; round < ROUND_COUNT; round++) {
    await pipeline.settled();
    await pipeline.daemon.stop();
    const planted: Planted = new Map(
      SINKS.map((sink) => [sink, faultsFor(random, ROW_COUNT, FAULT_COUNT, sink === "elasticsearch")]),
    );
    await plantAll(pipeline, planted, stale);
    await pipeline.start();
    const { exitCode, found } = await reconcile(pipeline.installation, "--repair", "--sample", "1000");
    const lines = [...planted].map(([sink, faults]) => [sink, linesOf(faults)]);
    expect({ drift: driftOf(found), rest: found.notComparable }).toEqual({
      drift: Object.fromEntries(lines),
      rest: [],
    });
    expect(exitCode).toBe(3);
    for (const { table, compared, missing, extra, different, repaired } of found.tables) {
      expect({ table, compared, repaired }).toEqual({
        table,
        compared: table === "public.clean" ? 500 : ROW_COUNT,
        repaired: missing + extra + different,
      });
    }
    const again = await reconcile(pipeline.installation);
    expect({ exitCode: again.exitCode, drift: driftOf(again.found) }).toEqual({ exitCode: 0, drift: {} });
  }
});

const MINUTES = Number(process.env["MILLRACE_TEST_SOAK_MINUTES"] ?? 30);
const KILLED_EVERY_MS = 240_000;
const LOOKED_EVERY_MS = 3_000;
/** In each sink. */
const PROVEN_COUNT = 1_000;
const MAX_AGE_MS = 120_000;

test(
  `for ${MINUTES} minutes of a hostile workload and kills the proof finds ${PROVEN_COUNT * SINKS.length} planted faults within its maxAge, and nothing else`,
  { tags: ["long"], timeout: (MINUTES + 20) * 60_000 },
  async () => {
    const random = new Random(testSeed());
    await using pipeline = await RunningPipeline.start(
      async (source) => {
        await source.query(sourceSql("planted", PROVEN_COUNT * 8));
        await new Workload(source.url, 0).createTables(2_000);
      },
      {
        kinds: SINKS,
        configure: (config) => ({
          ...config,
          reconcile: { continuous: { maxAge: `${MAX_AGE_MS / 1000}s`, share: "30%" } },
        }),
      },
    );
    const stale = await versionIn(pipeline);
    await pipeline.run(changeSql("planted"));
    await pipeline.settled();
    await using workload = new Workload(pipeline.source.url, random.below(1_000_000));
    workload.start(25);
    await provenSince(pipeline, new Date().toISOString());
    expect((await proofs(pipeline)).filter(isUnequal)).toEqual([]);
    const planted: Planted = new Map(
      SINKS.map((sink) => [sink, faultsFor(random, PROVEN_COUNT * 8, PROVEN_COUNT, sink === "elasticsearch")]),
    );
    await pipeline.kill();
    await plantAll(pipeline, planted, stale);
    await pipeline.start();
    const plantedMs = performance.now();
    const wanted = [...planted].map(([sink, faults]) => ({ sink, ...countsOf(faults) })).toSorted(bySink);
    await eventually(async () => expect(await unequal(pipeline)).toEqual(wanted), {
      withinMs: MAX_AGE_MS,
      everyMs: LOOKED_EVERY_MS,
    });
    for (let killedMs = plantedMs; performance.now() - plantedMs < MINUTES * 60_000;) {
      if (performance.now() - killedMs > KILLED_EVERY_MS) {
        await pipeline.kill();
        await pipeline.start();
        killedMs = performance.now();
      }
      // A time, not a condition: what may be called wrong in it is what the test looks for.
      await sleep(LOOKED_EVERY_MS);
      expect(await unequal(pipeline)).toEqual(wanted);
    }
    await workload.stop();
    const { found } = await reconcile(pipeline.installation, "--repair", "--sample", "10000");
    const lines = [...planted].map(([sink, faults]) => [sink, linesOf(faults)]);
    expect(driftOf(found)).toEqual(Object.fromEntries(lines));
    await pipeline.expectEqual(["planted", ...WORKLOAD_TABLES]);
  },
);

type Planted = ReadonlyMap<(typeof SINKS)[number], readonly Fault[]>;

/** While no daemon runs. */
async function plantAll(pipeline: RunningPipeline, planted: Planted, stale: string): Promise<void> {
  await pipeline.sinks.target!.query(faultsInSql("planted", planted.get("postgres")!, stale));
  const file = join(pipeline.installation.folder, "warehouse.duckdb");
  await runInFile(file, faultsInSql("planted", planted.get("duckdb")!, stale, true));
  await plantInCache(pipeline, "planted", planted.get("redis")!, stale);
  await plantInIndex(pipeline, "planted", planted.get("elasticsearch")!, stale);
}

async function proofs({ installation }: RunningPipeline): Promise<readonly Proof[]> {
  const listed = await installation.command("proofs", "list", "--json");
  expect(listed.exitCode, listed.stderr).toBe(0);
  return JSON.parse(listed.stdout).proofs;
}

async function provenSince(pipeline: RunningPipeline, time: string): Promise<void> {
  const isLate = ({ provenAt }: Proof): boolean => provenAt === null || provenAt < time;
  await eventually(async () => expect((await proofs(pipeline)).filter(isLate)).toEqual([]), {
    withinMs: 2 * MAX_AGE_MS,
    everyMs: LOOKED_EVERY_MS,
  });
}

/** By sink, of the one table that may have any. */
async function unequal(pipeline: RunningPipeline) {
  const found = (await proofs(pipeline)).filter(isUnequal);
  expect(found.filter(({ table }) => table !== "public.planted")).toEqual([]);
  return found.map(({ sink, missing, extra, different }) => ({ sink, missing, extra, different })).toSorted(bySink);
}

function isUnequal({ missing, extra, different }: Proof): boolean {
  return missing + extra + different > 0;
}

function bySink(one: { readonly sink: string }, other: { readonly sink: string }): number {
  return one.sink.localeCompare(other.sink);
}

function countsOf(faults: readonly Fault[]) {
  const of = (wanted: Fault["kind"]): number => faults.filter(({ kind }) => kind === wanted).length;
  return { missing: of("missing"), extra: of("extra"), different: of("different") };
}

/** Of the rows as they were copied. */
async function versionIn({ sinks: { target } }: RunningPipeline): Promise<string> {
  const { rows } = await target!.query<{ version: string }>(
    "select max(_millrace_version)::text as version from public.planted",
  );
  return rows[0]!.version;
}

function linesOf(faults: readonly Fault[]): readonly string[] {
  return faults.map((fault) => lineOf("public.planted", fault)).toSorted();
}
