import { createServer } from "node:net";
import { randomInt } from "node:crypto";

/**
 * Below the range from which Linux (32768) and macOS (49152) give ports to outgoing connections: a port given by the
 * system for "0" comes from that range, and some client could sit on it while a killed server is started again.
 */
const PORT_MIN = 15_000;
const PORT_MAX = 32_000;
const ATTEMPTS_MAX = 200;

/** A port on 127.0.0.1 that nobody listens on now, together with `count - 1` free ones right after it. */
export async function freePort(count = 1): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    const port = randomInt(PORT_MIN, PORT_MAX);
    if (await allFree(port, count)) return port;
  }
  throw new Error(`no free port found between ${PORT_MIN} and ${PORT_MAX} in ${ATTEMPTS_MAX} attempts`);
}

async function allFree(first: number, count: number): Promise<boolean> {
  for (let port = first; port < first + count; port += 1) {
    if (!(await isFree(port))) return false;
  }
  return true;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
