import type { PendingKey, TableSnapshot, StateStore } from "../../core/contracts/state-store.ts";
import { KeyPace } from "../../core/contracts/row-reads.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { entry } from "../schema/suspended-tables.ts";
import { lossOf } from "../stream/sink-queue.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import type { FanOut } from "../stream/fan-out.ts";
import type { Ledger } from "./ledger.ts";
import type { KeyRead, RangeRead, RowReader, SnapshotRead } from "./row-reader.ts";
import type { TableGate } from "../schema/table-gate.ts";

export interface ReadPlanParts {
  readonly fanOut: FanOut;
  readonly state: StateStore;
  readonly gate: Pick<TableGate, "isShown" | "table">;
  readonly ledger: Pick<Ledger, "list">;
  /** Ids of the tables that this sink must hold and does not hold completely. */
  readonly lacking: (worker: SinkWorker) => readonly string[];
  /** Whether nothing of the table is read for this sink any more. */
  readonly isVoid: (sink: string, tableId: string) => boolean;
  readonly logger: Logger;
}

/** What the state lists, as it was at one look. Keys that are listed after it are told to the snapshotter. */
export interface Unfinished {
  readonly open: readonly TableSnapshot[];
  /** How many keys are listed, by sink and table. */
  readonly keyCounts: ReadonlyMap<string, ReadonlyMap<string, number>>;
}

const WHOLE = { kind: "table" } as const;
/** Why a table is read without a request. */
const LACKING = "not complete in this sink";

const KEYS_LISTED_MAX = 1_000;

/** The maximum number of tables that are read between the same two marks. */
const TOGETHER_COUNT_MAX = 256;

/** What is to be read, for which sinks, and in which order: what the state lists, but for what can't be read now. */
export class ReadPlan {
  readonly #parts: ReadPlanParts;
  readonly #reader: Pick<RowReader, "holds" | "tablesOfKeys">;
  /** Ids of incremental snapshots that this process began because a sink lacks the table. They may end without a read. */
  readonly carriable = new Set<number>();
  /** Sinks that got rows of a table last. */
  readonly #keysNext = new Set<string>();
  /** By table id, since keys are listed. */
  readonly #keyPaces = new Map<string, KeyPace>();
  /** By sink, void tables of which it was told, and has not taken note yet. */
  readonly #told = new Map<string, Set<string>>();

  constructor(parts: ReadPlanParts, reader: Pick<RowReader, "holds" | "tablesOfKeys">) {
    this.#parts = parts;
    this.#reader = reader;
  }

  /** `isToCheck`: what the sinks lack may have changed since the last look. The cost grows with the open reads. */
  async look(isToCheck: boolean): Promise<Unfinished> {
    return await this.withoutVoid(isToCheck ? await this.#listLacking() : await this.#parts.ledger.list());
  }

  /**
   * Lists what attached sinks lack. Invariant: the list follows from the tables that a sink takes and those that it holds,
   * and is checked after each change of either. So no request can be lost. Returns all open incremental snapshots.
   */
  async #listLacking(): Promise<readonly TableSnapshot[]> {
    const { fanOut, lacking, ledger, state } = this.#parts;
    const open = await ledger.list();
    const isOpen = new Set(
      open.flatMap(({ sink, tableId, scope }) => (scope.kind === "table" ? [entry(sink, tableId)] : [])),
    );
    const requests = [...fanOut.sinks].flatMap((worker) =>
      lacking(worker)
        .filter((tableId) => !isOpen.has(entry(worker.name, tableId)))
        .map((tableId) => ({ tableId, sink: worker.name, scope: WHOLE, reason: LACKING, needed: true })),
    );
    if (requests.length === 0) return open;
    for (const { id } of await state.snapshots.addAll(requests)) this.carriable.add(id);
    return await ledger.list();
  }

