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
