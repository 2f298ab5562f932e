import type { Finding } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { failed, ok, warning } from "../kit/findings.ts";
import { READ_AGAIN } from "./errors.ts";
import { expectOwn, findLog, type FoundLog } from "./log/log.ts";
import { Holes, holeText } from "./publish/holes.ts";
import type { FilesSettings } from "./sink.ts";
import type { Store } from "./store/store.ts";

const LOOKED_AT_MAX = 10_000;

/** Preflight: reads, and changes nothing. */
export async function check(
  { store: open, keepMs, daemon, name: sink }: FilesSettings,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const id = "files.path";
  try {
    await using store = await open();
    const found = await findLog(store, signal);
    if (found !== null) expectOwn(found.entry.head, { daemon, sink }, store.location);
    const what =
      found === null ? "holds no changes yet" : `holds changes up to ${found.entry.head.checkpoint.position}`;
    const findings = [ok(id, `${store.location} can be read, and ${what}`), ...(await store.rules(signal))];
    return found === null ? findings : [...findings, ...(await holesIn(store, found, keepMs !== null, signal))];
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    return [failed(id, known)];
  }
}

async function holesIn(
  store: Store,
  { entry }: FoundLog,
  keeps: boolean,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const holes = await new Holes(keeps).look(store, entry.head.manifest.number, LOOKED_AT_MAX, signal);
  return holes.map((hole) => warning("files.manifests", `MR3110: ${holeText(hole)}`, READ_AGAIN));
}
