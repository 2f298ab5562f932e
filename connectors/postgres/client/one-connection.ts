import type { Client } from "pg";

/** One connection: made when first used, and again after it was dropped or broke; work waits for its turn. */
export class OneConnection {
  readonly #open: () => Promise<Client>;
  #client: Promise<Client> | undefined;
  #before: Promise<unknown> = Promise.resolve();

  constructor(open: () => Promise<Client>) {
    this.#open = open;
  }

  /** The driver wants one statement at a time. `wait` says how long the end of the work before is waited for. */
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
    // Its end may be told when the next connection is there already.
    const forget = (): void => {
      if (this.#client === making) this.#client = undefined;
    };
    making.then((client) => client.on("error", forget).on("end", forget), forget);
    return making;
  }

  /** The next work goes by another connection. This one's peer may be gone: its end is not waited for. */
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
