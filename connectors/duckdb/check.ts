import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { Finding, GrantScript } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { shellWord } from "../../src/core/shell-word.ts";
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

/** The file's folder belongs to the user that the daemon runs as: DuckDB writes files beside the file. */
export function grants({ path }: Pick<DuckdbSinkOptions, "path">): readonly GrantScript[] {
  const folder = shellWord(dirname(path));
  const script = [
    "# In place of millrace: the user that the daemon runs as, and its group.",
    `install -d -m 0700 -o millrace -g millrace ${folder}`,
    `test ! -e ${shellWord(path)} || { chown millrace:millrace ${shellWord(path)} && chmod 0600 ${shellWord(path)}; }`,
  ];
  return [{ by: "root, on the daemon's machine", language: "sh", script: script.join("\n") }];
}