  /**
   * What this look has found to read, for attached sinks that were not `busy` before it. Invariant: nothing for others. They
   * may have by now what was on its way to them then, and would get it again.
   */
  async turns({ open, keyCounts }: Unfinished, busy: ReadonlySet<string>): Promise<Turns> {
    const isFree = this.isFree(busy);
    const { isVoid } = this.#parts;
    const ranges = rangeReads(open.filter(({ sink, tableId }) => isFree(sink) && !isVoid(sink, tableId)));
    const now = ranges.filter((reading) => !this.#reader.holds(reading));
    return new Turns(this.#reader, now, await this.keysInTurn(keyCounts, busy), busy);
  }

  /** Whether rows can be given to a sink now. */
  isFree(busy: ReadonlySet<string>): (sink: string) => boolean {
    const attached = new Set(this.#attached);
    return (sink) => attached.has(sink) && !busy.has(sink);
  }

  /** The next reads of these turns, for attached sinks that are not `busy`. */
  next(turns: Turns, busy: ReadonlySet<string>, isHeld: boolean): readonly RangeRead[] | readonly KeyRead[] {
    return turns.next(this.isFree(busy), this.#keysNext, isHeld);
  }

  /**
   * The read had its turn. Key lookups and tables take turns in each sink: while a table is read, rows that move may list new
   * keys as fast as keys are read.
   */
  took({ kind, sinks }: SnapshotRead): void {
    for (const sink of sinks) this.#keysNext[kind === "keys" ? "delete" : "add"](sink);
  }

  /**
   * Keys of a table that is void or suspended, or can't be read, and those of a `busy` sink must not hold up other keys. Invariant: a
   * table is read once a look has shown that the source has it, for this daemon: a target that another one has prepared is not
   * prepared again.
   */
  async keysInTurn(keyCounts: Unfinished["keyCounts"], busy: ReadonlySet<string>): Promise<readonly KeyRead[]> {
    if (keyCounts.size === 0) this.#keyPaces.clear();
    if (keyCounts.size === 0) return [];
    const { state, gate, isVoid } = this.#parts;
    const held = this.#reader.tablesOfKeys(true);
    const keys: PendingKey[] = [];
    for (const sink of this.#attached.filter((name) => !busy.has(name))) {
      const listed = [...(keyCounts.get(sink)?.keys() ?? [])];
      const isReadable = (id: string): boolean => gate.table(id) !== undefined && gate.isShown(id);
      const wanted = listed.filter((id) => isReadable(id) && !held.has(id) && !isVoid(sink, id));
      if (wanted.length > 0) keys.push(...(await state.snapshots.keys([sink], wanted, KEYS_LISTED_MAX)));
    }
    return this.#keyReadings(keys.toSorted((a, b) => a.id - b.id));
  }

  /** Unfinished reads for attached sinks, of tables that flow: only these can be refused. */
  async readable(open: readonly TableSnapshot[]): Promise<readonly SnapshotRead[]> {
    const { state, gate, isVoid } = this.#parts;
    const sinks = this.#attached;
    const isFlowing = (tableId: string): boolean => gate.table(tableId) !== undefined;
    const isReadable = (sink: string, tableId: string): boolean =>
      sinks.includes(sink) && isFlowing(tableId) && !isVoid(sink, tableId);
    const readings: SnapshotRead[] = rangeReads(open.filter(({ sink, tableId }) => isReadable(sink, tableId)));
    for (const id of this.#reader.tablesOfKeys(false)) {
      const takers = sinks.filter((sink) => isReadable(sink, id));
      readings.push(...this.#keyReadings(await state.snapshots.keys(takers, [id], KEYS_LISTED_MAX)));
    }
    return readings;
  }

  /** How many listed keys of a table are looked up at once. */
  keyPace(tableId: string): KeyPace {
    const pace = this.#keyPaces.get(tableId) ?? new KeyPace();
    this.#keyPaces.set(tableId, pace);
    return pace;
  }

  #keyReadings(keys: readonly PendingKey[]): readonly KeyRead[] {
    const groups = Map.groupBy(keys, ({ sink, tableId }) => entry(sink, tableId));
    return [...groups.values()].map((group) => {
      const { tableId, sink } = group[0]!;
      return { kind: "keys", tableId, sinks: [sink], keys: group.slice(0, this.keyPace(tableId).count) };
    });
  }

  /**
   * Ends reads that have become pointless. A table that was dropped can't be read. A table that the sink leaves out, or that is
   * suspended there, is read as a whole when the sink takes it again. Invariant: the sink no longer holds such a table before
   * its read ends, or a listed key is removed; so a table that comes back as it was is read.
   */
  async withoutVoid(open: readonly TableSnapshot[]): Promise<Unfinished> {
    const { state, isVoid, logger } = this.#parts;
    const left: TableSnapshot[] = [];
    const pointless: TableSnapshot[] = [];
    for (const snapshot of open) {
      const { tableId, sink } = snapshot;
      const isToRead = !isVoid(sink, tableId) || this.#mayHold(sink, tableId);
      (isToRead ? left : pointless).push(snapshot);
    }
    await state.snapshots.cancel(
      pointless.map(({ id }) => id),
      true,
    );
    for (const [sink, ended] of Map.groupBy(pointless, (snapshot) => snapshot.sink)) {
      const tables = ended.map(({ tableId }) => tableId);
      logger.info(
        { sink, tables },
        "tables that are gone at the source, or that the sink leaves out, are not read any more",
      );
    }
    return { open: left, keyCounts: await this.keyCounts() };
  }

  /** How many keys are listed, by sink and table. Those that are void are removed. */
  async keyCounts(): Promise<Unfinished["keyCounts"]> {
    const { state, isVoid } = this.#parts;
    // Mostly no key is listed.
    const keyCounts = await state.snapshots.countKeys();
    const keys = keyCounts.size === 0 ? [] : await state.snapshots.keys(this.#attached, null, KEYS_LISTED_MAX);
    const dropped = keys.filter(({ tableId, sink }) => isVoid(sink, tableId) && !this.#mayHold(sink, tableId));
    if (dropped.length === 0) return keyCounts;
    await state.snapshots.removeKeys(dropped.map(({ id }) => id));
    return await state.snapshots.countKeys();
  }

  /** Whether the sink counts a void table as complete, or may do so. Then it is told that it lacks rows. */
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
}

/** Those of kind `differences` are not read here: a comparison finds the differences and lists them as keys. */
function rangeReads(open: readonly TableSnapshot[]): RangeRead[] {
  const ranged = open.filter(({ scope }) => scope.kind !== "differences");
  const groups = Map.groupBy(ranged, ({ tableId, scope, cursor }) => JSON.stringify([tableId, scope, cursor]));
  return [...groups.values()].map((snapshots) => {
    const { tableId, scope, cursor } = snapshots[0]!;
    return { kind: "range", tableId, sinks: snapshots.map(({ sink }) => sink), scope, cursor, snapshots };
  });
}

/** Of so many open reads, the share that has its turn before the list is looked at again: a look costs as much as it is long. */
const SHARE_PER_LOOK = 1 / 4;

/**
 * What one look has found to read: each read has one turn. A look lists every open read; if it served one round only, a
 * round of some tables would cost more the more tables are still to be read.
 */
export class Turns {
  readonly #reader: Pick<RowReader, "holds">;
  /** In their order, each with the snapshots that had no turn yet. */
  readonly #ranges: Set<{ readonly reading: RangeRead; left: readonly TableSnapshot[] }>;
  #keys: Set<KeyRead>;
  /** How many ranges are left for each sink. */
  readonly #leftOf = new Map<string, number>();
  /** Sinks of which nothing is among these reads. */
  readonly #busy: ReadonlySet<string>;
  readonly #served = new Set<string>();
  #turnCountLeft: number;

  /** `busy`: sinks that were so at the look. */
  constructor(
    reader: Pick<RowReader, "holds">,
    ranges: readonly RangeRead[],
    keys: readonly KeyRead[],
    busy: ReadonlySet<string>,
  ) {
    this.#reader = reader;
    this.#ranges = new Set(ranges.map((reading) => ({ reading, left: reading.snapshots })));
    this.#keys = new Set(keys);
    this.#busy = busy;
    for (const { sinks } of ranges) for (const sink of sinks) this.#count(sink, 1);
    this.#turnCountLeft = ranges.reduce((count, { snapshots }) => count + snapshots.length, 0) * SHARE_PER_LOOK;
  }

  /**
   * Whether the list is to be looked at again. No sink waits for the turns of those that can't take them. One whose tables had
   * theirs waits for those of others only until a look costs little beside what was read since the last one (`isCheap`).
   */
  isOver(isFree: (sink: string) => boolean, isCheap: boolean): boolean {
    if (this.#turnCountLeft < 1 || [...this.#busy].some(isFree)) return true;
    if (![...this.#served].some((sink) => isFree(sink) && !this.#leftOf.has(sink))) return false;
    return isCheap || ![...this.#leftOf.keys()].some(isFree);
  }

  /** Sinks for which there is something to read. */
  get sinks(): readonly string[] {
    return [...new Set([...this.#leftOf.keys(), ...[...this.#keys].flatMap(({ sinks }) => sinks)])];
  }

  /** Whether keys can be looked up now. */
  hasKeys(isFree: (sink: string) => boolean): boolean {
    return [...this.#keys].some((reading) => isFree(reading.sinks[0]!) && !this.#reader.holds(reading));
  }

  /** Replaces the listed keys. */
  renewKeys(keys: readonly KeyRead[]): void {
    this.#keys = new Set(keys);
  }

  /**
   * The next reads that go together; they have had their turn then. `keysNext`: sinks that got rows of a table last. `isHeld`:
   * no tables now.
   */
  next(
    isFree: (sink: string) => boolean,
    keysNext: ReadonlySet<string>,
    isHeld: boolean,
  ): readonly RangeRead[] | readonly KeyRead[] {
    const first = this.#nextKeys(isFree, (sink) => keysNext.has(sink));
    if (first.length > 0) return first;
    const ranges = isHeld ? [] : this.#nextRanges(isFree);
    return ranges.length > 0 ? ranges : this.#nextKeys(isFree, () => true);
  }

  /** Of different tables: a window is of one. */
  #nextKeys(isFree: (sink: string) => boolean, isNext: (sink: string) => boolean): readonly KeyRead[] {
    const taken = new Map<string, KeyRead>();
    for (const reading of this.#keys) {
      const sink = reading.sinks[0]!;
      if (taken.size === TOGETHER_COUNT_MAX) break;
      if (taken.has(reading.tableId) || !isFree(sink) || !isNext(sink) || this.#reader.holds(reading)) continue;
      taken.set(reading.tableId, reading);
    }
    for (const reading of taken.values()) this.#keys.delete(reading);
    return [...taken.values()];
  }

  /** A table, and if it is read from its first key others that begin for the same sinks: most are small. */
  #nextRanges(isFree: (sink: string) => boolean): readonly RangeRead[] {
    const taken: RangeRead[] = [];
    let together = "";
    for (const entry of this.#ranges) {
      const { reading, left } = entry;
      const isBeginning = reading.cursor === null && reading.scope.kind === "table";
      if (taken.length > 0 && !isBeginning) continue;
      const snapshots = left.filter(({ sink }) => isFree(sink));
      const sinks = snapshots.map(({ sink }) => sink);
      const name = sinks.toSorted().join();
      if (snapshots.length === 0 || (taken.length > 0 && name !== together)) continue;
      const one: RangeRead = { ...reading, sinks, snapshots };
      if (this.#reader.holds(one)) continue;
      taken.push(one);
      together = name;
      entry.left = left.filter((snapshot) => !snapshots.includes(snapshot));
      if (entry.left.length === 0) this.#ranges.delete(entry);
      this.#turnCountLeft -= snapshots.length;
      for (const sink of sinks) {
        this.#count(sink, -1);
        this.#served.add(sink);
      }
      if (!isBeginning || taken.length === TOGETHER_COUNT_MAX) break;
    }
    return taken;
  }

  #count(sink: string, more: 1 | -1): void {
    const count = (this.#leftOf.get(sink) ?? 0) + more;
    if (count > 0) this.#leftOf.set(sink, count);
    else this.#leftOf.delete(sink);
  }
}
