import type { Finding } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { readLog } from "./log-file.ts";
import type { StreamFileSettings } from "./sink.ts";

/** For `millrace check`: looks, changes nothing, and names the fix of what would fail. */
export async function check({ name, path }: StreamFileSettings, signal: AbortSignal): Promise<readonly Finding[]> {
  signal.throwIfAborted();
  const id = `streamfile.file.${name}`;
  try {
    const { length } = await readLog(path);
    const what = length === 0 ? `${path} will be made` : `${path} can be read`;
    return [{ id, level: "ok", what, fix: null }];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [{ id, level: "error", what: `${known.code}: ${known.message}`, fix: known.hint ?? null }];
  }
}
