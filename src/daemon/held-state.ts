/** The state of one run: opened, waited for, under a lease that is renewed elsewhere (`keepLease`), and closed at the end. */
import { type Clock, timestamp } from "../core/clock.ts";
import { findMillraceError, isAborted, type MillraceError } from "../core/errors.ts";
import { type StateStore, type StoredError, storedErrorOf } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { STATE_REPLACED } from "../state/errors.ts";
import { patient } from "../state/patient.ts";
import { redacting } from "../state/redacting.ts";
import { awaitLease, holderName, isGone, releaseLease, takeLease, throughMoves } from "./lease.ts";

interface HoldingParts {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Removes secrets from the texts of a JSON document. */
  readonly redact: (json: string) => string;
  readonly open: () => Promise<StateStore>;
  /** Tests inject faults there. */
  readonly wrap?: ((state: StateStore) => StateStore) | undefined;
  /** Waits while another process holds the lease. Default: that is an error. */
  readonly awaitsLease?: boolean;
  /** After this failure the process waits and runs again: it has not ended. */
  readonly outlasts?: (error: MillraceError) => boolean;
  /** The run has ended, or failed with this error (null: an abort, or none of ours). The store still takes writes. */
  readonly told?: (stored: StateStore, how: "ended" | "failed", error: StoredError | null) => Promise<void>;
}

export interface HeldState {
  readonly state: StateStore;
  readonly lease: number;
  /** See Acquired. */
  readonly isInherited: boolean;
}

const REPLACED_PAUSE_MS = 1_000;

/**
 * Runs with the state, and again where the source has become another log, or the state another one. Null: it was stopped, and
 * what failed after that is told to the log alone.
 */
export async function holdingState<T>(
  parts: HoldingParts,
  run: (held: HeldState) => Promise<T>,
  signal: AbortSignal,
): Promise<T | null> {
  const { clock, logger, outlasts = () => false } = parts;
  for (;;) {
    try {
      return await holdingOnce({ ...parts, outlasts: (error) => isReplaced(error) || outlasts(error) }, run, signal);
    } catch (error) {
      if (endsStopped(error, logger, signal)) return null;
      const known = findMillraceError(error);
      if (known === undefined || !isReplaced(known) || outlasts(known)) throw error;
      logger.warn({ code: known.code, error }, `${known.message}; Millrace begins again with what is there`);
    }
    await clock.sleep(REPLACED_PAUSE_MS, signal).catch(() => {});
    if (signal.aborted) return null;
  }
}

function isReplaced({ code }: MillraceError): boolean {
  return code === STATE_REPLACED;
}

/** True if the stop was ordered: what was waited for then, or met on the way out, is no failure. */
export function endsStopped(error: unknown, logger: Logger, signal: AbortSignal): boolean {
  if (!signal.aborted) return false;
  if (isAborted(error)) return true;
  const known = findMillraceError(error);
  if (known === undefined) return false;
  logger.warn({ code: known.code, error }, `millrace was stopped; this failed meanwhile: ${known.message}`);
  return true;
}

async function holdingOnce<T>(
  parts: HoldingParts & Required<Pick<HoldingParts, "outlasts">>,
  run: (held: HeldState) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const { clock, logger, redact, open, wrap, awaitsLease = false, outlasts, told = async () => {} } = parts;
  const opened = await open();
  const state = redacting(patient({ store: wrap?.(opened) ?? opened, clock, logger }, signal), redact);
  try {
    using holder = enter();
    const leased = { state, clock, holder: holder.name, isGone: (other: string) => !here.has(other) && isGone(other) };
    let isOutlasted = false;
    const { lease, isInherited } = await (awaitsLease ? awaitLease(leased, logger, signal) : takeLease(leased));
    try {
      await state.ending.set(null);
      const held = { state, lease: lease.number, isInherited };
      const result = await throughMoves({ clock, logger }, () => run(held), signal);
      await told(opened, "ended", null);
      return result;
    } catch (error) {
      const known = signal.aborted ? undefined : findMillraceError(error);
      isOutlasted = known !== undefined && outlasts(known);
      if (isOutlasted) throw error;
      const ended = known === undefined ? null : storedErrorOf(known, timestamp(clock));
      // A state that can't be written is no reason to wait: the log has the error too.
      if (ended !== null)
        await redacting(opened, redact)
          .ending.set(ended)
          .catch(() => undefined);
      await told(opened, "failed", ended);
      throw error;
    } finally {
      // Its next run follows the same death: it was not stopped in between.
      await releaseLease(state, lease.number, logger, isInherited && isOutlasted);
    }
  } finally {
    await state.close();
  }
}

/** The holders of this process, which may run several: each is there although its process id is ours. */
const here = new Set<string>();

function enter(): Disposable & { readonly name: string } {
  const own = holderName();
  let name = own;
  for (let i = 2; here.has(name); i++) name = `${own}, ${i}`;
  here.add(name);
  return { name, [Symbol.dispose]: () => void here.delete(name) };
}
