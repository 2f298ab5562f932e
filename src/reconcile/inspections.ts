import type { ComparePort, Inspection } from "../core/contracts/comparing.ts";
import { Turn } from "../core/waiting.ts";

/** One inspection per sink, opened at its first use. */
export class Inspections implements AsyncDisposable {
  readonly #port: ComparePort;
  readonly #open = new Map<string, Promise<Inspection>>();
  readonly #listing = new Map<string, Turn>();

  constructor(port: ComparePort) {
    this.#port = port;
  }

  async of(sink: string, signal: AbortSignal): Promise<Inspection> {
    const known = this.#open.get(sink);
    if (known !== undefined) return await known;
    const opened = this.#port.inspect(sink, signal);
    this.#open.set(sink, opened);
    // The next caller tries again.
    opened.catch(() => this.#open.delete(sink));
    return await opened;
  }

  /** Waits for a turn to list keys: each listing takes its own session and reads a whole table. */
  async toList(sink: string, signal: AbortSignal): Promise<Disposable> {
    const turn = this.#listing.get(sink) ?? new Turn();
    this.#listing.set(sink, turn);
    return await turn.take(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([...this.#open.values()].map(async (one) => await (await one)[Symbol.asyncDispose]()));
  }
}
