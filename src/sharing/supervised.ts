/** A daemon that a supervisor has started ends with it, so that nothing goes on writing that nobody looks after. */
import { type Clock, type Scope, scopeOf } from "../core/clock.ts";
import type { Logger } from "../core/contracts/telemetry.ts";

/** As long as the group waits for a member: then others are given its shares. */
const SILENT_SECONDS_MAX = 10;

/** A process, as its parent sees it. */
export interface Supervisable {
  /** Undefined: nobody listens. */
  readonly send?: ((message: string, sent: () => void) => unknown) | undefined;
  on(event: "message", heard: () => void): unknown;
  off(event: "message", heard: () => void): unknown;
  once(event: "disconnect", work: () => void): unknown;
}

interface SupervisedParts {
  readonly process: Supervisable;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Aborted with `signal`, and when the supervisor is gone or silent. Null: no supervisor has started this process. */
export function underSupervisor({ process, clock, logger }: SupervisedParts, signal: AbortSignal): Scope | null {
  if (process.send === undefined) return null;
  const scope = scopeOf(signal);
  const end = (why: string): void => {
    if (scope.signal.aborted) return;
    logger.warn({ why }, "the process that has this share is gone; its daemon ends");
    scope.end();
  };
  process.once("disconnect", () => end("its channel is closed"));
  const answer = (): void => void process.send?.("!", () => undefined);
  process.on("message", answer);
  answer();
  void untilSilent(process, { clock, silentCountMax: SILENT_SECONDS_MAX }, scope.signal).then(() =>
    end("it is silent"),
  );
  return scope;
}

/**
 * Each of two processes with a channel between them finds out when the other one does not run any more, or is stopped. What
 * counts is how often it was asked in vain: a process that was stopped itself has not asked.
 */
const ASK_MS = 1_000;

interface Channel {
  on(event: "message", heard: () => void): unknown;
  off(event: "message", heard: () => void): unknown;
}

interface PulseOptions {
  readonly clock: Clock;
  /** How many seconds of silence are too many. */
  readonly silentCountMax: number;
  /** Asks the other side; absent: it asks by itself. */
  readonly ask?: () => void;
}

/** Resolves when the other side is silent for too long, or when aborted. */
export async function untilSilent(
  channel: Channel,
  { clock, silentCountMax, ask }: PulseOptions,
  signal: AbortSignal,
): Promise<void> {
  let silentCount = 0;
  const heard = (): void => void (silentCount = 0);
  channel.on("message", heard);
  try {
    while (silentCount < silentCountMax) {
      ask?.();
      silentCount++;
      await clock.sleep(ASK_MS, signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    channel.off("message", heard);
  }
}
