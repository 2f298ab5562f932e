/** A writer that connects again when its session ends, and goes on. */
import { setTimeout as sleep } from "node:timers/promises";
import { eventually } from "../run/waiting.ts";

export interface WriterSession {
  /** One transaction. */
  commit(): Promise<unknown>;
  end(): Promise<unknown>;
}

const AGAIN_MS = 50;

export class PatientWriter implements AsyncDisposable {
  readonly #open: () => Promise<WriterSession>;
  readonly #stopping = new AbortController();
  #writing: Promise<void> = Promise.resolve();
  #commitCount = 0;

  constructor(open: () => Promise<WriterSession>) {
    this.#open = open;
  }

  start(): void {
    this.#writing = this.#write();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#writing;
  }

  /** Resolves when there are so many more. */
  async commits(count: number, withinMs = 30_000): Promise<void> {
    const before = this.#commitCount;
    await eventually(() => this.#commitCount >= before + count, { withinMs });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #write(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      let session: WriterSession | undefined;
      try {
        session = await this.#open();
        while (!this.#stopping.signal.aborted) {
          await session.commit();
          this.#commitCount++;
        }
      } catch {
        await sleep(AGAIN_MS);
      } finally {
        await session?.end().catch(() => undefined);
      }
    }
  }
}
