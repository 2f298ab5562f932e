import type { Client } from "pg";

/** One connection: opened at first use, and again after it was dropped or broke. Callers take turns. */
export class OneConnection {
  readonly #open: () => Promise<Client>;
  #client: Promise<Client> | undefined;
  #before: Promise<unknown> = Promise.resolve();

  constructor(open: () => Promise<Client>) {
    this.#open = open;
  }

  /** The driver accepts one statement at a time. `wait` limits the wait for the previous work. */
  async inTurn<T>(work: () => Promise<T>, wait = async (before: Promise<unknown>) => await before): Promise<T> {
    const before = this.#before;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#before = before.then(() => promise);
    try {
      await wait(before);
      return await work();
    } finally {
      resolve();
    }
  }

  client(): Promise<Client> {
    return (this.#client ??= this.#make());
  }

  #make(): Promise<Client> {
    const making = this.#open();
    // Its end may be reported after the next connection was opened.
    const forget = (): void => {
      if (this.#client === making) this.#client = undefined;
    };
    making.then((client) => client.on("error", forget).on("end", forget), forget);
    return making;
  }

  /** The next work uses another connection. This one's peer may be gone, so its end is not awaited. */
  drop(): void {
    const client = this.#client;
    this.#client = undefined;
    client?.then((made) => made.end()).catch(() => {});
  }

  async close(): Promise<void> {
    await this.inTurn(async () => {
      const client = this.#client;
      this.#client = undefined;
      await (await client)?.end();
    });
  }
}
