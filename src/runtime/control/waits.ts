import type { Condition } from "../../core/conditions/condition.ts";
import { type Scope, scopeOf } from "../../core/clock.ts";
import { abortedError, findMillraceError, type MillraceError } from "../../core/errors.ts";
import { encodeMark } from "../stream/fan-out.ts";
import { isTriedAgain } from "../retry.ts";
import type { Pipeline } from "../pipeline.ts";

/** They look after each news, and this often, because some changes bring none. */
export const LOOK_MS = 250;

/** What ends the wait of one who waits. */
export type Waiting<T> = Pick<PromiseWithResolvers<T>, "resolve" | "reject">;

/** Those who wait, and one loop that looks for all of them, for as long as there are any. */
export class SharedLook<Waiter extends object, T> {
  readonly #pipeline: Pick<Pipeline, "clock" | "news">;
  readonly #look: (waiters: ReadonlyMap<Waiter, Waiting<T>>) => void;
  readonly #waiters = new Map<Waiter, Waiting<T>>();
  #isLooking = false;

  /** `look` ends the wait of those for whom it is over; where it fails, it is over for all. */
  constructor(pipeline: Pick<Pipeline, "clock" | "news">, look: (waiters: ReadonlyMap<Waiter, Waiting<T>>) => void) {
    this.#pipeline = pipeline;
    this.#look = look;
  }

  get waiters(): ReadonlyMap<Waiter, Waiting<T>> {
    return this.#waiters;
  }

  /** The first look for who comes while others wait is the next one. */
  async until(waiter: Waiter, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const onAbort = (): void => reject(abortedError(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    this.#waiters.set(waiter, { resolve, reject });
    try {
      if (!this.#isLooking) void this.#loop();
      return await promise;
    } finally {
      this.#waiters.delete(waiter);
      signal.removeEventListener("abort", onAbort);
    }
  }

  async #loop(): Promise<void> {
    const { clock, news } = this.#pipeline;
    const forever = new AbortController().signal;
    this.#isLooking = true;
    while (this.#waiters.size > 0) {
      const told = news.count;
      try {
        this.#look(this.#waiters);
      } catch (error) {
        for (const { reject } of this.#waiters.values()) reject(error);
      }
      await news.after(told, clock, LOOK_MS, forever);
    }
    this.#isLooking = false;
  }
}

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
