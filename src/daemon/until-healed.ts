/** A daemon outlasts what can heal without it: while a server of its own is away it waits, and begins again. */
import { storedErrorOf } from "../core/contracts/state-store.ts";
import type { Config } from "../config/config.ts";
import { type Clock, scopeOf, timestamp } from "../core/clock.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { findMillraceError, type MillraceError, withLogin } from "../core/errors.ts";
import { isTriedAgain, ReconnectBackoff } from "../runtime/retry.ts";
import { STATE_REPLACED } from "../state/errors.ts";
import { endsStopped } from "./held-state.ts";
import { notifierOf } from "./notifying.ts";
import { type Obstacle, serveWaiting, waitingStatus } from "./serving.ts";

const WAIT_MS_MAX = 4_000;
/** A run that lasted so long made progress: what ends it now is another failure. */
const LASTED_MS = 60_000;
/** Of an address that another process listens on: a daemon that can't be asked would wait unseen. */
const UNSEEN = "MR1154";
/** Without an answer a run ends before its lease does, whatever comes later: the next one takes a lease of its own. */
const STATE_AWAY = "MR1215";

interface HealingParts {
  readonly config: Config;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly redact: (json: string) => string;
  /** What `run` starts tells the webhook of itself alone: the end of a wait is told here. */
  readonly tellsEnds?: boolean;
}

/**
 * Runs again after each failure that may pass. In between, and until `run` calls `serves`, the admin address and the webhook
 * say what the process waits for.
 */
export async function untilHealed(
  parts: HealingParts,
  run: (serves: () => Promise<void>) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { config, clock, logger, redact, tellsEnds = false } = parts;
  const backoff = new ReconnectBackoff(clock, WAIT_MS_MAX);
  const notifying = new WaitingNotices(parts);
  let waiting: AsyncDisposable | null = null;
  const endWaiting = async (): Promise<void> => {
    const ends = waiting;
    waiting = null;
    await ends?.[Symbol.asyncDispose]();
  };
  let said = "";
  let since: string | null = null;
  const serves = async (): Promise<void> => {
    said = "";
    since = null;
    if (tellsEnds) notifying.tell(null);
    else await notifying.end();
    await endWaiting();
  };
  try {
    for (;;) {
      const begunMs = clock.elapsed();
      try {
        await run(serves);
        return;
      } catch (error) {
        if (endsStopped(error, logger, signal)) return;
        const found = findMillraceError(error);
        if (found === undefined) throw error;
        const known = found.connector?.side === "source" ? withLogin(found, config.source.login) : found;
        if (!mayHeal(known)) throw error;
        if (clock.elapsed() - begunMs > LASTED_MS) backoff.reset();
        if (known.message !== said) logger.warn({ code: known.code, error }, `millrace waits: ${known.message}`);
        said = known.message;
        await endWaiting();
        const at = timestamp(clock);
        const waitsFor = { error: storedErrorOf(known, at, (since ??= at)), needsPerson: known.kind === "blocked" };
        waiting = await serveWaiting(config, { ...waitsFor, redact, logger });
        notifying.tell(waitsFor);
      }
      await clock.sleep(backoff.next(), signal).catch(() => {});
      if (signal.aborted) return;
    }
  } finally {
    await notifying.end();
    await endWaiting();
  }
}

/** What the webhook is told while the process waits: what `status` says then. */
class WaitingNotices {
  readonly #parts: HealingParts;
  #waitsFor: Obstacle | null = null;
  #end: (() => Promise<void>) | null = null;

  constructor(parts: HealingParts) {
    this.#parts = parts;
  }

  /** Null: it waits no more. */
  tell(waitsFor: Obstacle | null): void {
    this.#waitsFor = waitsFor;
    this.#end ??= this.#begin();
  }

  async end(): Promise<void> {
    const end = this.#end;
    this.#end = null;
    await end?.();
  }

  #begin(): () => Promise<void> {
    const { config, redact, logger } = this.#parts;
    const notifier = notifierOf(config, { notices: null, redact, logger });
    const scope = scopeOf();
    const looked = async () => ({
      conditions: this.#waitsFor === null ? [] : waitingStatus(config, this.#waitsFor).conditions,
      isWhole: false,
    });
    const running = notifier?.run(looked, scope.signal).catch(() => undefined);
    return async () => {
      scope.end();
      await running;
    };
  }
}

/** Whether a process that is to stay waits over this error, and runs again. */
export function mayHeal(error: MillraceError): boolean {
  if (error.code === STATE_AWAY || error.code === STATE_REPLACED || error.reason === "passing") return true;
  return isTriedAgain(error) && error.code !== UNSEEN;
}
