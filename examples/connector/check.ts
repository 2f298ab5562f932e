import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { dirname } from "node:path";
import type { Finding } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { readContents } from "./file.ts";
import type { JsonFileSettings } from "./sink.ts";

/** For `millrace check`: looks, changes nothing, and names the fix of what would fail. */
export async function check({ name, path }: JsonFileSettings, signal: AbortSignal): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = `jsonfile.file.${name}`;
  const folder = dirname(path);
  try {
    await access(folder, constants.W_OK);
  } catch {
    return [{ id, level: "error", what: `${folder} is missing or can't be written`, fix: `mkdir -p ${folder}` }];
  }
  try {
    const contents = await readContents(path);
    const what = contents === null ? `${path} will be made` : `${path} can be read`;
    return [{ id, level: "ok", what, fix: null }];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [{ id, level: "error", what: `${known.code}: ${known.message}`, fix: known.hint ?? null }];
  }
}
