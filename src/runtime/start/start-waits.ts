import { type Clock, timestamp } from "../../core/clock.ts";
import { findMillraceError, type Login, withLogin } from "../../core/errors.ts";
import { invariant } from "../../core/invariant.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { ChangeLog } from "../../core/contracts/change-log.ts";
import type { Source } from "../../core/contracts/source.ts";
import {
  hasIdentity,
  type StartedRecord,
  type StateStore,
  type StoredError,
  storedErrorOf,
} from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { streamLost } from "../errors.ts";
import { ANYWHERE, mayHoldMore } from "../sink/sink-position.ts";
import { forecastSink, heldForecast } from "./sink-forecast.ts";
import { isTriedAgain, kindOf, PROBE_MS_MAX, ReconnectBackoff } from "../retry.ts";

/** Why the source does not let a start continue yet. */
export interface StartObstacle {
  readonly error: StoredError;
  readonly needsPerson: boolean;
}

/** A start that waits, and who is told. */
export interface WaitingStart {
  readonly clock: Clock;
  /** See `PipelineParts`. */
  readonly inVainMsMax: number;
  /** See `withLogin`. */
  readonly login?: Login | null | undefined;
  /** See `PipelineParts`. */
  readonly isOnce?: boolean | undefined;
  readonly logger: Logger;
  /** Null: it goes on. */
  readonly onWithheld: (withheld: StartObstacle | null) => void;
}

interface GrantParts extends WaitingStart {
  readonly source: Pick<Source, "admin" | "log">;
  readonly state: StateStore;
  readonly sinks: readonly Sink[];
}

/** Works until it succeeds, or fails in a way that does not pass. */
export async function whenAnswered<T>(
  { clock, inVainMsMax, login, isOnce, logger, onWithheld }: WaitingStart,
  work: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  // The one who is awaited may be started at any moment, together with this daemon.
  const backoff = new ReconnectBackoff(clock, PROBE_MS_MAX);
  const since = timestamp(clock);
  const sinceMs = clock.elapsed();
  let said = "";
  for (;;) {
    try {
      const done = await work();
      onWithheld(null);
      return done;
    } catch (error) {
      const known = findMillraceError(error);
      if (signal.aborted || isOnce === true || known === undefined || !isTriedAgain(known)) throw error;
      if (known.message !== said) logger.warn({ error }, `the start waits: ${known.message}`);
      said = known.message;
      const needsPerson = known.kind === "blocked" || clock.elapsed() - sinceMs > inVainMsMax;
      onWithheld({ error: storedErrorOf(withLogin(known, login), timestamp(clock), since), needsPerson });
    }
    await clock.sleep(backoff.next(), signal);
  }
}

/**
 * Waits until no other process reads the source's log, and the source lets this daemon continue in it. Invariant: this
 * happens before any sink is touched. Opening a sink takes it over, and this process may be one that was started on a copy
 * of the state, beside the daemon that owns it. If the source can't be reached now, the stream asks it later.
 */
export async function untilGranted(parts: GrantParts, signal: AbortSignal): Promise<void> {
  const { clock, source, inVainMsMax, login, logger, onWithheld } = parts;
  const backoff = new ReconnectBackoff(clock);
  const since = timestamp(clock);
  for (;;) {
    const error = await withheld(parts, signal);
    if (error === null || !(await answers(source.log, signal))) break;
    logger.warn({ error }, "another process reads the source's log; no sink is touched");
    const waitMs = backoff.next();
    const needsPerson = kindOf(error) === "blocked" || backoff.waitedMs > inVainMsMax;
    const known = withLogin(findMillraceError(error) ?? streamLost(error), login);
    onWithheld({ error: storedErrorOf(known, timestamp(clock), since), needsPerson });
    await clock.sleep(waitMs, signal);
  }
  onWithheld(null);
  await tried(() => resume(parts, signal), signal);
}

async function withheld({ source, state }: GrantParts, signal: AbortSignal): Promise<unknown> {
  const { identity } = await stored(state);
  // A process that reads the log now may still change these answers.
  return await tried(async () => await source.admin.expectFree?.(identity, signal), signal);
}

async function resume({ clock, source, state, sinks }: GrantParts, signal: AbortSignal): Promise<void> {
  const record = await stored(state);
  const forecasts = await Promise.all(sinks.map((sink) => forecastSink({ clock, sink, state }, record, signal)));
  const held = heldForecast(record, forecasts);
  invariant(held !== null, "a running source has an origin");
  const mayReach = (await mayHoldMore(sinks, state.bonds)) ? ANYWHERE : null;
  await state.source.identify(await source.admin.resume(record.identity, { ...held, mayReach }, signal));
}

async function stored(state: StateStore): Promise<StartedRecord> {
  const record = await state.source.get();
  invariant(record !== null && hasIdentity(record), "a running source has an identity");
  return record;
}

async function answers(log: ChangeLog, signal: AbortSignal): Promise<boolean> {
  return (await tried(() => log.tip(signal), signal)) === null;
}

/** The error, if it may pass; any other error is thrown. */
async function tried(work: () => Promise<unknown>, signal: AbortSignal): Promise<unknown> {
  try {
    await work();
    return null;
  } catch (error) {
    signal.throwIfAborted();
    if (!isTriedAgain(error)) throw error;
    return error;
  }
}
