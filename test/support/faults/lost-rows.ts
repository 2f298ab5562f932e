/** Takes rows away from sinks behind the daemon's back: evicted, deleted by hand. */
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { encodedPart, rowId } from "../compare/reader.ts";
import type { RunningPipeline } from "../daemon/running-pipeline.ts";
import { elasticsearchUrl } from "../run/services.ts";

/** A row of a table in `public` by its key. */
export interface LostRow {
  readonly table: string;
  readonly key: Readonly<Record<string, string>>;
}

/** From the sinks that others may write to while the daemon runs: all but DuckDB. */
export async function loseWhileRunning(pipeline: RunningPipeline, rows: readonly LostRow[]): Promise<void> {
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
export async function loseFromFile(pipeline: RunningPipeline, rows: readonly LostRow[]): Promise<void> {
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
