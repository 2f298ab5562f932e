/** Long values that an update leaves alone are not in the log; they must never be lost in a sink, nor become null. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DuckDBInstance } from "@duckdb/node-api";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { SINK_KINDS } from "../../support/daemon/sink-set.ts";
import { encodedPart, rowId } from "../../support/compare/reader.ts";
import { elasticsearchUrl } from "../../support/run/services.ts";

/** A row of a table in `public` by its key. */
interface LostRow {
  readonly table: string;
  readonly key: Readonly<Record<string, string>>;
}

/** From the sinks that others may write to while the daemon runs: all but DuckDB. */
async function loseWhileRunning(pipeline: RunningPipeline, rows: readonly LostRow[]): Promise<void> {
  using cache = pipeline.cache();
  for (const row of rows) {
    const id = rowId(Object.values(row.key));
    await expectOne(row, await cache.unlink(`${pipeline.sinks.keyPrefix}public:${encodedPart(row.table)}:${id}`));
    await loseDocument(pipeline.sinks.indexPrefix, row, id);
    const { rowCount } = await pipeline.sinks.target!.query(deletion(row));
    await expectOne(row, rowCount ?? 0);
  }
}

/** From the DuckDB file, which nobody else can write to: the daemon must be stopped. */
async function loseFromFile(pipeline: RunningPipeline, rows: readonly LostRow[]): Promise<void> {
  const instance = await DuckDBInstance.create(join(pipeline.installation.folder, "warehouse.duckdb"));
  const connection = await instance.connect();
  for (const row of rows) await expectOne(row, (await connection.run(deletion(row))).rowsChanged);
  connection.disconnectSync();
  instance.closeSync();
}

function deletion({ table, key }: LostRow): string {
  const match = Object.entries(key).map(([name, value]) => `"${name}" = '${value}'`);
  return `delete from public."${table}" where ${match.join(" and ")}`;
}

async function loseDocument(prefix: string, row: LostRow, id: string): Promise<void> {
  const address = `${elasticsearchUrl()}/${prefix}public.${row.table}/_doc/${encodeURIComponent(id)}`;
  const found: unknown = await (await fetch(address)).json();
  const version = typeof found === "object" && found !== null && "_version" in found ? found._version : undefined;
  // The number passes through a double: a little more than it is good enough, and below every later version.
  const above = BigInt(Number(version)) + 1024n;
  const answer = await fetch(`${address}?version=${above}&version_type=external_gte`, { method: "DELETE" });
  await answer.body?.cancel();
  await expectOne(row, answer.status === 200 ? 1 : 0);
}

/** A row that was not there would make the test say nothing. */
async function expectOne({ table, key }: LostRow, count: number): Promise<void> {
  if (count !== 1) throw new Error(`${table} had ${count} rows under ${JSON.stringify(key)}`);
}

/** Not compressible, and too long to stay in the row. */
const LONG = "(select string_agg(md5(random()::text || g || i), '') from generate_series(1, 90) i)";
/** As long as an index takes: a key that is stored out of line. */
const LONG_KEY = "(select string_agg(md5(g || '/' || i), '') from generate_series(1, 70) i)";

const TABLES = ["note", "moving", "long_key", "long_pair", "long_full", "long_index", "wide_full"];

let pipeline: RunningPipeline;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(
    `
    create table note (id int primary key, n int, body text, more text);
    create table moving (id int primary key, n int, body text);
    create table long_key (k text primary key, n int, body text);
    create table long_pair (part int, body text, k text, n int, primary key (k, part));
    create table long_full (k text primary key, n int, body text);
    alter table long_full replica identity full;
    create table long_index (id int primary key, k text not null unique, n int, body text);
    alter table long_index replica identity using index long_index_k_key;
    create table wide_full (id int primary key, n int, body text);
    alter table wide_full replica identity full;
    alter table note alter body set storage external, alter more set storage external;
    alter table moving alter body set storage external;
    alter table wide_full alter body set storage external;
    alter table long_key alter k set storage external, alter body set storage external;
    alter table long_pair alter k set storage external, alter body set storage external;
    alter table long_full alter k set storage external, alter body set storage external;
    alter table long_index alter k set storage external, alter body set storage external;
    insert into note select g, 0, ${LONG}, ${LONG} from generate_series(1, 40) g;
    insert into moving select g, 0, ${LONG} from generate_series(1, 40) g;
    insert into wide_full select g, 0, ${LONG} from generate_series(1, 10) g;
    insert into long_key select ${LONG_KEY}, 0, ${LONG} from generate_series(1, 10) g;
    insert into long_pair select g, ${LONG}, ${LONG_KEY}, 0 from generate_series(1, 10) g;
    insert into long_full select ${LONG_KEY}, 0, ${LONG} from generate_series(1, 10) g;
    insert into long_index select g, ${LONG_KEY}, 0, ${LONG} from generate_series(1, 10) g`,
    { kinds: SINK_KINDS },
  );
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

