import { constants, existsSync } from "node:fs";
import { access } from "node:fs/promises";
import { dirname } from "node:path";
import type { Finding, GrantScript } from "../../src/core/contracts/connector.ts";
import { shellWord } from "../../src/core/shell-word.ts";
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

/** The file's folder belongs to the user that the daemon runs as: SQLite writes its log beside the file. */
export function grants({ path }: Pick<SqliteSinkOptions, "path">): readonly GrantScript[] {
  const folder = shellWord(dirname(path));
  const script = [
    "# In place of millrace: the user that the daemon runs as, and its group.",
    `install -d -m 0700 -o millrace -g millrace ${folder}`,
    `test ! -e ${shellWord(path)} || { chown millrace:millrace ${shellWord(path)} && chmod 0600 ${shellWord(path)}; }`,
  ];
  return [{ by: "root, on the daemon's machine", language: "sh", script: script.join("\n") }];
}
