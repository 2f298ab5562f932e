import type { Clock } from "../../core/clock.ts";
import { News } from "../../core/news.ts";

/** By then it also looks at what nobody tells of. */
const LOOK_MS = 1_000;

/**
 * While it is on, nothing reads ranges of rows from the source beside the stream: reads load the source, write watermarks
 * into its log, and fill the queues of the sinks. Key lookups go on, because rows of the stream wait for them.
 */
export class ReadHold {
  readonly #news = new News();
  #isOn = false;

  get isOn(): boolean {
    return this.#isOn;
  }

  /** Returns whether that is a change. */
  set(isOn: boolean): boolean {
    if (isOn === this.#isOn) return false;
    this.#isOn = isOn;
    this.#news.tell();
    return true;
  }

  /** Resolves at once while it is off. */
  async over(clock: Clock, signal: AbortSignal): Promise<void> {
    for (let told = this.#news.count; this.#isOn; told = this.#news.count) {
      await this.#news.after(told, clock, LOOK_MS, signal);
    }
  }
}
