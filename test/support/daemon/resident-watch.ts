/** The most memory that a daemon has had. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Daemon } from "./daemon-process.ts";

const WATCH_EVERY_MS = 20;

export interface ResidentWatch extends AsyncDisposable {
  readonly mostBytes: number;
}

/** Looks at the daemon's memory all the time until it is let go. */
export function residentWatch(daemon: Daemon): ResidentWatch {
  let mostBytes = 0;
  const stopping = new AbortController();
  const watching = (async () => {
    while (!stopping.signal.aborted && !daemon.exited) {
      mostBytes = Math.max(mostBytes, daemon.residentBytes);
      await sleep(WATCH_EVERY_MS);
    }
  })();
  return {
    get mostBytes() {
      return mostBytes;
    },
    [Symbol.asyncDispose]: async () => {
      stopping.abort();
      await watching;
    },
  };
}
