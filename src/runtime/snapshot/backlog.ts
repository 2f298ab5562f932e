import type { PendingKey, TableSnapshot, StateStore } from "../../core/contracts/state-store.ts";
import { KeyPace } from "../../core/contracts/row-reads.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { FailingReads } from "./failing-reads.ts";
import { lossOf } from "../stream/work.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import type { FanOut } from "../stream/fan-out.ts";
import { keyReads, rangeReads, type SnapshotRead } from "./reads.ts";
import type { TableGate } from "../schema/table-gate.ts";

export interface BacklogParts {
  readonly fanOut: FanOut;
  readonly state: StateStore;
  readonly gate: Pick<TableGate, "tables" | "isGone">;
  readonly isSuspended: (sink: string, tableId: string) => boolean;
  readonly logger: Logger;
}

/** What the state lists, as it was at one look. Keys that are listed after it are told to the snapshotter. */
export interface Unfinished {
  readonly open: readonly TableSnapshot[];
  readonly keyCount: number;
}

const KEYS_LISTED_MAX = 1_000;

/** The reads that the state lists, in the order in which they run. */
export class Backlog {
  readonly #parts: BacklogParts;
  readonly #failing: FailingReads;
  #keysFirst = false;
  /** By table id, since keys are listed. */
  readonly #keyPaces = new Map<string, KeyPace>();
  /** By sink, tables of which it was told that they are gone, and has not taken note yet. */
  readonly #told = new Map<string, Set<string>>();

  constructor(parts: BacklogParts, failing: FailingReads) {
    this.#parts = parts;
    this.#failing = failing;
  }

  /** Reads that can run now, for attached sinks that are not `busy`. */
  async inTurn({ open, keyCount }: Unfinished, busy: ReadonlySet<string>): Promise<readonly SnapshotRead[]> {
    const sinks = this.#attached.filter((name) => !busy.has(name));
    // Keys of a table that is suspended, or can't be read, must not hold up other keys.
    const held = this.#failing.tablesOfKeys(true);
    const tableIds = this.#tableIds.filter((id) => !held.has(id));
    const { snapshots } = this.#parts.state;
    if (keyCount === 0) this.#keyPaces.clear();
    const keys = keyCount === 0 ? [] : this.#keyReadings(await snapshots.keys(sinks, tableIds, KEYS_LISTED_MAX));
    const ranges = rangeReads(open.filter(({ sink }) => sinks.includes(sink)));
    // Key lookups and tables take turns: while a table is read, rows that move may list new keys as fast as keys are read.
    this.#keysFirst = !this.#keysFirst;
    const readings: readonly SnapshotRead[] = this.#keysFirst ? [...keys, ...ranges] : [...ranges, ...keys];
    return readings.filter((reading) => !this.#failing.holds(reading));
  }

  /** Unfinished reads for attached sinks, of tables that flow: only these can be failing. */
  async failing(open: readonly TableSnapshot[]): Promise<readonly SnapshotRead[]> {
    const sinks = this.#attached;
    const tableIds = this.#tableIds;
    const flowing = open.filter(({ sink, tableId }) => sinks.includes(sink) && tableIds.includes(tableId));
    const readings: SnapshotRead[] = rangeReads(flowing);
    const failing = this.#failing.tablesOfKeys(false);
    for (const id of tableIds.filter((tableId) => failing.has(tableId)))
      readings.push(...this.#keyReadings(await this.#parts.state.snapshots.keys(sinks, [id], KEYS_LISTED_MAX)));
    return readings;
  }

  /** How many listed keys of a table are looked up at once. */
  keyPace(tableId: string): KeyPace {
    const pace = this.#keyPaces.get(tableId) ?? new KeyPace();
    this.#keyPaces.set(tableId, pace);
    return pace;
  }

  #keyReadings(keys: readonly PendingKey[]): readonly SnapshotRead[] {
    return keyReads(keys, (tableId) => this.keyPace(tableId).count);
  }

  /**
   * Ends reads that have become pointless. A table that was dropped can't be read. A table that is suspended in the sink is
   * read as a whole when it is reinstated. Invariant: the sink no longer holds a table that is gone before its read ends,
   * so a table that comes back as it was is read.
   */
  async withoutVoid(open: readonly TableSnapshot[]): Promise<Unfinished> {
    const { state, gate, isSuspended, logger } = this.#parts;
    const left: TableSnapshot[] = [];
    for (const snapshot of open) {
      const { id, tableId, sink } = snapshot;
      const isGone = gate.isGone(tableId);
      if ((!isGone && !isSuspended(sink, tableId)) || (isGone && this.#mayHold(sink, tableId))) {
        left.push(snapshot);
        continue;
      }
      await state.snapshots.cancel(id, true);
      const why = isGone ? "gone at the source" : "suspended in the sink";
      logger.info({ table: tableId, sink }, `the table is ${why}; it is not read any more`);
    }
    // Looked at in every round, and mostly no key is listed.
    const keyCount = await state.snapshots.countKeys();
    const keys = keyCount === 0 ? [] : await state.snapshots.keys(this.#attached, null, KEYS_LISTED_MAX);
    const gone = keys.filter(({ tableId, sink }) => gate.isGone(tableId) || isSuspended(sink, tableId));
    if (gone.length === 0) return { open: left, keyCount };
    await state.snapshots.removeKeys(gone.map(({ id }) => id));
    return { open: left, keyCount: await state.snapshots.countKeys() };
  }

  /** Whether the sink counts a table that is gone as complete, or may do so. Then it is told that it lacks rows. */
  #mayHold(sink: string, tableId: string): boolean {
    const { fanOut } = this.#parts;
    const worker = [...fanOut.sinks].find(({ name }) => name === sink);
    if (worker === undefined) return true;
    if (!worker.position.holds(tableId)) return false;
    this.#tell(worker, tableId);
    return true;
  }

  /** Once, until the sink has taken note or what waited for it was dropped: it may take nothing for a long time. */
  #tell(worker: SinkWorker, tableId: string): void {
    const told = this.#told.get(worker.name) ?? new Set();
    this.#told.set(worker.name, told);
    if (told.has(tableId)) return;
    told.add(tableId);
    const ended = (): void => void told.delete(tableId);
    this.#parts.fanOut.push(worker, lossOf(tableId, { durable: ended, dropped: ended }));
  }

  get #attached(): readonly string[] {
    return [...this.#parts.fanOut.sinks].map((worker) => worker.name);
  }

  get #tableIds(): readonly string[] {
    return this.#parts.gate.tables.map(({ id }) => id);
  }
}
