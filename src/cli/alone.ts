import type { Config } from "../config/config.ts";
import { systemClock } from "../core/clock.ts";
import type { StateStore } from "../core/state-store.ts";
import { holderName, isGone } from "../holder.ts";
import { leaseHeld } from "../state/errors.ts";
import { openState } from "../state/open.ts";

const LEASE_MS = 15_000;
const RENEWAL_MS = 4_000;

export interface AloneOptions<T> {
  /** Makes the state where there is none. */
  readonly create?: boolean;
  /** Whether the state goes too, after this result. */
  readonly removes?: (result: T) => boolean;
}

/** Works on the state under its lease: refused while a daemon has it, and no daemon starts meanwhile. */
export async function alone<T>(
  config: Config,
  work: (state: StateStore) => Promise<T>,
  { create = false, removes = () => false }: AloneOptions<T> = {},
): Promise<T> {
  // A state that is not there is an error, and not made.
  if (!create) await (await openState(config.state, { name: config.name, readOnly: true })).close();
  const state = await openState(config.state, { name: config.name });
  try {
    const { taken, lease } = await state.lease.acquire(holderName(), LEASE_MS, isGone);
    if (!taken) throw leaseHeld(lease, systemClock);
    // A renewal that fails, or comes too late, makes the next write fail: each proves the lease.
    const renewal = setInterval(() => {
      state.lease.renew(lease.number, LEASE_MS).catch(() => false);
    }, RENEWAL_MS);
    let isRemoved = false;
    try {
      const result = await work(state);
      isRemoved = removes(result);
      if (isRemoved) await state.remove();
      return result;
    } finally {
      clearInterval(renewal);
      if (!isRemoved) await state.lease.release(lease.number);
    }
  } finally {
    await state.close();
  }
}
