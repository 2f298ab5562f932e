/** The daemon of one share as a process of its own: whatever happens to it, the other shares go on. */
import type { ChildProcess } from "node:child_process";
import { type EventEmitter, once } from "node:events";
import { type Clock, pause, scopeOf } from "../core/clock.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { untilSilent } from "./supervised.ts";

/** A daemon that does not turn its event loop for so long hangs, or was stopped. */
const SILENT_SECONDS_MAX = 30;
/** For a stop in order: to finish a batch, and to give the lease back. */
const STOP_MS_MAX = 25_000;
const FIRST_PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 60_000;
/** A daemon that has run for so long did not fail at its start. */
const STEADY_MS = 60_000;

/** What is asked of the process. */
export interface ShareChild extends EventEmitter, Pick<ChildProcess, "pid" | "exitCode" | "signalCode"> {
  kill(signal: "SIGTERM" | "SIGKILL"): unknown;
  send(message: string, sent: () => void): unknown;
}

interface ShareProcessParts {
  readonly number: number;
  /** Starts it, with a channel. */
  readonly start: () => ShareChild;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Runs it until aborted, and starts it again when it ends, with growing pauses. Also over an error that needs a person: once
 * the person has done what it takes, the share goes on by itself.
 */
export async function keepShareRunning(parts: ShareProcessParts, signal: AbortSignal): Promise<void> {
  const { number: share, clock, logger } = parts;
  let failureCount = 0;
  while (!signal.aborted) {
    const startedMs = clock.elapsed();
    const ended = await runShare(parts, signal);
    if (signal.aborted) return;
    if (clock.elapsed() - startedMs > STEADY_MS) failureCount = 0;
    const pauseMs = Math.min(PAUSE_MS_MAX, FIRST_PAUSE_MS * 2 ** failureCount++);
    logger.warn({ share, ...ended, pauseMs }, "the daemon of a share has ended; it is started again");
    await pause(clock, pauseMs, signal);
  }
}

interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** To its end. When aborted, it is stopped in order. */
async function runShare(
  { number: share, start, clock, logger }: ShareProcessParts,
  signal: AbortSignal,
): Promise<Ended> {
  const child = start();
  // The exit tells of it too.
  child.on("error", (error) => logger.warn({ share, error }, "the daemon of a share can't be reached"));
  const exit = once(child, "exit").catch(() => undefined);
  using over = scopeOf();
  void exit.then(() => over.end());
  const stop = (): void => {
    child.kill("SIGTERM");
    void pause(clock, STOP_MS_MAX, over.signal).then(() => child.kill("SIGKILL"));
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const ask = (): void => void child.send("?", () => undefined);
  // Many daemons that start at once on few cores take their time before the first sign of life.
  child.once("message", () => {
    void untilSilent(child, { clock, silentCountMax: SILENT_SECONDS_MAX, ask }, over.signal).then(() => {
      if (over.signal.aborted) return;
      logger.error({ share, pid: child.pid }, "the daemon of a share does not answer; it is ended");
      child.kill("SIGKILL");
    });
  });
  await exit;
  signal.removeEventListener("abort", stop);
  return { exitCode: child.exitCode, signal: child.signalCode };
}
