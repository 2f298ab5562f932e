/**
 * The version of a row in a sink (`_millrace_version`): one unsigned 63-bit number that grows with the source's log, so
 * that a replay never sets a row back. It is the transaction's, never the change's own position: inside the log a change
 * of a later transaction may lie below one of an earlier transaction.
 */
const COMMIT_BITS = 55n;
export const EPOCH_MAX = 255;

/** False for a position that no version has room for: its log must be refused. */
export function fitsVersion(commit: bigint): boolean {
  return commit >> COMMIT_BITS === 0n;
}

export function rowVersion(epoch: number, commit: bigint): bigint {
  if (epoch < 1 || epoch > EPOCH_MAX) throw new RangeError(`epoch ${epoch} is outside 1..${EPOCH_MAX}`);
  if (!fitsVersion(commit)) throw new RangeError(`commit position ${commit} needs more than 55 bits`);
  return (BigInt(epoch) << COMMIT_BITS) | commit;
}

/** The epoch of a row's version; 0 where no row of ours can have it. */
export function epochOf(version: bigint): number {
  return Number(version >> COMMIT_BITS);
}

/** Version of rows of a first copy: below every change of the epoch. */
export function baseVersion(epoch: number): bigint {
  return rowVersion(epoch, 0n);
}
