import type { Config } from "../config/config.ts";
import type { StateStore } from "../core/state-store.ts";
import { openState } from "../state/open.ts";

/** What the state says, whether a daemon runs or not; it is opened for reading only, and closed. */
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
