/**
 * A transaction that was read, and that a sink has. A log that does not have it where it was is that of an older copy of the
 * server, and has passed our position since with other changes.
 */
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import { BEGIN_ANEW, sourceError } from "../errors.ts";
import { formatLsn, parseLsn } from "../wire/lsn.ts";
import type { MillraceError } from "../../../../src/core/errors.ts";
import type { Slot } from "./slot.ts";

export interface Landmark {
  /** Where its commit record begins. */
  readonly commit: bigint;
  readonly timeUs: bigint;
}

/** The field of the identity that keeps it. */
export const LANDMARK = "landmark";

export function spellLandmark({ commit, timeUs }: Landmark): string {
  return `${formatLsn(commit)}@${timeUs}`;
}

/**
 * The landmark that a stream has to begin with; null: none has to. A server that was not started since is the same one. If the slot
 * is confirmed beyond the landmark, the log is no older copy's, and the server does not send the transaction again.
 */
export function soughtLandmark(
  identity: LogIdentity,
  started: string,
  { confirmed }: Pick<Slot, "confirmed">,
): Landmark | null {
  const [commit, timeUs] = (identity[LANDMARK] ?? "").split("@");
  if (commit === undefined || timeUs === undefined || identity["started"] === started) return null;
  const landmark = { commit: parseLsn(commit), timeUs: BigInt(timeUs) };
  return confirmed !== null && confirmed <= landmark.commit ? landmark : null;
}

export function landmarkMissing({ commit }: Landmark): MillraceError {
  const message = `the log has another transaction at ${formatLsn(commit)} than the one that was read there, or none`;
  return sourceError("MR2016", "fatal", message, {
    hint: `The server is an older copy: restore the right one. If the change was meant: ${BEGIN_ANEW}`,
  });
}
