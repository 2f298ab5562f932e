import type { Completeness } from "../../core/checkpoint.ts";
import type { Clock } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type {
  EndedSnapshot,
  TableSnapshot,
  SnapshotProgress,
  SnapshotRequest,
  SnapshotStore,
} from "../../core/contracts/state-store.ts";
import { entry } from "../schema/suspended-tables.ts";

/** Progress is stored at most this often; what was read since then is read again after a crash. */
const STORE_EVERY_MS = 1_000;

/** A chunk that is durable in the incremental snapshot's sink. */
interface DurableChunk {
  readonly completeness: Completeness;
  readonly lowVersion: bigint;
  readonly last: KeyText | null;
  readonly rowCount: number;
  /** The batch of the sink's checkpoint now. */
  readonly held: number | null;
}

/**
 * How far each incremental snapshot is: updated in memory after every chunk, and once a second in the state store, for all
 * of them in one transaction. The store may be behind the sinks, never ahead of them.
 */
export class Ledger {
  readonly #clock: Clock;
  readonly #store: SnapshotStore;
  readonly #progress = new Map<number, SnapshotProgress>();
  readonly #unstored = new Set<number>();
  /** Incremental snapshots for which this process has stored something. */
  readonly #stored = new Set<number>();
  /** Attempts of which this process has read a chunk, or is about to. */
  readonly #begun = new Map<number, number>();
  /** See `willRead`. */
  readonly #ahead = new Set<string>();
  /** Ends that are about to be stored, and whether each was. */
  #ending: EndedSnapshot[] = [];
  #ended: Promise<readonly boolean[]> = Promise.resolve([]);
  #storedAtMs: number;

  constructor(clock: Clock, store: SnapshotStore) {
    this.#clock = clock;
    this.#storedAtMs = clock.elapsed();
    this.#store = store;
  }

  /** The unfinished incremental snapshots as they are now, oldest first; with `all` the finished ones too. */
  async list(all = false): Promise<readonly TableSnapshot[]> {
    const listed = await this.#store.list(all);
    if (!all) this.#forgetEnded(listed);
    return listed.map((snapshot) => this.current(snapshot));
  }

  /** The present state of an incremental snapshot that was just read from the store. */
  current(snapshot: TableSnapshot): TableSnapshot {
    const progress = this.#progress.get(snapshot.id);
    const isOpen = snapshot.state === "waiting" || snapshot.state === "running";
    if (!isOpen || progress === undefined || progress.attempt !== snapshot.attempt) return snapshot;
    return { ...snapshot, ...progress, state: "running" };
  }

  #forgetEnded(open: readonly TableSnapshot[]): void {
    const ids = new Set(open.map(({ id }) => id));
    for (const known of [this.#progress, this.#begun, this.#unstored, this.#stored]) {
      for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
    }
  }

  /** From here on some of it may have been read. */
  begin({ id, attempt, sink, tableId }: TableSnapshot): void {
    this.#begun.set(id, attempt);
    this.#ahead.delete(entry(sink, tableId));
  }

  /** True if nothing of it was read, by this process or, as far as is known, by an earlier one. */
  isAhead({ id, attempt, state }: TableSnapshot): boolean {
    return state === "waiting" && this.#begun.get(id) !== attempt;
  }

  /**
   * True while this sink is going to get a whole copy of the table, of which nothing was read yet. That copy brings
   * everything that the sink lacks of changes that it applies now.
   */
  willRead(sink: string, tableId: string): boolean {
    return this.#ahead.has(entry(sink, tableId));
  }

  /** Called by the part that begins incremental snapshots, with the open ones. */
  noteAhead(open: readonly TableSnapshot[]): void {
    this.#ahead.clear();
    for (const snapshot of open) {
      if (snapshot.scope.kind !== "table" || !this.isAhead(snapshot)) continue;
      this.#ahead.add(entry(snapshot.sink, snapshot.tableId));
    }
  }

