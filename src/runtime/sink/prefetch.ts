import type { Clock } from "../../core/clock.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { type Compacted, Compactor } from "../compaction/compaction.ts";
import {
  type BatchLimits,
  type QueuedRows,
  queuedRowsOf,
  type QueuedRowWorks,
  type SinkQueue,
} from "../stream/sink-queue.ts";
import type { SinkPosition } from "./sink-position.ts";
import type { SinkTableAnswers } from "./sink-tables.ts";

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

/** The compacted rows of a batch. They are valid as long as the answers are the same that the compaction was based on. */
export class CompactedAhead {
  readonly #reached: Position;
  readonly #wants = new Answers();
  readonly #complete = new Answers();
  readonly compacted: Compacted;

  constructor(
    compactor: Compactor,
    { slices, since }: QueuedRows,
    answers: { readonly wants: Ask; readonly isComplete: Ask; readonly reached: Position },
  ) {
    this.#reached = answers.reached;
    this.compacted = compactor.compact(
      slices,
      this.#wants.of(answers.wants),
      since,
      this.#complete.of(answers.isComplete),
    );
  }

  isValid(reached: Position): boolean {
    return comparePositions(reached, this.#reached) === 0 && this.#wants.areSame && this.#complete.areSame;
  }
}

interface PrefetchParts {
  readonly clock: Clock;
  readonly sink: Pick<Sink, "name" | "form" | "readersHold" | "prefetch">;
  readonly queue: SinkQueue;
  readonly limits: BatchLimits;
  readonly tables: SinkTableAnswers;
  readonly position: SinkPosition;
}

export interface Prepared {
  readonly taken: QueuedRowWorks;
  /** Null if the batch could not be compacted ahead. */
  readonly ahead: CompactedAhead | null;
}

/**
 * Compacts the rows of a sink's batches. While the target works on one batch, it compacts and renders the next one. It takes
 * only a full batch early, because a smaller one may still grow.
 * Nothing of the next batch is sent before the last one is answered: behind a batch that fails another one would be on its
 * way, and the fence alone would have to stop it.
 */
export class Prefetch {
  readonly #parts: PrefetchParts;
  /** They take turns: the result of one stays valid while the other compacts. */
  readonly #compactors: readonly [Compactor, Compactor];
  #compactions = 0;
  readonly #wants: Ask;
  readonly #isComplete: Ask;
  /** The sink's position after the batch in flight; null unless the sink waits for its target. */
  #reached: Position | null = null;
  #isLooking = false;
  #prepared: Prepared | null = null;

  constructor(parts: PrefetchParts) {
    const { sink, queue, tables, position } = parts;
    this.#parts = parts;
    this.#compactors = [new Compactor(sink.form, sink), new Compactor(sink.form, sink)];
    this.#wants = (table) => tables.wants(table);
    this.#isComplete = ({ id }) => position.holds(id);
    const onPush = (): void => this.#look();
    queue.onPush = onPush;
  }

  /** Compacts the rows, unless that was done ahead and is still valid. */
  compacted(queued: QueuedRows, ahead: CompactedAhead | null): Compacted {
    if (ahead?.isValid(this.#parts.position.reached) === true) return ahead.compacted;
    return this.#next().compact(queued.slices, this.#wants, queued.since, this.#isComplete);
  }

  #next(): Compactor {
    return this.#compactors[this.#compactions++ % 2]!;
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
    const { queue, limits, sink } = this.#parts;
    const taken = queue.takeRows(limits);
    if (taken === null) return;
    this.#prepared = { taken, ahead: null };
    try {
      const queued = queuedRowsOf(taken.works, reached, sink.form);
      if (queued === null) return;
      const answers = { wants: this.#wants, isComplete: this.#isComplete, reached };
      const ahead = new CompactedAhead(this.#next(), queued, answers);
      if (ahead.compacted.unkeyed.length > 0 || ahead.compacted.failed.size > 0) return;
      sink.prefetch?.prefetchRows(ahead.compacted.tables);
      this.#prepared = { taken, ahead };
    } catch {
      // The batch is compacted again when its turn comes; if that fails too, the sink reports it.
    }
  }
}
