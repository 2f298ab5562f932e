/**
 * A point between two changes of a source's log: everything before it is done, and it names the next change. Changes
 * are ordered by (commit position of their transaction, index in the transaction), which is commit order and delivery
 * order. One type serves a whole transaction (the commit's end, index 0), a part of one (its commit position, the next
 * index) and an idle log (the end of what was read, index 0).
 */
export interface Position {
  /** Counts the identities of the log, from 1. It grows when a restore or a failover starts another history. */
  readonly epoch: number;
  /** Position in the log, source-defined and below 2^55. Postgres: an LSN. */
  readonly commit: bigint;
  /** Ordinal of the next change inside the transaction that commits at `commit`. */
  readonly index: number;
}

export function comparePositions(a: Position, b: Position): number {
  if (a.epoch !== b.epoch) return a.epoch - b.epoch;
  if (a.commit !== b.commit) return a.commit < b.commit ? -1 : 1;
  return a.index - b.index;
}

export function earliest(positions: Iterable<Position>): Position | undefined {
  let result: Position | undefined;
  for (const p of positions) if (result === undefined || comparePositions(p, result) < 0) result = p;
  return result;
}

export function latest(first: Position, ...others: readonly (Position | null)[]): Position;
export function latest(...positions: readonly (Position | null)[]): Position | null;
export function latest(...positions: readonly (Position | null)[]): Position | null {
  let result: Position | null = null;
  for (const p of positions) if (p !== null && (result === null || comparePositions(p, result) > 0)) result = p;
  return result;
}

/** `epoch/commit/index` in decimal: the form stored in sinks and in the state store. */
export function serializePosition(p: Position): string {
  return `${p.epoch}/${p.commit}/${p.index}`;
}

export function parsePosition(text: string): Position {
  const match = /^(\d+)\/(\d+)\/(\d+)$/.exec(text);
  if (!match) throw new Error(`not a position: ${JSON.stringify(text)}`);
  return { epoch: Number(match[1]), commit: BigInt(match[2]!), index: Number(match[3]) };
}

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
