/** What a daemon does around its work: it holds the lease, forgets sinks that left, and begins again where the source moved. */
import type { Clock } from "./core/clock.ts";
import { LogMoved } from "./core/contracts/log-admin.ts";
import type { StateStore } from "./core/contracts/state-store.ts";
import type { Logger } from "./core/contracts/telemetry.ts";
import { leaseHeld, leaseLost } from "./state/errors.ts";

export const LEASE_MS = 15_000;
export const LEASE_RENEWAL_MS = 4_000;
const MOVED_PAUSE_MS = 250;

export interface LeaseParts {
  readonly state: Pick<StateStore, "lease">;
  readonly clock: Clock;
  /** Who takes it, for people. */
  readonly holder: string;
  /** Whether a holder certainly runs no more. */
  readonly isGone: (holder: string) => boolean;
}

/** Returns the lease's number. */
export async function takeLease({ state, clock, holder, isGone }: LeaseParts): Promise<number> {
  const { taken, lease } = await state.lease.acquire(holder, LEASE_MS, isGone);
  if (!taken) throw leaseHeld(lease, clock);
  return lease.number;
}

/** Until aborted; throws once another daemon has it. */
export async function keepLease(
  { state, clock }: Pick<LeaseParts, "state" | "clock">,
  lease: number,
  signal: AbortSignal,
): Promise<never> {
  for (;;) {
    await clock.sleep(LEASE_RENEWAL_MS, signal);
    if (!(await state.lease.renew(lease, LEASE_MS))) throw leaseLost();
  }
}

/** One that can't be given back ends by itself: no reason to hide why this process ends. */
export async function releaseLease(state: Pick<StateStore, "lease">, lease: number, logger: Logger): Promise<void> {
  try {
    await state.lease.release(lease);
  } catch (error) {
    logger.warn({ error }, "the lease could not be given back");
  }
}

/** A sink that left the file holds nothing back any more; when it returns it is filled like a new one. */
export async function forgetRemovedSinks(
  { sinks }: Pick<StateStore, "sinks">,
  configured: readonly string[],
): Promise<void> {
  for (const { name } of await sinks.all()) if (!configured.includes(name)) await sinks.remove(name);
}

/** Where the source has become another one, everything begins again, and that asks whether it can be gone on with. */
export async function throughMoves<T>(
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
  run: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof LogMoved)) throw error;
      logger.warn({ code: error.code, error }, `${error.message}; looking whether it can be gone on in`);
      await clock.sleep(MOVED_PAUSE_MS, signal);
    }
  }
}
