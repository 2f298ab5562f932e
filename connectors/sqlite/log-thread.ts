import { Worker } from "node:worker_threads";

/** With so many pages in the log it is copied, beside the writer. */
const PAGES_COPIED = 2_048;
/** SQLite starts the log again only if a write finds all of it copied: beyond this size the next write waits for that. */
const PAGES_MAX = 16_384;

/**
 * Copies the log of a file into it, beside the writer and the readers. A reader that stays in one transaction keeps the log
 * from beginning anew, so it grows as long as that.
 */
export class LogThread {
  readonly #path: string;
  #worker: Worker | null = null;
  #running: Promise<void> | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** After a commit, which left so many pages that are not in the file. */
  grew(pages: number): void {
    if (this.#running === null && pages > PAGES_COPIED) void this.#copy();
  }

  /** Before a transaction. What was copied beside the one before is not all of it. */
  async makeRoom(pages: number): Promise<void> {
    if (pages <= PAGES_MAX) return;
    await this.#running;
    await this.#copy();
  }

  async end(): Promise<void> {
    await this.#running;
    this.#worker?.ref();
    await this.#worker?.terminate();
    this.#worker = null;
  }

  async #copy(): Promise<void> {
    const worker = (this.#worker ??= this.#start());
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#running = promise;
    worker.ref();
    const over = (): void => {
      worker.off("message", over).off("error", failed).off("exit", failed);
      worker.unref();
      this.#running = null;
      resolve();
    };
    // A copy that fails is tried again after a later commit: the log has everything.
    const failed = (): void => {
      this.#worker = null;
      over();
    };
    worker.once("message", over).once("error", failed).once("exit", failed);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread of Node's, no window
    worker.postMessage("copy");
    return await promise;
  }

  #start(): Worker {
    return new Worker(COPYING, { eval: true, workerData: this.#path });
  }
}

/** As text, so that it needs no file beside the compiled program. */
const COPYING = `
const { parentPort, workerData } = require("node:worker_threads");
const { DatabaseSync } = require("node:sqlite");
const database = new DatabaseSync(workerData, { timeout: 0 });
database.exec("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0");
const statement = database.prepare("PRAGMA wal_checkpoint(PASSIVE)");
parentPort.on("message", () => {
  statement.get();
  parentPort.postMessage("copied");
});
`;
