/**
 * The version of a row in a sink (`_millrace_version`): an unsigned 63-bit number that grows with the source's log, so
 * that a replay never replaces a row by an older one. It comes from the transaction, not from the position of the
 * single change: in the log, a change of a later transaction may precede one of an earlier transaction.
 */
const COMMIT_BITS = 55n;
export const EPOCH_MAX = 255;

/** False for a position that does not fit into a version: its log must be refused. */
export function fitsVersion(commit: bigint): boolean {
  return commit >> COMMIT_BITS === 0n;
}

export function rowVersion(epoch: number, commit: bigint): bigint {
  if (epoch < 1 || epoch > EPOCH_MAX) throw new RangeError(`epoch ${epoch} is outside 1..${EPOCH_MAX}`);
  if (!fitsVersion(commit)) throw new RangeError(`commit position ${commit} needs more than 55 bits`);
  return (BigInt(epoch) << COMMIT_BITS) | commit;
}

/** The epoch in a row's version; 0 if no row of ours can have that version. */
export function epochOf(version: bigint): number {
  return Number(version >> COMMIT_BITS);
}

/** The commit position in a row's version. */
export function commitOf(version: bigint): bigint {
  return BigInt.asUintN(Number(COMMIT_BITS), version);
}

/** Version of rows of a first copy: lower than every change of the epoch. */
export function baseVersion(epoch: number): bigint {
  return rowVersion(epoch, 0n);
}