  /** The incremental snapshot's progress after this chunk. `snapshot`: as it was when the chunk was read. */
  after(snapshot: TableSnapshot, { completeness, lowVersion, last, rowCount, held }: DurableChunk): SnapshotProgress {
    const { id, attempt } = snapshot;
    const isResumed = snapshot.cursor !== null && !this.#progress.has(id);
    return {
      id,
      attempt,
      completeness,
      // Invariant: the first value stays, also over restarts. Rows that were read since have this version or a higher one;
      // stale rows have a lower one.
      sweepBelow: snapshot.sweepBelow ?? lowVersion,
      cursor: last ?? snapshot.cursor,
      held,
      rowsDone: snapshot.rowsDone + rowCount,
      chunksDone: snapshot.chunksDone + 1,
      resumedCount: snapshot.resumedCount + (isResumed ? 1 : 0),
    };
  }

  note(progress: SnapshotProgress): void {
    this.#progress.set(progress.id, progress);
    this.#unstored.add(progress.id);
  }

  /** False if the incremental snapshot has begun again, or ended, meanwhile. `settledAt`: see SnapshotStore. */
  async finish(progress: SnapshotProgress, settledAt: number | undefined): Promise<boolean> {
    this.#unstored.delete(progress.id);
    const before = this.#ending;
    before.push({ progress, settledAt });
    const place = before.length - 1;
    if (place === 0) this.#ended = this.#finishAll(before);
    return (await this.#ended)[place]!;
  }

  /** Those that end with the same batch of a sink, and those of other sinks meanwhile, are one transaction. */
  async #finishAll(ending: readonly EndedSnapshot[]): Promise<readonly boolean[]> {
    await Promise.resolve();
    this.#ending = [];
    return await this.#store.finishAll(ending);
  }

  /** Reads rows again from the first key, unless nothing of them was read yet. Resolves when that is stored. */
  async again(requests: readonly SnapshotRequest[]): Promise<readonly TableSnapshot[]> {
    return await this.#store.again(requests, (open) => this.isAhead(this.current(open)));
  }

  /** The first chunk of each is stored at once, so that a process that is killed soon after leaves a trace. */
  async storeInTime(): Promise<void> {
    const isDue = this.#clock.elapsed() - this.#storedAtMs >= STORE_EVERY_MS;
    if (isDue || [...this.#unstored].some((id) => !this.#stored.has(id))) await this.store();
  }

  async store(): Promise<void> {
    this.#storedAtMs = this.#clock.elapsed();
    const unstored = [...this.#unstored].flatMap((id) => this.#progress.get(id) ?? []);
    if (unstored.length === 0) return;
    await this.#store.advance(unstored);
    for (const { id } of unstored) this.#stored.add(id);
    for (const one of unstored) if (this.#progress.get(one.id) === one) this.#unstored.delete(one.id);
    failpoint("snapshot.stored");
  }

  /** The tables of which the sink has got a part, and what that is a part of. */
  async partsOf(sink: string): Promise<readonly (readonly [tableId: string, part: Completeness])[]> {
    const running = (await this.list()).filter((snapshot) => snapshot.sink === sink && snapshot.state === "running");
    return running.flatMap(({ tableId, completeness }) => (completeness === null ? [] : [[tableId, completeness]]));
  }

  /**
   * Called when a sink is about to continue from the checkpoint of this batch (null: from nothing that is known), without
   * the tables `missing`. Incremental snapshots that have lost rows in the sink begin again from the first key. Invariant: this is
   * durable before the sink moves, because afterwards the loss can't be seen any more.
   */
  async rejoin(sink: string, batch: number | null, missing: ReadonlySet<string>): Promise<void> {
    await this.store();
    const running = (await this.list()).filter((snapshot) => snapshot.sink === sink && snapshot.state === "running");
    const short = running.filter(
      ({ held, tableId }) => batch === null || held === null || batch < held || missing.has(tableId),
    );
    await this.#store.restart(short.map(({ id }) => id));
  }
}
