import { setTimeout as sleep } from "node:timers/promises";
import { Cron } from "croner";
import { abortedError } from "../core/errors.ts";
import type { Logger } from "../core/contracts/telemetry.ts";

export interface ScheduleParts {
  /** Cron, optionally with seconds first. */
  readonly cron: string;
  /** Null: the machine's time zone. */
  readonly timeZone: string | null;
  /** Runs one comparison to its end; its errors are logged. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  readonly logger: Logger;
}

/** How often to look at the clock: it may be set, and a machine may sleep. */
const LOOK_MS = 30_000;

/** Comparisons that follow each other by seconds take longer than that. */
const OVERDUE_MS_MIN = 120_000;

/** The next scheduled time; null: never. */
export function nextTime({ cron, timeZone }: Pick<ScheduleParts, "cron" | "timeZone">): Date | null {
  return timesOf({ cron, timeZone }).nextRun();
}

/**
 * The first scheduled time after `began`, the start of the newest comparison that has ended, if the one after it has passed
 * too: then a whole interval went by without a comparison. Null: it has not.
 */
export function overdueSince(
  schedule: Pick<ScheduleParts, "cron" | "timeZone">,
  began: Date,
  nowMs: number,
): Date | null {
  const times = timesOf(schedule);
  const due = times.nextRun(began);
  const next = due === null ? null : times.nextRun(due);
  if (due === null || next === null) return null;
  return nowMs > Math.max(next.getTime(), due.getTime() + OVERDUE_MS_MIN) ? due : null;
}

function timesOf({ cron, timeZone }: Pick<ScheduleParts, "cron" | "timeZone">): Cron {
  return new Cron(cron, {
    paused: true,
    mode: "5-or-6-parts",
    ...(timeZone === null ? {} : { timezone: timeZone }),
  });
}

/**
 * Runs at each scheduled time, one run at a time, until `signal` aborts. A time that passes during a run is skipped.
 */
export async function followSchedule(
  { cron, timeZone, run, logger }: ScheduleParts,
  signal: AbortSignal,
): Promise<never> {
  const times = timesOf({ cron, timeZone });
  for (;;) {
    const next = times.nextRun();
    logger.info({ at: next?.toISOString() ?? "never" }, "the next comparison is scheduled");
    await untilTime(next, signal);
    try {
      await run(signal);
    } catch (error) {
      if (signal.aborted) throw abortedError(signal);
      logger.error({ error }, "the scheduled comparison failed");
    }
  }
}

async function untilTime(time: Date | null, signal: AbortSignal): Promise<void> {
  for (;;) {
    const leftMs = time === null ? LOOK_MS : time.getTime() - Date.now();
    if (leftMs <= 0) return;
    await sleep(Math.min(leftMs, LOOK_MS), undefined, { signal });
  }
}
