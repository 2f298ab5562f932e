/**
 * Rows of a time that the source does not know any more: their versions lie beyond its log.
 * @module-tag heavy
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { TombstoneKeys } from "../../../connectors/redis/keys.ts";
import { runInFile } from "../../support/warehouses/duckdb-file.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { searchCall } from "../../support/caches/search-rows.ts";
import { elasticsearchUrl } from "../../support/run/services.ts";

const KINDS = ["postgres", "postgres-soft", "duckdb", "redis", "elasticsearch"] as const;
const PREPARED = `create table item (id int primary key, name text);
  insert into item select g, 'n' || g from generate_series(1, 200) g;
  create table calm (id int primary key);
  insert into calm select generate_series(1, 50)`;
/** Far beyond the log, in the same epoch, and in a later one than the checkpoints are of. */
const BEYOND = (1n << 55n) + (1n << 50n);
const LATER = (3n << 55n) + 5n;

const inWarehouse = (table: string) => `
  update ${table} set name = 'lost', _millrace_version = ${BEYOND} where id = 5;
  update ${table} set _millrace_version = ${BEYOND} where id = 6;
  update ${table} set name = 'later', _millrace_version = ${LATER} where id = 8;
  insert into ${table} (id, name, _millrace_version, _millrace_commit_time) values (-1, 'lost', ${BEYOND}, now())`;

/** The same rows everywhere; row 7 was deleted in that time, where a deleted row leaves something. */
async function plant(pipeline: RunningPipeline): Promise<void> {
  await pipeline.sinks.target!.query(inWarehouse("public.item"));
  await pipeline.sinks.target!.query(inWarehouse("soft.item"));
  await pipeline.sinks.target!.query(
    `update soft.item set _millrace_deleted = true, _millrace_version = ${BEYOND} where id = 7`,
  );
  await runInFile(join(pipeline.installation.folder, "warehouse.duckdb"), inWarehouse("public.item"));
  using cache = pipeline.cache();
  const at = (id: number) => `${pipeline.sinks.keyPrefix}public:item:${id}`;
  const put = (id: number, name: string, version: bigint) =>
    cache.hset(at(id), "id", String(id), "name", name, "_millrace_version", String(version));
  await Promise.all([put(5, "lost", BEYOND), put(6, "n6", BEYOND), put(8, "later", LATER), put(-1, "lost", BEYOND)]);
  await cache.del(at(7));
  await cache.set(new TombstoneKeys(pipeline.sinks.keyPrefix).of(at(7)), String(BEYOND), "EX", 3_600);
  const alias = `/${pipeline.sinks.indexPrefix}public.item/_doc`;
  const call = async (method: string, id: number, version: bigint, name?: string) => {
    const body = name === undefined ? undefined : `{"_millrace_version":${version},"id":${id},"name":"${name}"}`;
    const path = `${alias}/${id}?version=${version}&version_type=external_gte&refresh=true`;
    const { status, text } = await searchCall(elasticsearchUrl(), method, path, body);
    if (status > 201) throw new Error(text);
  };
  await call("PUT", 5, BEYOND, "lost");
  await call("PUT", 6, BEYOND, "n6");
  await call("PUT", 8, LATER, "later");
  await call("PUT", -1, BEYOND, "lost");
  await call("DELETE", 7, BEYOND);
}

const FOUR = [
  "public.item -1 extra",
  "public.item 5 different name _millrace_version",
  "public.item 6 different _millrace_version",
  "public.item 8 different name _millrace_version",
];
const FIVE = [...FOUR, "public.item 7 missing"].toSorted();

test("a repair says which rows nothing of this epoch changes, and the epoch that begins then is above them in every sink", async () => {
  await using pipeline = await RunningPipeline.start(PREPARED, { kinds: KINDS });
  const { installation } = pipeline;
  await pipeline.settled();
  await pipeline.daemon.stop();
  await plant(pipeline);
  await pipeline.start();
  const { exitCode, found } = await reconcile(installation, "--repair");
  expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({
    exitCode: 3,
    drift: { postgres: FOUR, "postgres-soft": FIVE, duckdb: FOUR, redis: FIVE, elasticsearch: FIVE },
    rest: [],
  });
  const beyond = found.tables.flatMap(({ sink, beyondLog, repaired }) =>
    beyondLog === 0 ? [] : [[sink, beyondLog, repaired] as const],
  );
  expect(Object.fromEntries(beyond.map(([sink, count, repaired]) => [sink, [count, repaired]]))).toEqual({
    postgres: [4, 0],
    "postgres-soft": [5, 0],
    duckdb: [4, 0],
    redis: [5, 0],
    elasticsearch: [5, 0],
  });
  const told = await installation.command("reconcile", "--repair", "--sample", "1");
  expect(told.stdout).toMatch(/MR1405 beyond the log: 5 rows of public\.item in redis: .*millrace recover --anyway/);
  expect((await installation.command("report", "show")).stdout).toContain("MR1405");
  await pipeline.daemon.stop();
  const recovered = await installation.command("recover", "--anyway", "--yes", "--json");
  expect(recovered, recovered.stderr).toMatchObject({ exitCode: 0 });
  const { epoch, mended }: { epoch: number; mended: { table: string; sink: string; rows: number }[] } = JSON.parse(
    recovered.stdout,
  );
  expect(epoch).toBe(4);
  // Row 6 has the right values, and a version that this epoch is above.
  const rows = mended.filter(({ table }) => table === "public.item").map(({ sink, rows }) => [sink, rows]);
  expect(Object.fromEntries(rows)).toEqual({
    postgres: 3,
    "postgres-soft": 4,
    duckdb: 3,
    redis: 4,
    elasticsearch: 4,
  });
  await pipeline.start();
  await pipeline.run(`update item set name = 'changed since' where id between 4 and 8;
      insert into item values (-1, 'another'); delete from item where id = 9`);
  await pipeline.expectEqual(["item", "calm"]);
  const after = await reconcile(installation);
  expect({ exitCode: after.exitCode, drift: driftOf(after.found) }).toEqual({ exitCode: 0, drift: {} });
});