test("updates in later batches, in the batch of the insert, and of rows from the first copy", async () => {
  await pipeline.run("update note set n = 1 where id <= 20");
  await pipeline.run(`begin; insert into note select g, 0, ${LONG}, ${LONG} from generate_series(101, 110) g;
    update note set n = 2 where id > 100; update note set more = 'short' where id = 103; commit`);
  await pipeline.expectEqual(["note"]);
  await pipeline.run(`insert into note select g, 0, ${LONG}, ${LONG} from generate_series(111, 120) g`);
  await pipeline.settled();
  for (let n = 0; n < 5; n++) await pipeline.run(`update note set n = ${n} where id > 110`);
  await pipeline.run(
    `update note set body = ${LONG.replace("g ||", "id ||")} where id = 112; update note set n = 9 where id = 112`,
  );
  await pipeline.run("update note set body = null where id = 113; update note set n = 9 where id in (113, 114)");
  await pipeline.expectEqual(["note"]);
});

test("rows whose key changes: alone, in chains, back again, onto a key that another row just left", async () => {
  await pipeline.run("update moving set id = id + 1000 where id between 1 and 5");
  await pipeline.run(`begin; update moving set id = 2006 where id = 6; update moving set id = 3006, n = 1 where id = 2006;
    update moving set n = 2 where id = 3006; commit`);
  await pipeline.run(
    "begin; update moving set id = 2007 where id = 7; update moving set id = 7 where id = 2007; commit",
  );
  await pipeline.run(`begin; update moving set id = 2008 where id = 8; update moving set id = 8 where id = 9;
    update moving set id = 9 where id = 2008; commit`);
  await pipeline.run("begin; delete from moving where id = 10; update moving set id = 10 where id = 11; commit");
  await pipeline.run(`begin; update moving set id = 2012 where id = 12; insert into moving values (12, 5, 'new');
    update moving set n = 6 where id in (12, 2012); commit`);
  await pipeline.run("update moving set id = id + 1000 where id between 1001 and 1005");
  await pipeline.expectEqual(["moving"]);
});

test("a long key that stays out of line, under every replica identity", async () => {
  for (const table of ["long_key", "long_pair", "long_full", "long_index"]) {
    await pipeline.run(`update ${table} set n = n + 1`);
    await pipeline.run(`update ${table} set n = n + 1; update ${table} set n = n + 1`);
    await pipeline.run(`update ${table} set body = 'short' where k = (select max(k) from ${table})`);
    await pipeline.run(`delete from ${table} where k = (select min(k) from ${table})`);
  }
  await pipeline.run("update long_pair set part = part + 100 where part < 5");
  await pipeline.run(
    "begin; update long_pair set part = part + 100 where part < 8; update long_pair set n = -1; commit",
  );
  await pipeline.run("update long_key set k = k || 'x' where k = (select max(k) from long_key)");
  await pipeline.run("update wide_full set n = 1; update wide_full set id = id + 100 where id < 5");
  await pipeline.expectEqual(["long_key", "long_pair", "long_full", "long_index", "wide_full"]);
});

const rows = (table: string, ids: readonly number[]): LostRow[] =>
  ids.map((id) => ({ table, key: { id: String(id) } }));

/** Changes of rows that some sink no longer has: none of them carries `body`. */
const changesOf = (a: number): readonly string[] => [
  `update note set n = 100 where id = ${a}`,
  `update note set n = 101 where id = ${a + 1}`,
  `update note set more = 'kept' where id = ${a + 1}`,
  `update moving set id = ${a + 1000} where id = ${a}`,
  `update moving set n = 102 where id = ${a + 1}`,
  `update moving set id = ${a + 1001} where id = ${a + 1}`,
  `delete from note where id = ${a + 2}`,
  `update note set id = ${a + 1003} where id = ${a + 3}`,
  `delete from note where id = ${a + 1003}`,
];

test("rows that a sink lost are completed from the source", async () => {
  const lost = [...rows("note", [21, 22, 23, 24]), ...rows("moving", [21, 22])];
  await loseWhileRunning(pipeline, lost);
  for (const change of changesOf(21)) await pipeline.run(change);
  await pipeline.expectEqual(["note", "moving"]);

  const again = [...rows("note", [25, 26, 27, 28]), ...rows("moving", [25, 26])];
  await pipeline.daemon.stop();
  await loseFromFile(pipeline, again);
  for (const change of changesOf(25)) await pipeline.run(change);
  await pipeline.start();
  await pipeline.expectEqual(TABLES);
  expect((await pipeline.installation.status()).sinks.map(({ deadLetters }) => deadLetters)).toEqual([0, 0, 0, 0]);
});

test("lost rows that go on changing while they are completed", async () => {
  const ids = Array.from({ length: 10 }, (_, i) => 30 + i);
  await loseWhileRunning(pipeline, rows("note", ids));
  for (let n = 0; n < 30; n++) await pipeline.run(`update note set n = ${n} where id between 30 and 39`);
  await pipeline.run("update note set id = id + 1000 where id between 35 and 36; delete from note where id = 37");
  await pipeline.expectEqual(["note"]);
});
