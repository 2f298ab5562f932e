import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** `sun_path` holds 108 bytes with the closing zero on Linux, 104 on macOS. */
const SOCKET_PATH_BYTES_MAX = 100;

/**
 * Where a daemon listens for its CLI: beside its state (for a state on a server, the path at the end of the URL), or in
 * the temporary folder if that path is too long.
 */
export function controlSocketPath(stateUrl: string): string {
  const path = `${stateUrl.replace(/^(sqlite:|[^#]*#)/, "")}.sock`;
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return path;
  const hash = createHash("sha256").update(path).digest("hex").slice(0, 32);
  return join(tmpdir(), `millrace-${hash}.sock`);
}
