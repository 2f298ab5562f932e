import type { Config } from "../config/config.ts";
import { systemClock } from "../core/clock.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import { holderName, isGone } from "../daemon/holder.ts";
import { openState } from "../state/open.ts";
import { LEASE_MS, LEASE_RENEWAL_MS, takeLease } from "../daemon/lease.ts";

export interface AloneOptions<T> {
  /** Creates the state if it does not exist. */
  readonly create?: boolean;
  /** Whether to remove the state after this result. */
  readonly removes?: (result: T) => boolean;
}

/** Works on the state under its lease. Refused while a daemon holds the lease; no daemon can start meanwhile. */
export async function alone<T>(
  config: Pick<Config, "name" | "state">,
  work: (state: StateStore) => Promise<T>,
  { create = false, removes = () => false }: AloneOptions<T> = {},
): Promise<T> {
  // Opening fails if the state does not exist, and does not create it.
  if (!create) await (await openState(config.state, { name: config.name, readOnly: true })).close();
  const state = await openState(config.state, { name: config.name });
  try {
    const { lease, isInherited } = await takeLease({ state, clock: systemClock, holder: holderName(), isGone });
    const { number } = lease;
    // A renewal that fails or comes too late makes the next write fail: each write checks the lease.
    const renewal = setInterval(() => {
      state.lease.renew(number, LEASE_MS).catch(() => false);
    }, LEASE_RENEWAL_MS);
    let isRemoved = false;
    try {
      const result = await work(state);
      isRemoved = removes(result);
      if (isRemoved) await state.remove();
      return result;
    } finally {
      clearInterval(renewal);
      // The next daemon still learns that the last one died.
      if (!isRemoved) await (isInherited ? state.lease.renew(number, 0) : state.lease.release(number));
    }
  } finally {
    await state.close();
  }
}
