/** Finds out whether the tables were divided in another way before: a sink's table would then have two daemons. */
import type { StateAddress } from "../core/contracts/connector.ts";
import { reasonOf } from "../core/errors.ts";
import { DIVISION, pathOfShare, SHARE_COUNT_MAX, shareName } from "../core/sharing/share.ts";
import { dividedBefore } from "../runtime/errors.ts";
import { openState } from "../state/open.ts";

export interface Divided {
  /** As the file has them, not those of a share. */
  readonly name: string;
  readonly state: StateAddress;
  /** The division's text; null: all tables belong to one daemon. */
  readonly division: string | null;
}

/**
 * Throws if a daemon of this name, or of one of its shares, has kept a position under another division. `number`: the share
 * that is to run; null: all tables.
 */
export async function expectDivision({ name, state, division }: Divided, number: number | null): Promise<void> {
  const keptBy = async (share: number | null): Promise<string | null | undefined> =>
    await keptDivision(
      { ...state, url: pathOfShare(state.url, share) },
      share === null ? name : shareName(name, share),
    );
  const own = await keptBy(number);
  if (own === division) return;
  if (own !== undefined) throw dividedBefore(name, own, division);
  // Nothing is kept yet: what the others have kept decides.
  const others = [null, ...Array.from({ length: SHARE_COUNT_MAX }, (_, i) => i + 1)].filter((one) => one !== number);
  for (const other of others) {
    const kept = await keptBy(other);
    // A daemon of its own may be named like a share.
    const isOfThis = kept !== undefined && (kept !== null || other === null);
    if (isOfThis && kept !== division) throw dividedBefore(name, kept, division);
  }
}

/** Undefined: it has no position. */
async function keptDivision(address: StateAddress, name: string): Promise<string | null | undefined> {
  try {
    const state = await openState(address, { name, readOnly: true });
    try {
      const identity = (await state.source.get())?.identity;
      return identity == null ? undefined : (identity[DIVISION] ?? null);
    } finally {
      await state.close();
    }
  } catch (error) {
    // A state of an earlier version is brought up to date at its start.
    if (reasonOf(error) === "absent" || reasonOf(error) === "older") return undefined;
    throw error;
  }
}
