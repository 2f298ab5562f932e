/**
 * Each of two processes with a channel between them finds out when the other one does not run any more, or is stopped. What
 * counts is how often it was asked in vain: a process that was stopped itself has not asked.
 */
import type { Clock } from "../core/clock.ts";

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
