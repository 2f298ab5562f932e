/** Tells what a test file left open: sockets, listeners, pipes, child processes and threads that it never closed. */
import { setTimeout as delay } from "node:timers/promises";

const KINDS: Readonly<Record<string, string>> = {
  TCPSocketWrap: "TCP connection",
  TCPServerWrap: "TCP listener",
  TLSWrap: "TLS connection",
  PipeWrap: "pipe or Unix socket",
  PipeServerWrap: "Unix socket listener",
  ProcessWrap: "child process",
  MessagePort: "thread or message port",
  UDPWrap: "UDP socket",
  FSEventWrap: "file watcher",
};

/** What was just closed needs a moment to be gone. */
const GRACE_MS = 3_000;
const POLL_MS = 20;

export type OpenCounts = ReadonlyMap<string, number>;

/** What keeps this process alive now, by kind. */
export function countOpen(): OpenCounts {
  const counts = new Map<string, number>();
  openStandardStreams();
  for (const kind of process.getActiveResourcesInfo()) {
    if (kind in KINDS) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return counts;
}

/** Node opens its own pipes when they are first asked for, as some modules do on import: they count as there before. */
function openStandardStreams(): number {
  return [process.stdin, process.stdout, process.stderr].length;
}

/** Throws when more is open than before and stays so. */
export async function expectNothingLeftOpen(before: OpenCounts): Promise<void> {
  const deadline = performance.now() + GRACE_MS;
  for (;;) {
    const left = surplus(before, countOpen());
    if (left.length === 0) return;
    if (performance.now() >= deadline) throw new Error(`the tests of this file left open: ${left.join(", ")}`);
    await delay(POLL_MS);
  }
}

function surplus(before: OpenCounts, after: OpenCounts): string[] {
  return [...after].flatMap(([kind, count]) => {
    const more = count - (before.get(kind) ?? 0);
    return more > 0 ? [`${more} × ${KINDS[kind]}`] : [];
  });
}
