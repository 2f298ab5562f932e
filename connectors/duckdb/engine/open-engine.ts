import { DuckDBInstance } from "@duckdb/node-api";
import type { Engine, EngineOptions } from "./engine.ts";
import { EngineProcess } from "./engine-process.ts";

/** `inOwnProcess`: in a process of its own, which may end without ending this one (decision 36). */
export async function openEngine(path: string, options: EngineOptions, inOwnProcess: boolean): Promise<Engine> {
  if (inOwnProcess) return await EngineProcess.open(path, options);
  const instance = await DuckDBInstance.create(path, options);
  return { connect: () => instance.connect(), close: async () => instance.closeSync() };
}
