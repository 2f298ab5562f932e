/**
 * Rows that are large beside DuckDB's memory go through at once, whatever lies about them.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { duckdbSink } from "../../connectors/duckdb/sink.ts";
import { Database } from "../../connectors/duckdb/file/database.ts";
import { patch, put, Reports, rowsBatch, timeout, type Write } from "../conformance/stage.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const LIMIT = "128MB";
const table = tableVersion({ table: "papers", columns: { id: "int4", name: "text", body: "text" } });
const LARGE = "x".repeat(25 << 20);

test("inserts, updates, upserts and small rows beside large ones go through at the second attempt at the latest", async () => {
  using folder = temporaryFolder();
  const settings = { path: folder.file("warehouse.duckdb"), memoryLimit: LIMIT, threads: 1 };
  const sink = duckdbSink({ name: "warehouse", owner: "shop/warehouse", schema: undefined, ...settings });
  await sink.open(1, timeout());
  await sink.prepare([table], timeout());
  const reports = new Reports();
  let at = 10n;
  const attempts: number[] = [];
  const write = async (...writes: readonly Write[]): Promise<void> => {
    const batch = rowsBatch((at += 10n), [table, writes]);
    for (let tries = 1; ; tries++) {
      try {
        await sink.apply(batch, reports, timeout());
        attempts.push(tries);
        return;
      } catch (error) {
        // As the runtime does it.
        expect(error).toMatchObject({ kind: "retryable" });
        expect(tries, `step ${attempts.length}`).toBeLessThan(3);
        await sink.open(1, timeout());
      }
    }
  };
  for (const id of ["1", "2", "3", "4"]) await write(put([id, "new", LARGE], { fresh: true }));
  for (const id of ["2", "3"]) await write(put([id, "again", LARGE]));
  await write(put(["5", "small", "s"], { fresh: true }), put(["6", "small", "s"], { fresh: true }));
  await write(put(["5", "changed", "t"]), put(["4", "small", "now"]), patch(["1", "renamed", UNCHANGED]));
  const database = await Database.acquire(settings);
  try {
    const connection = await database.connect();
    const limit = await connection.runAndReadAll("select current_setting('memory_limit')");
    expect(limit.getRowsJson()).toEqual([["122.0 MiB"]]);
    // Whoever reads all large values at once needs room for them.
    await connection.run("SET memory_limit = '1GB'");
    const rows = await connection.runAndReadAll("select id, name, length(body) from public.papers order by id");
    expect(rows.getRowsJson()).toEqual([
      [1, "renamed", String(LARGE.length)],
      [2, "again", String(LARGE.length)],
      [3, "again", String(LARGE.length)],
      [4, "small", "3"],
      [5, "changed", "1"],
      [6, "small", "1"],
    ]);
    connection.disconnectSync();
  } finally {
    await database.release();
    await sink.close();
  }
  expect(attempts).toEqual(attempts.map((_, i) => Math.min(attempts[i]!, 2)));
  expect([reports.poisons, reports.incompletes]).toEqual([[], []]);
});
