import { constants, existsSync } from "node:fs";
import { access } from "node:fs/promises";
import { dirname } from "node:path";
import type { Finding } from "../../src/core/contracts/connector.ts";
import { classify, notOurs } from "./errors.ts";
import { openExisting, openForReading, rowsOf, unlessBusy } from "./file.ts";
import type { SqliteSinkOptions } from "./sink.ts";

/** Checks the folder and, if the file exists, opens it; creates nothing. */
export async function checkFile({ name, path }: SqliteSinkOptions, signal: AbortSignal): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = `sqlite.file.${name}`;
  const folder = dirname(path);
  try {
    await access(folder, constants.W_OK);
  } catch {
    return [{ id, level: "error", what: `${folder} is missing or can't be written`, fix: `mkdir -p ${folder}` }];
  }
  if (!existsSync(path)) return [{ id, level: "ok", what: `${path} will be made`, fix: null }];
  try {
    await access(path, constants.W_OK);
    await unlessBusy(signal, () => expectUsable(path));
    return [{ id, level: "ok", what: `${path} can be opened`, fix: null }];
  } catch (error) {
    const known = classify(error, "opening the file", path);
    return [{ id, level: "error", what: `${known.code}: ${known.message}`, fix: known.hint ?? null }];
  }
}

function expectUsable(path: string): void {
  using ours = openExisting(path);
  if (ours !== null) return;
  using other = openForReading(path);
  if (rowsOf(other, "SELECT 1 FROM sqlite_schema LIMIT 1").length > 0) throw notOurs(path);
}
