import type { Config } from "../config/config.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import { isGone } from "../holder.ts";
import { openState } from "../state/open.ts";

/** Reads the state, whether a daemon runs or not. Opens it for reading only and closes it again. */
export async function readState<T>(
  config: Pick<Config, "state" | "name">,
  ask: (state: StateStore) => Promise<T>,
): Promise<T> {
  const state = await openState(config.state, { name: config.name, readOnly: true });
  try {
    return await ask(state);
  } finally {
    await state.close();
  }
}

/** Who holds the lease, on any host. Null if nobody does or the state can't be read. */
export async function holderOf(config: Pick<Config, "state" | "name">): Promise<string | null> {
  try {
    return await readState(config, liveHolder);
  } catch {
    // Commands that need the state report this error themselves.
    return null;
  }
}

export async function liveHolder({ lease }: Pick<StateStore, "lease">): Promise<string | null> {
  const held = await lease.current();
  return held === null || isGone(held.holder) ? null : held.holder;
}
