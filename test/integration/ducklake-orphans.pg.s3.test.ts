/** Data files that killed writers leave in a lake's data: they go, and no other file does. */
import { mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { freshBucket } from "../support/run/services.ts";
import { Lake } from "../../connectors/duckdb/lake/lake.ts";
import { findOrphans, markData, ownerOfData, scheduleOrphans } from "../../connectors/duckdb/lake/orphans.ts";
import { lakeSink } from "../../connectors/duckdb/lake/sink.ts";
import { SILENT } from "../../src/core/contracts/telemetry.ts";
import { timeout } from "../conformance/stage.ts";
import { type LakeTarget, lakeTarget } from "../support/warehouses/ducklake-target.ts";
import { Writer } from "../support/warehouses/ducklake-writers.ts";
import { expectedAfter, batches } from "../support/warehouses/duckdb-writer.ts";
import { eventually } from "../support/run/waiting.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";

const META = "__ducklake_metadata_lake";
/** The scheduled files are due. */
const DUE = `update ${META}.ducklake_files_scheduled_for_deletion set schedule_start = now() - interval '3 days'`;

test(
  "files that a killed writer left are removed while another one writes, and nothing else",
  { tags: "heavy" },
  async () => {
    await using target = await lakeTarget("sqlite");
    const { data } = target.options.place;
    const folder = join(data, "public/steps");
    {
      await using writer = new Writer(target, 1, "duckdb.rows-written=kill@3");
      await writer.ended();
    }
    const left = await unnamed(target, folder);
    expect(left.length).toBeGreaterThan(0);
    for (const name of ["other.parquet", "notes.txt"]) writeFileSync(join(folder, name), "somebody else's");
    await using writer = new Writer(target, 2);
    await writer.next();
    // The other writer's files are as old as they are; those that it has not named yet stay.
    age(folder, [...left, "other.parquet", "notes.txt"]);
    age(data, marksIn(data));
    const foreign = "_millrace_lake_of-another.csv";
    writeFileSync(join(data, foreign), "lake");
    const warned: string[] = [];
    const logger = { ...SILENT, warn: (_: object, text: string) => void warned.push(text) };
    const maintenance = { everyMs: 100, keepSnapshotsMs: 60_000 };
    const sink = lakeSink({ ...target.options, name: "upkeep", owner: "shop/upkeep", logger, maintenance });
    // Transactions of the two writers may meet; who opens a sink tries again.
    await eventually(() => sink.open(1, timeout()));
    await eventually(async () => expect(warned).toContainEqual(expect.stringContaining("another lake")));
    expect(readdirSync(folder)).toEqual(expect.arrayContaining(left));
    rmSync(join(data, foreign));
    await eventually(
      async () => {
        await target.query(DUE);
        expect(readdirSync(folder).filter((file) => left.includes(file))).toEqual([]);
      },
      { withinMs: 60_000 },
    );
    await sink.close();
    await writer.kill();
    expect(readdirSync(folder)).toEqual(expect.arrayContaining(["other.parquet", "notes.txt"]));
    const again = target.makeSink();
    const held = await again.open(3, timeout());
    const rows = await target.readRows(batches);
    expect(rows.map(({ cells }) => cells.join(" ")).toSorted()).toEqual(
      expectedAfter(Number(held?.position.commit)).toSorted(),
    );
    await again.close();
  },
);

test("a file that a transaction of more than a day names after all stays", async () => {
  await using target = await lakeTarget("postgres");
  const { place } = target.options;
  let runs = 0;
  const logger = { ...SILENT, info: () => void runs++ };
  const sink = lakeSink({ ...target.options, logger, maintenance: { everyMs: 200, keepSnapshotsMs: 60_000 } });
  await target.query("create schema lake.public");
  await target.query("create table lake.public.items (id integer)");
  await sink.open(1, timeout());
  const lake = await Lake.acquire(target.options);
  // As another program, whose commit is repeated where it meets one of the upkeep.
  const slow = await lake.connect();
  await slow.run("set ducklake_max_retry_count = 100");
  const other = await lake.connect();
  await slow.run("begin; insert into lake.public.items select range from range(500)");
  // Another lake's data lie in the table's folder.
  const foreign = "ducklake-019ac000-0000-7000-8000-000000000001.parquet";
  const inner = join(place.data, "public/items/public/things");
  mkdirSync(inner, { recursive: true });
  writeFileSync(join(inner, foreign), "another lake's");
  // The upkeep writes files of its own meanwhile.
  const orphans = (await findOrphans(other, 0)).filter((path) => path.includes("/items/"));
  expect(orphans).toHaveLength(2);
  expect(await findOrphans(other)).toEqual([]);
  expect(await scheduleOrphans(other, place, orphans)).toBe(1);
  expect(await scheduleOrphans(other, place, orphans)).toBe(0);
  await slow.run("commit");
  await target.query(DUE);
  const before = runs;
  // The first of them may have begun before.
  await eventually(async () => expect(runs).toBeGreaterThan(before + 1));
  expect(await target.query("select sum(id)::integer from lake.public.items")).toEqual([[124_750]]);
  expect(
    await target.query("select path from ducklake_delete_orphaned_files('lake', dry_run => true, cleanup_all => true)"),
  ).toEqual([[join(inner, foreign)]]);
  for (const connection of [slow, other]) connection.disconnectSync();
  await lake.release();
  await sink.close();
});

test(
  "in a bucket too; while the mark of the lake is young, other lakes may not have left theirs",
  { tags: "heavy" },
  async () => {
    await using target = await lakeTarget("sqlite", DEFAULT_FORM, await freshBucket());
    const { place } = target.options;
    await target.query("create schema lake.public");
    await target.query("create table lake.public.items as select range as id from range(500)");
    const lake = await Lake.acquire(target.options);
    const connection = await lake.connect();
    await markData(connection, place);
    await markData(connection, place);
    expect(await ownerOfData(connection, place)).toBe("not known yet");
    expect(await ownerOfData(connection, place, 0)).toBe("this lake");
    const names = [
      "public/items/ducklake-019ac000-0000-7000-8000-000000000001",
      "other/ducklake-019ac000-0000-7000-8000-000000000001",
      "public/items/mine",
    ];
    for (const name of names) await connection.run(`copy (select 1 as id) to '${place.data}${name}.parquet'`);
    const files = async () =>
      (await target.query(`select file from glob('${place.data}**/*.parquet')`)).flat().map(String);
    const before = await files();
    expect(before).toHaveLength(4);
    const orphans = await findOrphans(connection, 0);
    expect(await scheduleOrphans(connection, place, orphans)).toBe(1);
    await connection.run(`call ducklake_cleanup_old_files('lake', cleanup_all => true)`);
    const after = await files();
    expect(before.filter((file) => !after.includes(file))).toEqual([`${place.data}${names[0]}.parquet`]);
    expect(await target.query("select sum(id)::integer from lake.public.items")).toEqual([[124_750]]);
    await connection.run(`copy (select 1 as lake) to '${place.data}_millrace_lake_of-another.csv'`);
    expect(await ownerOfData(connection, place, 0)).toBe("several lakes");
    connection.disconnectSync();
    await lake.release();
  },
);

function age(folder: string, files: readonly string[]): void {
  const at = Date.now() / 1000 - 2 * 86_400;
  for (const file of files) utimesSync(join(folder, file), at, at);
}

function marksIn(data: string): string[] {
  return readdirSync(data).filter((file) => file.startsWith("_millrace_lake_"));
}

/** Data files of which the catalogue knows nothing. */
async function unnamed(target: LakeTarget, folder: string): Promise<string[]> {
  const rows = await target.query(
    `select path from ${META}.ducklake_data_file union all select path from ${META}.ducklake_delete_file`,
  );
  const named = new Set(rows.flat());
  return readdirSync(folder).filter((file) => !named.has(file));
}
