import { Cron } from "croner";
import type { Clock } from "../core/clock.ts";
import { abortedError } from "../core/errors.ts";
import type { Logger } from "../core/contracts/telemetry.ts";

interface ScheduleParts {
  /** Cron, optionally with seconds first. */
  readonly cron: string;
  /** Null: the machine's time zone. */
  readonly timeZone: string | null;
  /** Runs one comparison to its end; its errors are logged. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  readonly clock: Pick<Clock, "now" | "sleep">;
  readonly logger: Logger;
}

/** How often to look at the clock: it may be set, and a machine may sleep. */
const LOOK_MS = 30_000;

/** Comparisons that follow each other by seconds take longer than that. */
const OVERDUE_MS_MIN = 120_000;

/** The next scheduled time; null: never. */
export function nextTime(schedule: Pick<ScheduleParts, "cron" | "timeZone">, nowMs: number): Date | null {
  return timesOf(schedule).nextRun(new Date(nowMs));
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
  { cron, timeZone, run, clock, logger }: ScheduleParts,
  signal: AbortSignal,
): Promise<never> {
  for (;;) {
    await untilNext({ cron, timeZone, clock, logger }, signal);
    try {
      await run(signal);
    } catch (error) {
      if (signal.aborted) throw abortedError(signal);
      logger.error({ error }, "the scheduled comparison failed");
    }
  }
}

async function untilNext(
  { clock, logger, ...schedule }: Omit<ScheduleParts, "run">,
  signal: AbortSignal,
): Promise<void> {
  let time = nextTime(schedule, clock.now());
  logger.info({ at: time?.toISOString() ?? "never" }, "the next comparison is scheduled");
  for (;;) {
    const leftMs = time === null ? LOOK_MS : time.getTime() - clock.now();
    if (leftMs <= 0) return;
    await clock.sleep(Math.min(leftMs, LOOK_MS), signal);
    const next = nextTime(schedule, clock.now());
    // The clock was set back.
    if (time !== null && next !== null && next < time) time = next;
  }
}
