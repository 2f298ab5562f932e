/** How parts wait for each other: for news, for an item, for a turn, or for an answer within a time. */
import { type Clock, TIMER_MS_MAX } from "./clock.ts";
import { abortedError } from "./errors.ts";

/**
 * Says that something may be otherwise by now: those who wait for a condition look again. A condition is looked at after each
 * change, so nothing depends on what was told.
 */
export class News {
  #count = 0;
  readonly #waiting = new Set<() => void>();

  /** How often something was told: taken before a look, for `after`. */
  get count(): number {
    return this.#count;
  }

  tell(): void {
    this.#count++;
    for (const wake of this.#waiting) wake();
  }

  /** Resolves when more was told than `count`, or after `ms`: by then also what nobody tells of is seen. */
  async after(count: number, clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#count > count) return;
    // All the time somebody waits: a signal of its own for each wait costs more than the rest of it.
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    const takeBack = clock.after(ms, wake);
    this.#waiting.add(wake);
    signal.addEventListener("abort", wake);
    await promise;
    takeBack();
    this.#waiting.delete(wake);
    signal.removeEventListener("abort", wake);
    signal.throwIfAborted();
  }
}

interface Waiter<Item> {
  readonly resolve: (item: Item) => void;
  readonly reject: (error: unknown) => void;
}

/** Lets one reader wait for a stream's next item; `ChangeStream.next` builds on it. */
export class OneReader<Item> {
  #waiter: Waiter<Item> | undefined;

  get waits(): boolean {
    return this.#waiter !== undefined;
  }

  /** Resolves by `give`, rejects by `fail`, or with `stopped` when the signal aborts. */
  wait(signal: AbortSignal, stopped: () => Error): Promise<Item> {
    if (this.#waiter !== undefined) return Promise.reject(new Error("one reader at a time"));
    if (signal.aborted) return Promise.reject(stopped());
    const { promise, resolve, reject } = Promise.withResolvers<Item>();
    const stop = (): void => {
      this.#waiter = undefined;
      reject(stopped());
    };
    signal.addEventListener("abort", stop, { once: true });
    const settled = (): void => signal.removeEventListener("abort", stop);
    this.#waiter = {
      resolve: (item) => {
        settled();
        resolve(item);
      },
      reject: (error) => {
        settled();
        reject(error);
      },
    };
    return promise;
  }

  give(item: Item): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.resolve(item);
  }

  fail(error: unknown): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    waiter?.reject(error);
  }
}

/** Lets callers in one at a time, in the order in which they ask. */
export class Turn {
  #last: Promise<void> = Promise.resolve();

  /** Resolves when the caller's turn comes; disposing of the result ends the turn. */
  async take(signal: AbortSignal): Promise<Disposable> {
    const before = this.#last;
    const own = Promise.withResolvers<void>();
    this.#last = before.then(() => own.promise);
    const aborted = Promise.withResolvers<void>();
    const onAbort = (): void => aborted.resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    if (!signal.aborted) await Promise.race([before, aborted.promise]);
    signal.removeEventListener("abort", onAbort);
    if (signal.aborted) {
      own.resolve();
      signal.throwIfAborted();
    }
    return { [Symbol.dispose]: () => own.resolve() };
  }

  /** Does the work when its turn comes. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#last;
    const own = Promise.withResolvers<void>();
    this.#last = before.then(() => own.promise);
    await before;
    try {
      return await work();
    } finally {
      own.resolve();
    }
  }
}

interface Limits<L> {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Infinity: as long as a timer can wait. */
  readonly timeoutMs: number;
  /** What counts as the result when the time is up; it may throw. */
  readonly late: () => L;
  /** The error when the signal is aborted. Default: the signal's reason. */
  readonly stopped?: () => Error;
}

/** The work's result, or what the limit says that came first; a limit does not stop the work. */
export async function withTimeout<T, L>(
  work: Promise<T>,
  { clock, signal, timeoutMs, late, stopped = () => abortedError(signal) }: Limits<L>,
): Promise<T | L> {
  if (signal.aborted) {
    // Nobody else awaits the work: an unhandled rejection would end the process.
    work.catch(() => {});
    throw stopped();
  }
  const { promise: limit, resolve, reject } = Promise.withResolvers<void>();
  const takeBack = clock.after(Math.min(timeoutMs, TIMER_MS_MAX), () => resolve());
  const onAbort = (): void => reject(stopped());
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([work, limit.then(late)]);
  } finally {
    takeBack();
    signal.removeEventListener("abort", onAbort);
  }
}

/** A state that is well answers in milliseconds. */
const ANSWER_MS_MAX = 1_000;
const NEVER = new AbortController().signal;

/**
 * For those who only want to show something: a state that does not answer keeps nobody from hearing so. What it said last
 * counts then.
 */
export class LastAnswer<T> {
  readonly #clock: Clock;
  #last: T;
  /** When the oldest question was asked that has no answer yet; null: all have. */
  #askedMs: number | null = null;
  #hasAnswer = false;

  /** `first`: until there is an answer. */
  constructor(clock: Clock, first: T) {
    this.#clock = clock;
    this.#last = first;
  }

  /** False: what it says is what nobody has answered yet. */
  get hasAnswer(): boolean {
    return this.#hasAnswer;
  }

  async to(question: () => Promise<T>): Promise<T> {
    const clock = this.#clock;
    if (this.#askedMs !== null && clock.elapsed() - this.#askedMs > ANSWER_MS_MAX) return this.#last;
    const limits = { clock, signal: NEVER, timeoutMs: ANSWER_MS_MAX, late: () => this.#last };
    return await withTimeout(this.#ask(question), limits);
  }

  async #ask(question: () => Promise<T>): Promise<T> {
    const atMs = this.#clock.elapsed();
    this.#askedMs ??= atMs;
    try {
      this.#last = await question();
      this.#hasAnswer = true;
      return this.#last;
    } finally {
      if (this.#askedMs === atMs) this.#askedMs = null;
    }
  }
}
