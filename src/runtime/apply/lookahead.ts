import type { TableWrites } from "../../core/model/batch.ts";
import type { Clock } from "../../core/clock.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Netted } from "../netting/netting.ts";
import { type Plan, planOf } from "./plan.ts";
import type { BatchLimits, SinkQueue, TakenRows } from "./sink-queue.ts";

/** The netted rows of a plan, as long as the answers stand that they rest on. */
export class NettedAhead {
  readonly #reached: Position;
  readonly #wants = new Answers();
  readonly #complete = new Answers();
  readonly netted: Netted;

  constructor({ net, wants, isComplete }: LookaheadParts, plan: Plan, reached: Position) {
    this.#reached = reached;
    this.netted = net(plan, this.#wants.of(wants), this.#complete.of(isComplete));
  }

  stands(reached: Position): boolean {
    return comparePositions(reached, this.#reached) === 0 && this.#wants.stand && this.#complete.stand;
  }
}

type Ask = (table: TableVersion) => boolean;

/** What was asked of each table, and what the answer was. */
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

  get stand(): boolean {
    for (const [table, answer] of this.#given) if (this.#ask(table) !== answer) return false;
    return true;
  }
}

export interface LookaheadParts {
  readonly clock: Clock;
  readonly queue: SinkQueue;
  readonly limits: BatchLimits;
  readonly wants: Ask;
  readonly isComplete: Ask;
  /** Leaves the result of the call before it alone. */
  readonly net: (plan: Plan, wants: Ask, isComplete: Ask) => Netted;
  readonly stage: (tables: readonly TableWrites[]) => void;
}

export interface Prepared {
  readonly taken: TakenRows;
  /** Null where nothing could be said ahead. */
  readonly ahead: NettedAhead | null;
}

/**
 * The batch behind the one in flight, netted and made ready while the target is at work on that. Only a whole one is
 * taken before its turn: a smaller one may yet grow.
 */
export class Lookahead {
  readonly #parts: LookaheadParts;
  /** Where the step in flight will leave the sink; null as long as there is something to do for that. */
  #reached: Position | null = null;
  #isLooking = false;
  #prepared: Prepared | null = null;

  constructor(parts: LookaheadParts) {
    this.#parts = parts;
    parts.queue.onPush = () => this.#look();
  }

  get isEmpty(): boolean {
    return this.#prepared === null;
  }

  /** While the sink waits with a step which will leave it at `reached`, the batch behind that is made ready. */
  async during(reached: Position, step: (onWaiting: () => void) => Promise<void>): Promise<void> {
    let isDone = false;
    const onWaiting = (): void => {
      if (isDone) return;
      this.#reached = reached;
      this.#look();
    };
    try {
      await step(onWaiting);
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

  /** In a turn of its own, as whoever calls is at work. */
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
    const { queue, limits, stage } = this.#parts;
    const taken = queue.takeRows(limits);
    if (taken === null) return;
    this.#prepared = { taken, ahead: null };
    try {
      const plan = planOf(taken.works, reached);
      if (plan === null) return;
      const ahead = new NettedAhead(this.#parts, plan, reached);
      if (ahead.netted.unkeyed.length > 0 || ahead.netted.failed.size > 0) return;
      stage(ahead.netted.tables);
      this.#prepared = { taken, ahead };
    } catch {
      // In its turn it is done again, and what goes wrong then is the sink's failure.
    }
  }
}
