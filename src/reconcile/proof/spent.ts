/** How long source and sinks read for comparisons. */
import type { Clock } from "../../core/clock.ts";
import type { ComparePort, Inspection } from "../../core/contracts/comparing.ts";
import { replacing } from "../../core/replacing.ts";

export class Spent {
  readonly #clock: Clock;
  readonly #ms = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Of the one that read longest since the last call: the source, or a sink. */
  take(): number {
    const longest = Math.max(0, ...this.#ms.values());
    this.#ms.clear();
    return longest;
  }

  /** The same port; what it reads is counted. */
  through(port: ComparePort): ComparePort {
    return replacing(port, {
      at: async (place, signal) => {
        const compared = await port.at(place, signal);
        this.#add(SOURCE, compared.readMs);
        return compared;
      },
      inspect: async (sink, signal) => this.#inspection(sink, await port.inspect(sink, signal)),
    });
  }

  #inspection(sink: string, inspection: Inspection): Inspection {
    return replacing(inspection, {
      rows: (table, keys, signal) => this.#timed(sink, () => inspection.rows(table, keys, signal)),
      keys: (table, signal) => this.#each(sink, inspection.keys(table, signal)),
      ...(inspection.equal === undefined
        ? {}
        : { equal: (table, asked, signal) => this.#timed(sink, () => inspection.equal!(table, asked, signal)) }),
      ...(inspection.page === undefined
        ? {}
        : { page: (table, after, signal) => this.#timed(sink, () => inspection.page!(table, after, signal)) }),
    });
  }

  async *#each<T>(sink: string, all: AsyncIterable<T>): AsyncGenerator<T> {
    let beganMs = this.#clock.elapsed();
    for await (const one of all) {
      this.#add(sink, this.#clock.elapsed() - beganMs);
      yield one;
      beganMs = this.#clock.elapsed();
    }
    this.#add(sink, this.#clock.elapsed() - beganMs);
  }

  async #timed<T>(sink: string, work: () => Promise<T>): Promise<T> {
    const beganMs = this.#clock.elapsed();
    try {
      return await work();
    } finally {
      this.#add(sink, this.#clock.elapsed() - beganMs);
    }
  }

  #add(of: string, ms: number): void {
    this.#ms.set(of, (this.#ms.get(of) ?? 0) + ms);
  }
}

/** No sink can have this name. */
const SOURCE = "*";
