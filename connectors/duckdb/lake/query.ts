import { existsSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";
import type { QueryRequest, QueryResult } from "../../../src/core/contracts/sink.ts";
import { classify, duckdbError } from "../errors.ts";
import { runQuery } from "../inspect/query.ts";
import { quoteIdentifier, quoteLiteral } from "../names.ts";
import { attachLake, engineOptions, isNoLake, LAKE, type LakeSettings } from "./engine.ts";
import { untilUnmoved } from "./moved.ts";
import { shownCatalog } from "./place.ts";

/** Runs a query in an engine of its own, beside the daemon's. The statement can access no files but the lake's. */
export async function queryLake(
  settings: LakeSettings,
  request: QueryRequest,
  signal: AbortSignal,
): Promise<QueryResult> {
  return await untilUnmoved(() => queryOnce(settings, request, signal));
}

async function queryOnce(settings: LakeSettings, request: QueryRequest, signal: AbortSignal): Promise<QueryResult> {
  const { place } = settings;
  if (place.kind !== "postgres" && !existsSync(place.catalog)) throw noLake(settings);
  const instance = await DuckDBInstance.create(":memory:", engineOptions(settings));
  try {
    await attachLake(instance, settings, "read").catch((error: unknown) => {
      throw isNoLake(error) ? noLake(settings) : classify(error, "opening the lake");
    });
    const setting = await instance.connect();
    await setting.run(`SET allowed_directories = [${quoteLiteral(place.data)}]`);
    if (place.kind !== "postgres") {
      const files = ["", "-wal", "-shm", "-journal", ".wal"].map((end) => quoteLiteral(place.catalog + end));
      await setting.run(`SET allowed_paths = [${files.join(", ")}]`);
    }
    await setting.run("SET enable_external_access = false");
    setting.disconnectSync();
    // In no transaction: where DuckDB gives up an instance, an open one of a lake takes the process with it.
    const connect = async () => {
      const connection = await instance.connect();
      await connection.run(`SET TimeZone = 'UTC'; USE ${quoteIdentifier(LAKE)}`);
      return connection;
    };
    return await runQuery(connect, request, signal);
  } finally {
    instance.closeSync();
  }
}

function noLake({ place }: LakeSettings): Error {
  return duckdbError("MR3203", "fatal", `there is no lake ${shownCatalog(place)} yet`, {
    hint: "start `millrace run`: it creates and fills the lake",
  });
}
