/** Finds out whether the tables were divided in another way before: a sink's table would then have two daemons. */
import type { StateAddress } from "../core/contracts/connector.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { findMillraceError, reasonOf } from "../core/errors.ts";
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

/** What a daemon of this name, or of one of its shares, has kept. */
export interface FormerDivision {
  /** Of the share; null: the daemon of all tables. */
  readonly number: number | null;
  readonly division: string | null;
  /** Its first start has ended. */
  readonly isStarted: boolean;
}

/**
 * Throws if a daemon of this name, or of one of its shares, has kept a position under another division: all of them are
 * looked at, because a move to this division may have ended half-way.
 */
export async function expectDivision(divided: Divided, logger: Logger): Promise<void> {
  const { name, division } = divided;
  // The share's own daemon says it too. The others are to run meanwhile.
  const unreadable = (number: number, error: unknown): void =>
    logger.warn(
      { share: number, error },
      "the state of a share can't be read: how its tables were divided is not known",
    );
  const other = (await keptOf(divided, unreadable)).find((kept) => kept.isStarted && kept.division !== division);
  if (other !== undefined) throw dividedBefore(name, other.division, division);
}

/** The same for one share that a process starts which has looked at all. */
export async function expectOwnDivision(divided: Divided, number: number, logger: Logger): Promise<void> {
  const own = await keptBy(divided, number);
  if (own?.isStarted !== true) return await expectDivision(divided, logger);
  if (own.division !== divided.division) throw dividedBefore(divided.name, own.division, divided.division);
}

/** In the order of the shares. `unreadable`: told of shares whose state can't be read for good. Default: that fails all. */
export async function keptOf(
  divided: Omit<Divided, "division">,
  unreadable?: (number: number, error: unknown) => void,
): Promise<readonly FormerDivision[]> {
  const found: FormerDivision[] = [];
  for (const number of [null, ...Array.from({ length: SHARE_COUNT_MAX }, (_, i) => i + 1)]) {
    const kept = await keptBy(divided, number).catch((error: unknown) => {
      if (number === null || unreadable === undefined || findMillraceError(error)?.kind !== "fatal") throw error;
      unreadable(number, error);
      return null;
    });
    // A daemon of its own may be named like a share.
    const isOfThis = kept !== null && (number === null || !kept.isStarted || kept.division !== null);
    if (isOfThis) found.push(kept);
  }
  return found;
}

/** Null: there is no state, or nothing was begun in it. */
async function keptBy(
  { name, state }: Omit<Divided, "division">,
  number: number | null,
): Promise<FormerDivision | null> {
  try {
    const address = { ...state, url: pathOfShare(state.url, number) };
    const opened = await openState(address, {
      name: number === null ? name : shareName(name, number),
      readOnly: true,
    });
    try {
      const record = await opened.source.get();
      if (record === null) return null;
      return { number, division: record.identity?.[DIVISION] ?? null, isStarted: record.identity != null };
    } finally {
      await opened.close();
    }
  } catch (error) {
    if (reasonOf(error) === "absent") return null;
    throw error;
  }
}
