/** Blocks that sessions fill and one reader takes, in whatever order they become full. */
import type { Block } from "../../../../src/core/model/block.ts";
import type { Session } from "../driver.ts";

/** Blocks that may wait for the reader before no socket is read any more; each session may be about to add one. */
const QUEUE_COUNT_MAX = 2;

export class FilledBlocks {
  readonly #sessions: readonly Session[];
  readonly #queue: Block[] = [];
  readonly #paused = new Set<Session>();
  #wake = Promise.withResolvers<void>();
  #failure: unknown;
  #isComplete = false;

  constructor(sessions: readonly Session[]) {
    this.#sessions = sessions;
  }

  /** Called while the session's rows come in. */
  push(block: Block, session: Session): void {
    this.#queue.push(block);
    if (this.#queue.length >= QUEUE_COUNT_MAX) {
      session.pause();
      this.#paused.add(session);
    }
    this.#wake.resolve();
  }

  /** Nothing follows. */
  complete(): void {
    this.#isComplete = true;
    this.#wake.resolve();
  }

  /** The first failure counts. All sessions end. */
  fail(error: unknown): void {
    this.#failure ??= error;
    for (const session of this.#sessions) session.destroy();
    this.#wake.resolve();
  }

  /** Resolves when there is a block to take; false: there will be none. */
  async some(): Promise<boolean> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#queue.length > 0) return true;
      if (this.#isComplete) return false;
      await this.#wake.promise;
      this.#wake = Promise.withResolvers<void>();
    }
  }

  take(): Block | undefined {
    const block = this.#queue.shift();
    if (this.#queue.length < QUEUE_COUNT_MAX) {
      const paused = [...this.#paused];
      this.#paused.clear();
      // Rows that have already arrived come in now.
      for (const session of paused) session.resume();
    }
    return block;
  }

  /** Ends the sessions and gives back what nobody took. */
  [Symbol.dispose](): void {
    for (const session of this.#sessions) session.destroy();
    for (const block of this.#queue.splice(0)) block.release();
  }
}
