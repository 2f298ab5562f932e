/** A sink's one client, made when it is first needed. The password takes time: meanwhile the sink may be closed, or connected. */
export class HeldClient<Client extends AsyncDisposable> {
  readonly #open: (signal: AbortSignal) => Promise<Client>;
  #client: Client | null = null;
  #isClosed = false;

  constructor(open: (signal: AbortSignal) => Promise<Client>) {
    this.#open = open;
  }

  /** Null: not connected. */
  get current(): Client | null {
    return this.#client;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  async connected(signal: AbortSignal): Promise<Client> {
    if (this.#client !== null) return this.#client;
    const made = await this.#open(signal);
    if (this.#isClosed || this.#client !== null) await made[Symbol.asyncDispose]();
    else this.#client = made;
    return this.#client ?? made;
  }

  async disconnect(): Promise<void> {
    const client = this.#client;
    this.#client = null;
    await client?.[Symbol.asyncDispose]();
  }

  /** For good. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.disconnect();
  }
}
