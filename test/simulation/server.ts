/** The source's server, which outlives every process: it keeps its log for a slot, or for a time. */
import type { Database, LogEntry } from "./database.ts";
import type { Weather } from "./network.ts";
import type { SimulatedProcess } from "./scheduler.ts";

/** What the server keeps for the daemon. */
export interface Slot {
  readonly id: string;
  /** What lies before it is gone. */
  confirmed: bigint;
}

/** From one host to the next. */
export interface Failover {
  /** Places in the new log less those in the old one. */
  readonly offset: bigint;
  /** What lay behind it in the old log is not in the new one. */
  readonly commonEnd: bigint;
}

export interface Server {
  readonly database: Database;
  readonly weather: Weather;
  /** Names the history of the log. */
  timeline: string;
  slot: Slot | null;
  slotCount: number;
  /** Which of several it is, that have the same transactions at other places of their logs. */
  host: number;
  /** How it became that. */
  readonly failovers: Failover[];
  /** The log before it was thrown away for its age. */
  purgedTo: bigint;
  /** Who reads the log by the slot. */
  reader: SimulatedProcess | null;
  /** None is given while true. */
  refusesSecond: boolean;
  chunkRows: number;
  /** Told of each place that the daemon gives up, before it is. */
  onAcknowledged: (commit: bigint, epoch: number) => void;
  /** It was put back to what it was, and nobody has dealt with that yet. */
  isRestored: boolean;
}

/** The log before the slot's place is thrown away. */
export function forget({ database, slot }: Server): void {
  if (slot === null) return;
  const kept = firstFrom(database.log, slot.confirmed);
  if (kept > 0) database.log = database.log.slice(kept);
}

export function firstFrom(log: readonly LogEntry[], commit: bigint): number {
  let low = 0;
  let high = log.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (log[middle]!.commit < commit) low = middle + 1;
    else high = middle;
  }
  return low;
}
