import type { Finding } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { failed, ok } from "../kit/findings.ts";
import { findLog } from "./log/log.ts";
import type { FilesSettings } from "./settings.ts";

/** Preflight: reads, and changes nothing. */
export async function check({ store: open }: FilesSettings, signal: AbortSignal): Promise<readonly Finding[]> {
  const id = "files.path";
  try {
    await using store = await open();
    const found = await findLog(store, signal);
    const what =
      found === null ? "holds no changes yet" : `holds changes up to ${found.entry.head.checkpoint.position}`;
    return [ok(id, `${store.place} can be read, and ${what}`)];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [failed(id, known)];
  }
}
