/** Rows of `public.orders (id, n, body)` changed in the sinks by hand: values, versions beyond any log, rows that nobody wrote. */
import { join } from "node:path";
import { runInFile } from "../warehouses/duckdb-file.ts";
import type { RunningPipeline } from "../daemon/running-pipeline.ts";
import { searchCall } from "../caches/search-rows.ts";
import { elasticsearchUrl } from "../run/services.ts";

const BEYOND = "9223372036854775807";

/** The daemon must not run: nobody else may hold the DuckDB file. */
export async function spoilRows(pipeline: RunningPipeline): Promise<void> {
  const statements = [
    `update public.orders set n = -1, _millrace_version = ${BEYOND} where id = 1`,
    "update public.orders set n = -2 where id = 2",
    "delete from public.orders where id = 3",
    `insert into public.orders (id, n, body, _millrace_version, _millrace_commit_time)
       values (1001, 0, 'nobody', ${BEYOND}, now()), (1002, 0, 'nobody', 1, now())`,
  ].join("; ");
  await pipeline.sinks.target?.query(statements);
  await runInFile(join(pipeline.installation.folder, "warehouse.duckdb"), statements);
  await spoilKeys(pipeline);
  await spoilDocuments(pipeline);
}

async function spoilKeys(pipeline: RunningPipeline): Promise<void> {
  using cache = pipeline.cache();
  const key = (id: number) => `${pipeline.sinks.keyPrefix}public:orders:${id}`;
  await cache.hset(key(1), "n", "-1", "_millrace_version", BEYOND);
  await cache.hset(key(2), "n", "-2");
  await cache.del(key(3));
  await cache.hset(key(1001), "id", "1001", "n", "0", "_millrace_version", BEYOND);
  await cache.hset(key(1002), "id", "1002", "n", "0");
}

async function spoilDocuments(pipeline: RunningPipeline): Promise<void> {
  const at = `/${pipeline.sinks.indexPrefix}public.orders/_doc`;
  const far = `version=${BigInt(BEYOND) - 1n}&version_type=external`;
  const put = async (path: string, n: number) => {
    const { status, text } = await searchCall(elasticsearchUrl(), "PUT", `${at}/${path}`, JSON.stringify({ id: 1, n }));
    if (status > 201) throw new Error(text);
  };
  await put(`1?${far}`, -1);
  await put("2", -2);
  await searchCall(elasticsearchUrl(), "DELETE", `${at}/3`);
  await put(`1001?${far}`, 0);
}
