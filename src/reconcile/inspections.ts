import type { ComparePort, Inspection } from "../core/comparing.ts";

/** One for each sink, opened when it is first asked for. */
export class Inspections implements AsyncDisposable {
  readonly #port: ComparePort;
  readonly #open = new Map<string, Inspection>();

  constructor(port: ComparePort) {
    this.#port = port;
  }

  async of(sink: string, signal: AbortSignal): Promise<Inspection> {
    const known = this.#open.get(sink);
    if (known !== undefined) return known;
    const opened = await this.#port.inspect(sink, signal);
    this.#open.set(sink, opened);
    return opened;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#open.values()].map((one) => one[Symbol.asyncDispose]()));
  }
}
