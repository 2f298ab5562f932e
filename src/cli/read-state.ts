import type { Config } from "../config/config.ts";
import type { Place } from "../config/load.ts";
import type { Positions } from "../core/contracts/positions.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import { isGone } from "../daemon/holder.ts";
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

/** As the source spelled them last. */
export async function storedPositions({ source }: Pick<Place, "source">, state: StateStore): Promise<Positions> {
  const { connectors } = await import("../../connectors/registry.ts");
  const positions = await (await connectors.source(source.kind)).positions();
  const record = await state.source.get();
  if (record?.identity != null) positions.recall?.(record.identity);
  return positions;
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
