/** Puts planted faults (planted-rows.ts) into what the sinks hold, behind the product's back. */
import { rowIdOf } from "../../../src/core/model/row-id.ts";
import { COLUMNS, type Fault, rowOf } from "./planted-rows.ts";
import type { RunningPipeline } from "../daemon/running-pipeline.ts";
import { searchCall } from "../caches/search-rows.ts";
import { elasticsearchUrl } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";

/** `stale`: the version of rows that were not changed since they were copied. */
export function faultsInSql(table: string, faults: readonly Fault[], stale: string, inDuckdb = false): string {
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

export async function plantInCache(pipeline: RunningPipeline, table: string, faults: readonly Fault[], stale: string) {
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
export async function plantInIndex(pipeline: RunningPipeline, table: string, faults: readonly Fault[], stale: string) {
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
