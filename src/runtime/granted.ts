import { setTimeout as sleep } from "node:timers/promises";
import { findMillraceError } from "../core/errors.ts";
import { invariant } from "../core/invariant.ts";
import type { Sink } from "../core/sink.ts";
import type { Source } from "../core/source.ts";
import type { StateStore, StoredError } from "../core/state-store.ts";
import type { Logger } from "../core/telemetry.ts";
import { streamLost } from "./errors.ts";
import { foresee, heldForeseen } from "./foreseen.ts";
import { isTriedAgain, kindOf, ReconnectBackoff } from "./retry.ts";

export interface GrantParts {
  readonly source: Source;
  readonly state: StateStore;
  readonly sinks: readonly Sink[];
  /** See `PipelineParts`. */
  readonly inVainMsMax: number;
  readonly logger: Logger;
}

/** Why the source does not let a start go on yet. */
export interface Withheld {
  readonly error: StoredError;
  readonly needsPerson: boolean;
}

/**
 * Until the source lets this daemon go on in its log, and nobody else reads it. Invariant: before any sink is touched: whoever
 * opens one takes it over, and a copy of a state may be started beside the daemon that goes on with the state itself.
 */
export async function untilGranted(
  { source, state, sinks, inVainMsMax, logger }: GrantParts,
  onWithheld: (withheld: Withheld | null) => void,
  signal: AbortSignal,
): Promise<void> {
  const backoff = new ReconnectBackoff();
  for (;;) {
    try {
      const record = await state.source.get();
      invariant(record?.identity != null, "a running source has an identity");
      // Who reads it now may still move what the next questions are about.
      await source.expectFree?.("again", signal);
      const foreseen = await Promise.all(sinks.map((sink) => foresee(sink, state, record, signal)));
      const held = heldForeseen(record, foreseen);
      invariant(held !== null, "a running source has an origin");
      await state.source.identify(await source.resume(record.identity, held, signal));
      onWithheld(null);
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (!isTriedAgain(error)) throw error;
      logger.warn({ error }, "the source does not let this daemon go on yet; no sink is touched");
      const waitMs = backoff.next();
      const { code, message, hint } = findMillraceError(error) ?? streamLost(error);
      const needsPerson = kindOf(error) === "blocked" || backoff.waitedMs > inVainMsMax;
      onWithheld({ error: { code, message, hint: hint ?? null, at: new Date().toISOString() }, needsPerson });
      await sleep(waitMs, undefined, { signal });
    }
  }
}
