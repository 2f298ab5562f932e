import type { Clock } from "../../core/clock.ts";
import type { Catalog, NamedTable } from "../../core/contracts/catalog.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { type CopyStatus, NO_PROGRESS, type ReadProgress, type SnapshotStatus } from "../../core/contracts/status.ts";
import type { Pipeline } from "../pipeline.ts";
import type { CopyProgress } from "../snapshot/first-copy.ts";

/** So soon are other tables noticed. */
const STEP_MS = 1_000;
const LOOK_MS_MIN = 60_000;
/** New tables may have no statistics yet: the first looks follow each other sooner. */
const EARLY_LOOK_MS = 3_000;
/** A look at the statistics of many tables takes time of the source: at most this part of all time. */
const SHARE_OF_TIME_MAX = 0.01;
/** The estimate may be too low. Only the end of the read is certain. */
const SHARE_MAX = 0.99;
const PACE_MS_MIN = 1_000;

interface Begun {
  readonly atMs: number;
  readonly rows: number;
  lastRows: number;
}

interface RowSum {
  readonly counts: ReadonlyMap<string, number>;
  readonly tableIds: readonly string[];
  readonly rows: number | undefined;
}

/** How many rows tables have by the source's statistics, and by these how far reads are. */
export class Estimates {
  readonly #clock: Clock;
  readonly #logger: Logger;
  #counts: ReadonlyMap<string, number> = new Map();
  /** Of the initial snapshot's tables, with what it was made of. */
  #sum: RowSum | null = null;
  #looked = { count: 0, againMs: 0, waitMs: 0 };
  /** What this process saw first of each read: the pace counts from there. */
  readonly #begun = new Map<number | "copy", Begun>();

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }

  /** Asks the source when the figures are old, and when there are other tables. */
  async run({ source, gate }: Pick<Pipeline, "source" | "gate">, signal: AbortSignal): Promise<never> {
    for (;;) {
      await this.#clock.sleep(STEP_MS, signal);
      try {
        await this.#look(source.catalog, gate.tables, signal);
      } catch (error) {
        signal.throwIfAborted();
        // Estimates are only informative.
        this.#logger.debug({ error }, "the source did not tell its statistics");
      }
    }
  }

  async #look({ estimates }: Catalog, tables: readonly NamedTable[], signal: AbortSignal): Promise<void> {
    const startedMs = this.#clock.elapsed();
    if (estimates === undefined || tables.length === 0) return;
    const { count, againMs, waitMs: before } = this.#looked;
    const isSame = tables.length === count;
    if (isSame && startedMs < againMs) return;
    const waitMs = Math.min(LOOK_MS_MIN, isSame ? 2 * before : EARLY_LOOK_MS);
    this.#looked = { count: tables.length, againMs: startedMs + waitMs, waitMs };
    this.#counts = await estimates(tables, signal);
    const tookMs = this.#clock.elapsed() - startedMs;
    this.#looked = { ...this.#looked, againMs: startedMs + Math.max(waitMs, tookMs / SHARE_OF_TIME_MAX) };
  }

  /** Of each, and forgets the reads that are not among them. */
  ofReads(reads: readonly SnapshotStatus[]): readonly SnapshotStatus[] {
    const unfinished = new Set(reads.filter(isUnfinished).map(({ id }) => id));
    for (const id of this.#begun.keys()) if (id !== "copy" && !unfinished.has(id)) this.#begun.delete(id);
    return reads.map((read) => (isUnfinished(read) ? { ...read, ...this.#ofRead(read) } : read));
  }

  #ofRead({ id, tableId, scope, state, rowsDone }: SnapshotStatus): ReadProgress {
    const rows = this.#counts.get(tableId);
    if (scope.kind !== "table" || rows === undefined) return NO_PROGRESS;
    return state === "running" ? this.#progress(id, rowsDone, rows) : { ...NO_PROGRESS, rowsEstimated: rows };
  }

  ofCopy(copy: CopyProgress | null): CopyStatus | null {
    if (copy === null) return null;
    const { tableIds, tablesDone, rowsRead, rowsDurable } = copy;
    const tableCount = tableIds.length;
    const rows = tablesDone === tableCount ? undefined : this.#rowsOf(tableIds);
    if (rows === undefined) return { tableCount, tablesDone, rowsRead, ...NO_PROGRESS };
    // A table counts as a row more: many have few rows, or none.
    const progress = this.#progress("copy", rowsDurable + tablesDone, rows + tableCount);
    return { tableCount, tablesDone, rowsRead, ...progress, rowsEstimated: rows };
  }

  /** Undefined if one of the tables has no statistics. */
  #rowsOf(tableIds: readonly string[]): number | undefined {
    const counts = this.#counts;
    if (this.#sum?.counts !== counts || this.#sum.tableIds !== tableIds) {
      const rows = tableIds.reduce<number | undefined>((sum, id) => {
        const count = counts.get(id);
        return sum === undefined || count === undefined ? undefined : sum + count;
      }, 0);
      this.#sum = { counts, tableIds, rows };
    }
    return this.#sum.rows;
  }

  #progress(id: number | "copy", rowsDone: number, rowsEstimated: number): ReadProgress {
    const nowMs = this.#clock.elapsed();
    const known = this.#begun.get(id);
    // A read that starts again counts from its new beginning.
    const begun =
      known !== undefined && known.lastRows <= rowsDone ? known : { atMs: nowMs, rows: rowsDone, lastRows: 0 };
    begun.lastRows = rowsDone;
    this.#begun.set(id, begun);
    const share = rowsEstimated === 0 ? SHARE_MAX : Math.min(SHARE_MAX, rowsDone / rowsEstimated);
    const [passedMs, read, left] = [nowMs - begun.atMs, rowsDone - begun.rows, rowsEstimated - rowsDone];
    const isPaceKnown = passedMs >= PACE_MS_MIN && read > 0 && left > 0;
    return { rowsEstimated, share, secondsLeft: isPaceKnown ? ((passedMs / 1_000) * left) / read : null };
  }
}

function isUnfinished({ state }: SnapshotStatus): boolean {
  return state === "waiting" || state === "running";
}
