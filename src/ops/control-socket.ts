import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** `sun_path` holds 108 bytes with the closing zero on Linux, 104 on macOS. */
const SOCKET_PATH_BYTES_MAX = 100;

/** For a state on a server, beside the path at the end of the URL. */
export function besideState(stateUrl: string, ending: string): string {
  return `${stateUrl.replace(/^(sqlite:|[^#]*#)/, "")}.${ending}`;
}

/**
 * Where a daemon listens for its CLI: beside its state, or in the temporary folder if that path is too long.
 */
export function controlSocketPath(stateUrl: string): string {
  const path = besideState(stateUrl, "sock");
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return path;
  const hash = createHash("sha256").update(path).digest("hex").slice(0, 32);
  return join(tmpdir(), `millrace-${hash}.sock`);
}
