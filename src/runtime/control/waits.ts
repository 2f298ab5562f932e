import type { Condition } from "../../core/conditions/condition.ts";
import { type Scope, scopeOf } from "../../core/clock.ts";
import { abortedError, findMillraceError, type MillraceError } from "../../core/errors.ts";
import { encodeMark } from "../stream/marks.ts";
import { isTriedAgain } from "../retry.ts";
import type { Pipeline } from "../pipeline.ts";

/** They look after each news, and this often, because some changes bring none. */
const LOOK_MS = 250;

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
  readonly done: () => void;
  readonly fail: (error: unknown) => void;
}

/** Those who wait until every sink has all before a position. One look serves all of them. */
export class Waits {
  readonly #pipeline: Pipeline;
  readonly #blocking: () => readonly Condition[];
  readonly #missing: (tip: bigint, blocking: readonly Condition[]) => readonly string[];
  readonly #waiters = new Set<Waiter>();
  #isLooking = false;

  /** `missing`: what still has to happen until every sink holds everything before `tip`. */
  constructor(
    pipeline: Pipeline,
    blocking: () => readonly Condition[],
    missing: (tip: bigint, blocking: readonly Condition[]) => readonly string[],
  ) {
    this.#pipeline = pipeline;
    this.#blocking = blocking;
    this.#missing = missing;
  }

  async until(tip: bigint, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { tip, done: resolve, fail: reject };
    const onAbort = (): void => reject(abortedError(signal));
    signal.addEventListener("abort", onAbort, { once: true });
    this.#waiters.add(waiter);
    try {
      if (this.#isLooking) this.#pipeline.news.tell();
      else void this.#look();
      await promise;
    } finally {
      this.#waiters.delete(waiter);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Looks for as long as somebody waits. */
  async #look(): Promise<void> {
    const { clock, news } = this.#pipeline;
    const forever = new AbortController().signal;
    this.#isLooking = true;
    while (this.#waiters.size > 0) {
      const told = news.count;
      try {
        const blocking = this.#blocking();
        for (const { tip, done } of this.#waiters) if (this.#missing(tip, blocking).length === 0) done();
      } catch (error) {
        for (const { fail } of this.#waiters) fail(error);
      }
      await news.after(told, clock, LOOK_MS, forever);
    }
    this.#isLooking = false;
  }
}
