import { DuckDBInstance } from "@duckdb/node-api";
import { EngineProcess } from "../kit/duckdb-engine/engine-process.ts";
import type { Engine, EngineOptions } from "../kit/duckdb-engine/engine.ts";

/** `inOwnProcess`: in a process of its own, which may end without ending this one (decision 36). */
export async function openEngine(path: string, options: EngineOptions, inOwnProcess: boolean): Promise<Engine> {
  if (inOwnProcess) return await EngineProcess.open(path, options);
  const instance = await DuckDBInstance.create(path, options);
  return { connect: () => instance.connect(), close: async () => instance.closeSync() };
}
