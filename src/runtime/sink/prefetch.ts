import type { TableWrites } from "../../core/model/batch.ts";
import type { Clock } from "../../core/clock.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Compacted } from "../compaction/compaction.ts";
import { type QueuedRows, queuedRowsOf } from "./queued-rows.ts";
import type { BatchLimits, SinkQueue, QueuedRowWorks } from "../stream/sink-queue.ts";

/** The compacted rows of a batch. They are valid as long as the answers are the same that the compaction was based on. */
export class CompactedAhead {
  readonly #reached: Position;
  readonly #wants = new Answers();
  readonly #complete = new Answers();
  readonly compacted: Compacted;

  constructor({ compact, wants, isComplete }: PrefetchParts, queued: QueuedRows, reached: Position) {
    this.#reached = reached;
    this.compacted = compact(queued, this.#wants.of(wants), this.#complete.of(isComplete));
  }

  isValid(reached: Position): boolean {
    return comparePositions(reached, this.#reached) === 0 && this.#wants.areSame && this.#complete.areSame;
  }
}

type Ask = (table: TableVersion) => boolean;

/** The answers that were given for each table. */
class Answers {
  readonly #given = new Map<TableVersion, boolean>();
  #ask: Ask = () => false;

  of(ask: Ask): Ask {
    this.#ask = ask;
    return (table) => {
      let answer = this.#given.get(table);
      if (answer === undefined) this.#given.set(table, (answer = ask(table)));
      return answer;
    };
  }

  get areSame(): boolean {
    for (const [table, answer] of this.#given) if (this.#ask(table) !== answer) return false;
    return true;
  }
}

export interface PrefetchParts {
  readonly clock: Clock;
  readonly sink: Pick<Sink, "form">;
  readonly queue: SinkQueue;
  readonly limits: BatchLimits;
  readonly wants: Ask;
  readonly isComplete: Ask;
  /** Does not touch the result of the previous call. */
  readonly compact: (queued: QueuedRows, wants: Ask, isComplete: Ask) => Compacted;
  readonly prefetch: (tables: readonly TableWrites[]) => void;
}

export interface Prepared {
  readonly taken: QueuedRowWorks;
  /** Null if the batch could not be compacted ahead. */
  readonly ahead: CompactedAhead | null;
}

/**
 * Compacts and renders the next batch while the target works on the one in flight. It takes only a full batch early, because a
 * smaller one may still grow.
 */
export class Prefetch {
  readonly #parts: PrefetchParts;
  /** The sink's position after the batch in flight; null unless the sink waits for its target. */
  #reached: Position | null = null;
  #isLooking = false;
  #prepared: Prepared | null = null;

  constructor(parts: PrefetchParts) {
    this.#parts = parts;
    const onPush = (): void => this.#look();
    parts.queue.onPush = onPush;
  }

  get isEmpty(): boolean {
    return this.#prepared === null;
  }

  /** Runs `batch`, which moves the sink to `reached`. While the batch waits for the target, the next batch is prepared. */
  async during(reached: Position, batch: (onWaiting: () => void) => Promise<void>): Promise<void> {
    let isDone = false;
    const onWaiting = (): void => {
      if (isDone) return;
      this.#reached = reached;
      this.#look();
    };
    try {
      await batch(onWaiting);
    } finally {
      isDone = true;
      this.#reached = null;
    }
  }

  take(): Prepared | null {
    const prepared = this.#prepared;
    this.#prepared = null;
    return prepared;
  }

  drop(): void {
    const prepared = this.take();
    if (prepared !== null) this.#parts.queue.done(prepared.taken, "dropped");
  }

  /** In a separate task, because the caller is busy. */
  #look(): void {
    if (this.#isLooking || !this.#mayPrepare) return;
    this.#isLooking = true;
    this.#parts.clock.later(() => {
      this.#isLooking = false;
      if (this.#mayPrepare) this.#prepare(this.#reached!);
    });
  }

  get #mayPrepare(): boolean {
    const { queue, limits } = this.#parts;
    return this.#reached !== null && this.isEmpty && queue.isFull(limits);
  }

  #prepare(reached: Position): void {
    const { queue, limits, prefetch, sink } = this.#parts;
    const taken = queue.takeRows(limits);
    if (taken === null) return;
    this.#prepared = { taken, ahead: null };
    try {
      const queued = queuedRowsOf(taken.works, reached, sink.form);
      if (queued === null) return;
      const ahead = new CompactedAhead(this.#parts, queued, reached);
      if (ahead.compacted.unkeyed.length > 0 || ahead.compacted.failed.size > 0) return;
      prefetch(ahead.compacted.tables);
      this.#prepared = { taken, ahead };
    } catch {
      // The batch is compacted again when its turn comes; if that fails too, the sink reports it.
    }
  }
}
