import type { Condition } from "../../core/conditions/condition.ts";
import { type Scope, scopeOf } from "../../core/clock.ts";
import { abortedError, findMillraceError, type MillraceError } from "../../core/errors.ts";
import { encodeMark } from "../stream/fan-out.ts";
import { isTriedAgain } from "../retry.ts";
import type { Pipeline } from "../pipeline.ts";
import { LOOK_MS, SharedLook } from "./shared-look.ts";

/** One reading of the source's position, for all who came before it began. */
interface Round {
  readonly scope: Scope;
  readonly tip: Promise<bigint>;
  joined: number;
}

/** Where the source is, with a mark behind it: while one is made, all who come wait for the next. */
export class MarkedTips {
  readonly #pipeline: Pipeline;
  /** Has not begun. */
  #next: Round | null = null;
  /** Resolves when the present one has ended. */
  #present: Promise<void> = Promise.resolve();
  #error: MillraceError | null = null;

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline;
  }

  /** Why the source did not answer to the last attempt; null: it did, or was not asked. */
  get error(): MillraceError | null {
    return this.#error;
  }

  /** Read after the call. A source that is away, or refuses, is asked again. */
  async marked(signal: AbortSignal): Promise<bigint> {
    signal.throwIfAborted();
    const round = (this.#next ??= this.#plan());
    round.joined++;
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(abortedError(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([round.tip, aborted]);
    } finally {
      signal.removeEventListener("abort", onAbort);
      if (--round.joined === 0) {
        round.scope.end();
        if (this.#next === round) this.#next = null;
      }
    }
  }

  #plan(): Round {
    const scope = scopeOf();
    const begin = this.#present;
    const tip = (async (): Promise<bigint> => {
      await begin;
      // Who comes from now on may have committed after the source is asked.
      if (this.#next?.scope === scope) this.#next = null;
      return await this.#mark(scope.signal);
    })();
    this.#present = tip.then(
      () => undefined,
      () => undefined,
    );
    return { scope, tip, joined: 0 };
  }

  async #mark(signal: AbortSignal): Promise<bigint> {
    const { clock, news, source } = this.#pipeline;
    for (;;) {
      signal.throwIfAborted();
      const told = news.count;
      try {
        const tip = await source.log.tip(signal);
        await source.watermarks.mark(encodeMark({ edge: null }), signal);
        this.#error = null;
        return tip;
      } catch (error) {
        const known = findMillraceError(error);
        if (signal.aborted || known === undefined || !isTriedAgain(known)) throw error;
        this.#error = known;
      }
      await news.after(told, clock, LOOK_MS, signal);
    }
  }
}

interface Waiter {
  readonly tip: bigint;
}

/** Those who wait until every sink has all before a position. */
export class Waits {
  readonly #pipeline: Pipeline;
  readonly #look: SharedLook<Waiter, void>;

  /** `missing`: what still has to happen until every sink holds everything before `tip`. */
  constructor(
    pipeline: Pipeline,
    blocking: () => readonly Condition[],
    missing: (tip: bigint, blocking: readonly Condition[]) => readonly string[],
  ) {
    this.#pipeline = pipeline;
    this.#look = new SharedLook(pipeline, (waiters) => {
      const now = blocking();
      for (const [{ tip }, { resolve }] of waiters) if (missing(tip, now).length === 0) resolve();
    });
  }

  async until(tip: bigint, signal: AbortSignal): Promise<void> {
    const reached = this.#look.until({ tip }, signal);
    this.#pipeline.news.tell();
    await reached;
  }
}
