import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Finding } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { Database } from "./file/database.ts";
import type { DuckdbSinkOptions } from "./sink.ts";

/** Checks the folder and, if the file exists, opens it; creates nothing. */
export async function checkFile(options: DuckdbSinkOptions, signal: AbortSignal): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = `duckdb.file.${options.name}`;
  const folder = dirname(options.path);
  try {
    await access(folder, constants.W_OK);
  } catch {
    return [{ id, level: "error", what: `${folder} is missing or can't be written`, fix: `mkdir -p ${folder}` }];
  }
  const found = await stat(options.path).catch(() => undefined);
  if (found === undefined) return [{ id, level: "ok", what: `${options.path} will be made`, fix: null }];
  try {
    const database = await Database.acquire(options);
    await database.release();
    return [{ id, level: "ok", what: `${options.path} can be opened`, fix: null }];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [{ id, level: "error", what: `${known.code}: ${known.message}`, fix: known.hint ?? null }];
  }
}
