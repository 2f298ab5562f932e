import { type Clock, timestamp } from "../../core/clock.ts";
import { findMillraceError } from "../../core/errors.ts";
import type { TableSnapshot, StoredError } from "../../core/contracts/state-store.ts";
import type { UnreadableTable } from "../../core/contracts/status.ts";
import { readFailed } from "../errors.ts";
import type { SnapshotRead } from "./reads.ts";
import { ReconnectBackoff } from "../retry.ts";

interface Failing {
  readonly tableId: string;
  readonly since: string;
  readonly backoff: ReconnectBackoff;
  sinks: readonly string[];
  error: StoredError;
  /** When it is next tried, by `Clock.elapsed`. Null: an attempt has worked, and it takes its turn with the others again. */
  nextMs: number | null;
}

/**
 * Reads that the source refuses, for a reason that concerns only their table or part: another session locks it, a privilege
 * was revoked, its condition is wrong. An attempt may wait for a lock as long as the source allows, so these reads are
 * tried beside the others, each at its own intervals, until one attempt works.
 */
export class FailingReads {
  readonly #clock: Clock;
  readonly #byName = new Map<string, Failing>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isEmpty(): boolean {
    return this.#byName.size === 0;
  }

  /** True while the read does not take turns with the others. */
  holds(reading: SnapshotRead): boolean {
    return (this.#byName.get(nameOf(reading))?.nextMs ?? null) !== null;
  }

  /** Tables whose listed keys could not be read; `held`: only those that do not take turns with the others. */
  tablesOfKeys(held: boolean): ReadonlySet<string> {
    const found = [...this.#byName].filter(([name, { tableId, nextMs }]) => {
      return name === nameOfKeys(tableId) && (!held || nextMs !== null);
    });
    return new Set(found.map(([, { tableId }]) => tableId));
  }

  /** Returns the milliseconds until the next attempt. */
  failed(reading: SnapshotRead, cause: unknown): number {
    const { tableId, sinks } = reading;
    const { code, message, hint } = findMillraceError(cause) ?? readFailed(tableId, cause);
    const at = timestamp(this.#clock);
    const error = { code, message, hint: hint ?? null, at };
    const known = this.#byName.get(nameOf(reading));
    const failing = known ?? {
      tableId,
      since: at,
      backoff: new ReconnectBackoff(this.#clock),
      sinks,
      error,
      nextMs: 0,
    };
    failing.error = error;
    this.#byName.set(nameOf(reading), failing);
    return this.#putOff(failing);
  }

  #putOff(failing: Failing): number {
    const waitMs = failing.backoff.next();
    failing.nextMs = this.#clock.elapsed() + waitMs;
    return waitMs;
  }

  worked(reading: SnapshotRead): void {
    this.#byName.delete(nameOf(reading));
  }

  /** An attempt beside the others has worked. */
  rejoin(reading: SnapshotRead): void {
    const failing = this.#byName.get(nameOf(reading));
    if (failing !== undefined) failing.nextMs = null;
  }

  /** `readings`: all unfinished ones, for whatever reason they wait. Others are done or given up, and are forgotten. */
  keep(readings: readonly SnapshotRead[]): void {
    const left = Map.groupBy(readings, nameOf);
    for (const [name, failing] of this.#byName) {
      const sinks = left.get(name)?.flatMap((reading) => reading.sinks);
      if (sinks === undefined) this.#byName.delete(name);
      else failing.sinks = [...new Set(sinks)].toSorted();
    }
  }

  /** The read whose attempt is most overdue; its attempt counts as begun. */
  due(readings: readonly SnapshotRead[]): SnapshotRead | undefined {
    const nowMs = this.#clock.elapsed();
    const nextMs = (reading: SnapshotRead) => this.#byName.get(nameOf(reading))?.nextMs ?? Infinity;
    const [first] = readings.filter((one) => nextMs(one) <= nowMs).toSorted((a, b) => nextMs(a) - nextMs(b));
    if (first !== undefined) this.#putOff(this.#byName.get(nameOf(first))!);
    return first;
  }

  /** Milliseconds until the next attempt is due. */
  get dueInMs(): number {
    const nextMs = Math.min(...[...this.#byName.values()].map((failing) => failing.nextMs ?? Infinity));
    return Math.max(0, nextMs - this.#clock.elapsed());
  }

  get tables(): readonly UnreadableTable[] {
    const byTable = Map.groupBy(this.#byName.values(), ({ tableId }) => tableId);
    return [...byTable].map(([table, failing]) => {
      const sinks = [...new Set(failing.flatMap((one) => one.sinks))].toSorted();
      const since = failing.map((one) => one.since).toSorted()[0]!;
      const error = failing.map((one) => one.error).toSorted((a, b) => (a.at < b.at ? 1 : -1))[0]!;
      return { table, sinks, since, error };
    });
  }

  /** Why the incremental snapshot makes no progress. */
  errorOf({ tableId, sink, scope, state }: TableSnapshot): StoredError | null {
    const failing = this.#byName.get(nameOfRange(tableId, scope));
    const isOpen = state === "waiting" || state === "running";
    return isOpen && failing?.sinks.includes(sink) === true ? failing.error : null;
  }
}

/** The same name for every key that a table has been read up to. */
function nameOf(reading: SnapshotRead): string {
  return reading.kind === "keys" ? nameOfKeys(reading.tableId) : nameOfRange(reading.tableId, reading.scope);
}

function nameOfKeys(tableId: string): string {
  return JSON.stringify([tableId]);
}

function nameOfRange(tableId: string, scope: TableSnapshot["scope"]): string {
  return JSON.stringify([tableId, scope]);
}
