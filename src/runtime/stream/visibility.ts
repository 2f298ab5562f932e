import type { Clock } from "../../core/clock.ts";
import { EVERYTHING_VISIBLE, type Visibility, type Watermarks } from "../../core/contracts/watermarks.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { FanOut } from "./fan-out.ts";
import { kindOf, ReconnectBackoff } from "../retry.ts";

interface VisibilityParts {
  readonly clock: Clock;
  readonly watermarks: Watermarks;
  readonly fanOut: FanOut;
  readonly logger: Logger;
}

const INTERVAL_MS = 1_000;

/**
 * Asks for the transactions that an earlier process may have delivered while other sessions did not see them yet. Rows read
 * beside the stream must wait for those too.
 */
export async function noteEarlierDeliveries(parts: VisibilityParts, signal: AbortSignal): Promise<void> {
  const { clock, watermarks, fanOut, logger } = parts;
  const backoff = new ReconnectBackoff(clock);
  for (;;) {
    try {
      const { committing } = await visibility(watermarks, signal);
      fanOut.delivered.addEarlier(committing);
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (kindOf(error) === "fatal") throw error;
      logger.warn({ error }, "the source did not tell its transactions; the next attempt follows");
      await clock.sleep(backoff.next(), signal);
    }
  }
}

/** Keeps the list of delivered transactions short that may not be visible yet. */
export async function forgetVisible(
  { clock, watermarks, fanOut, logger }: VisibilityParts,
  signal: AbortSignal,
): Promise<never> {
  for (;;) {
    await clock.sleep(INTERVAL_MS, signal);
    if (!fanOut.delivered.isUnproven) continue;
    const { mark } = fanOut.delivered;
    try {
      const { sees } = await visibility(watermarks, signal);
      fanOut.forgetVisible(mark, sees);
    } catch (error) {
      signal.throwIfAborted();
      logger.debug({ error }, "the source did not tell which transactions are visible");
    }
  }
}

async function visibility(watermarks: Watermarks, signal: AbortSignal): Promise<Visibility> {
  return (await watermarks.visibility?.(signal)) ?? EVERYTHING_VISIBLE;
}
