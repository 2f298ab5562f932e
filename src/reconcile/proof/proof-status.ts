/** What `status` says of the continuous comparison, and what it stands back for. */
import { driftIn } from "../../core/comparison-verdict.ts";
import { span } from "../../core/figures.ts";
import type { ContinuousStatus, PipelineStatus, SnapshotStatus } from "../../core/contracts/status.ts";
import type { ProofRecord } from "../../core/contracts/state-store.ts";
import type { Holds } from "./proving.ts";

/** A stream or a sink that is further behind has other work to do. */
const BEHIND_SECONDS = 10;
/** A transaction that is open for longer keeps what it wrote from being compared, and old rows from being vacuumed. */
const LONG_SECONDS = 60;

interface ProofAsk {
  readonly maxAgeMs: number;
  readonly nowMs: number;
  readonly driftMax: (table: string) => number;
  readonly waits: string | null;
}

export function proofStatus(
  records: readonly ProofRecord[],
  { maxAgeMs, nowMs, driftMax, waits }: ProofAsk,
): ContinuousStatus {
  const oldest = records.reduce<ProofRecord | null>(
    (old, one) => (old === null || isOlder(one, old) ? one : old),
    null,
  );
  const drifting = records.filter((one) => driftIn(one) > driftMax(one.table));
  const [worst] = drifting.toSorted((a, b) => driftIn(b) - driftIn(a));
  return {
    maxAgeSeconds: maxAgeMs / 1000,
    waits,
    places: records.length,
    neverProven: records.filter(({ provenAt }) => provenAt === null).length,
    late: records.filter((one) => nowMs - Date.parse(provenOrKnown(one)) > maxAgeMs).length,
    oldest,
    drift:
      worst === undefined
        ? null
        : { places: drifting.length, rows: drifting.reduce((sum, one) => sum + driftIn(one), 0), worst },
  };
}

export function oldestFirst(records: readonly ProofRecord[]): readonly ProofRecord[] {
  return records.toSorted((a, b) => Number(isOlder(b, a)) - Number(isOlder(a, b)));
}

/** By their text, which sorts as the times do. */
function isOlder(a: ProofRecord, b: ProofRecord): boolean {
  return provenOrKnown(a) < provenOrKnown(b);
}

/** The age of a proof counts from here. */
function provenOrKnown({ provenAt, since }: ProofRecord): string {
  return provenAt ?? since;
}

/** A transaction that nobody ends is waited for until half of `maxAgeMs`: a proof that is promised is worth more. */
export function holdsOf({ phase, source, snapshots, sinks }: PipelineStatus, maxAgeMs: number): Holds {
  const { readsPaused, lagSeconds, oldestTransactionSeconds } = source;
  const openSeconds = oldestTransactionSeconds ?? 0;
  const following = new Set(
    sinks.filter(({ state, catchingUp }) => state === "streaming" && !catchingUp).map(({ name }) => name),
  );
  // A read stays begun while nobody reads it: its sink is away, its table can't be read, or what differs is left.
  const isRead = ({ state, error, scope, sink }: SnapshotStatus): boolean =>
    state === "running" && error === null && scope.kind !== "differences" && following.has(sink);
  const all =
    phase !== "streaming"
      ? `the daemon is ${phase}`
      : readsPaused
        ? "the source keeps too much log"
        : snapshots.some(isRead)
          ? "rows are being read beside the stream"
          : lagSeconds !== null && lagSeconds > BEHIND_SECONDS
            ? "the stream is behind the source"
            : openSeconds > LONG_SECONDS && openSeconds < maxAgeMs / 2_000
              ? `a transaction is open for ${span(openSeconds * 1_000)}`
              : null;
  const held = sinks.filter(
    ({ name, lagSeconds: behind }) => !following.has(name) || (behind !== null && behind > BEHIND_SECONDS),
  );
  return { all, sinks: new Set(held.map(({ name }) => name)) };
}
