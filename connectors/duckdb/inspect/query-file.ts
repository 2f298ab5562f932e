/** Runs queries on a file that no daemon has open, or on a copy (copy-file.ts). */
import { existsSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import type { QueryRequest, QueryResult } from "../../../src/core/contracts/sink.ts";
import type { DatabaseSettings } from "../file/database.ts";
import { classify, duckdbError } from "../errors.ts";
import { runQuery } from "./query.ts";

export async function queryFile(
  { path, memoryLimit, threads }: DatabaseSettings,
  request: QueryRequest,
  copy: string | null,
  signal: AbortSignal,
): Promise<QueryResult> {
  expectFile(path);
  const instance = await openedOnce({ path, memoryLimit, threads }, copy);
  try {
    return await runQuery(
      async () => {
        const connection = await instance.connect();
        await connection.run("SET TimeZone = 'UTC'; BEGIN TRANSACTION READ ONLY");
        return connection;
      },
      request,
      signal,
    );
  } finally {
    instance.closeSync();
  }
}

/** Removes the copy's name once it is open: so nothing is left, even if this process is killed. */
async function openedOnce(
  { path, memoryLimit, threads }: DatabaseSettings,
  copy: string | null,
): Promise<DuckDBInstance> {
  try {
    return await openedReading(copy ?? path, memoryLimit, threads);
  } finally {
    if (copy !== null) rmSync(dirname(copy), { recursive: true, force: true });
  }
}

/** Asking must not create the file. */
export function expectFile(path: string): void {
  if (existsSync(path)) return;
  throw duckdbError("MR3203", "fatal", `there is no DuckDB file ${path} yet`, {
    hint: "start `millrace run`: it creates and fills the file",
  });
}

export async function openedReading(path: string, memoryLimit: string, threads: number): Promise<DuckDBInstance> {
  try {
    return await DuckDBInstance.create(path, {
      access_mode: "READ_ONLY",
      enable_external_access: "false",
      memory_limit: memoryLimit,
      threads: String(threads),
      autoinstall_known_extensions: "false",
      autoload_known_extensions: "false",
    });
  } catch (error) {
    throw classify(error, "opening the file");
  }
}
