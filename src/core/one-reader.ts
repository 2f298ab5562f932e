interface Waiter<Item> {
  readonly resolve: (item: Item) => void;
  readonly reject: (error: unknown) => void;
}

/** The one reader of a stream while it waits for its next item: what `ChangeStream.next` stands on. */
export class OneReader<Item> {
  #waiter: Waiter<Item> | undefined;

  get waits(): boolean {
    return this.#waiter !== undefined;
  }

  /** Settled by `give` or `fail`, or with `stopped` by the signal. */
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
