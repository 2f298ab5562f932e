import type { Completeness } from "../../core/checkpoint/completeness.ts";
import type { Clock } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { Refill, RefillProgress, RefillRequest, RefillStore } from "../../core/contracts/state-store.ts";
import { entry } from "../entry.ts";

/** Progress is stored so often at most: what was read since is read again after a crash. */
const STORE_EVERY_MS = 1_000;

/** A chunk that is durable in the refill's sink. */
export interface DurableChunk {
  readonly completeness: Completeness;
  readonly lowVersion: bigint;
  readonly last: KeyText | null;
  readonly rowCount: number;
  /** The step of the sink's checkpoint now. */
  readonly held: number | null;
}

/**
 * How far each refill is: in memory with every chunk, in the state store once a second, for all of them in one
 * transaction. The store may be behind what the sinks have, never ahead of it.
 */
export class RefillLedger {
  readonly #clock: Clock;
  readonly #store: RefillStore;
  readonly #progress = new Map<number, RefillProgress>();
  readonly #unstored = new Set<number>();
  /** Of which something was stored by this process. */
  readonly #stored = new Set<number>();
  /** Attempts of which this process has read a chunk, or is about to. */
  readonly #begun = new Map<number, number>();
  /** See `willRead`. */
  readonly #ahead = new Set<string>();
  #storedAtMs: number;

  constructor(clock: Clock, store: RefillStore) {
    this.#clock = clock;
    this.#storedAtMs = clock.elapsed();
    this.#store = store;
  }

  /** The unfinished ones as they are now, oldest first; with `all` the finished ones too. */
  async list(all = false): Promise<readonly Refill[]> {
    const listed = await this.#store.list(all);
    if (!all) this.#forgetEnded(listed);
    return listed.map((refill) => this.current(refill));
  }

  /** A refill that was just read from the store, as it is now. */
  current(refill: Refill): Refill {
    const progress = this.#progress.get(refill.id);
    const isOpen = refill.state === "waiting" || refill.state === "running";
    if (!isOpen || progress === undefined || progress.attempt !== refill.attempt) return refill;
    return { ...refill, ...progress, state: "running" };
  }

  #forgetEnded(open: readonly Refill[]): void {
    const ids = new Set(open.map(({ id }) => id));
    for (const known of [this.#progress, this.#begun, this.#unstored, this.#stored]) {
      for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
    }
  }

  /** From here on some of it may have been read. */
  begin({ id, attempt, sink, tableId }: Refill): void {
    this.#begun.set(id, attempt);
    this.#ahead.delete(entry(sink, tableId));
  }

  /** True where nothing of it was read, by this process or, as far as one knows, by an earlier one. */
  isAhead({ id, attempt, state }: Refill): boolean {
    return state === "waiting" && this.#begun.get(id) !== attempt;
  }

  /**
   * True while a whole copy of the table lies ahead for this sink, with nothing of it read yet: whatever the sink lacks of
   * changes that it applies now will come with that copy.
   */
  willRead(sink: string, tableId: string): boolean {
    return this.#ahead.has(entry(sink, tableId));
  }

  /** By who begins them, from what is open now. */
  noteAhead(open: readonly Refill[]): void {
    this.#ahead.clear();
    for (const refill of open) {
      if (refill.scope.kind !== "table" || !this.isAhead(refill)) continue;
      this.#ahead.add(entry(refill.sink, refill.tableId));
    }
  }

  /** How far the refill is with this chunk. `refill` as it was when the chunk was read. */
  after(refill: Refill, { completeness, lowVersion, last, rowCount, held }: DurableChunk): RefillProgress {
    const { id, attempt } = refill;
    const isResumed = refill.cursor !== null && !this.#progress.has(id);
    return {
      id,
      attempt,
      completeness,
      // Invariant: the first one stays, over restarts too. What was read since lies at or above it, what is stale below.
      sweepBelow: refill.sweepBelow ?? lowVersion,
      cursor: last ?? refill.cursor,
      held,
      rowsDone: refill.rowsDone + rowCount,
      chunksDone: refill.chunksDone + 1,
      resumedCount: refill.resumedCount + (isResumed ? 1 : 0),
    };
  }

  note(progress: RefillProgress): void {
    this.#progress.set(progress.id, progress);
    this.#unstored.add(progress.id);
  }

  /** False where the refill has begun again, or ended, since. `settledAt`: see RefillStore. */
  async finish(progress: RefillProgress, settledAt: number | undefined): Promise<boolean> {
    this.#unstored.delete(progress.id);
    return await this.#store.finish(progress, settledAt);
  }

  /** Has rows read again from the first key, unless nothing was read of them yet; resolves when that is stored. */
  async again(request: RefillRequest): Promise<Refill> {
    return await this.#store.again(request, (open) => this.isAhead(this.current(open)));
  }

  /** The first chunk of each is told at once: a process that is killed soon after leaves a trace, too. */
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
    failpoint("refill.stored");
  }

  /** Tables of which the sink was given a part. */
  async partsOf(sink: string): Promise<ReadonlySet<string>> {
    const open = await this.list();
    return new Set(open.filter((r) => r.sink === sink && r.state === "running").map(({ tableId }) => tableId));
  }

  /**
   * A sink that is about to go on from the checkpoint of this step (null: from nothing that is known), without the tables
   * `missing`: what it has lost of a refill is read from the first key again. Invariant: that is durable before the sink
   * moves, for afterwards nobody can tell any more.
   */
  async rejoin(sink: string, step: number | null, missing: ReadonlySet<string>): Promise<void> {
    await this.store();
    for (const refill of await this.list()) {
      if (refill.sink !== sink || refill.state !== "running") continue;
      const isShort = step === null || refill.held === null || step < refill.held || missing.has(refill.tableId);
      if (isShort) await this.#store.restart(refill.id);
    }
  }
}
