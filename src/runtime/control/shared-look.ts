import { abortedError } from "../../core/errors.ts";
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
