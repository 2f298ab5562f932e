import { Worker } from "node:worker_threads";

/** The log goes into the file this often while rows come. */
const EVERY_MS = 1_000;
/** SQLite begins the log anew only where a write finds all of it copied: beyond this size the next one waits for the copy. */
const PAGES_MAX = 16_384;

/** What a passive checkpoint says: pages in the log, and how many of them are in the file. */
interface Copied {
  readonly log: number;
  readonly copied: number;
}

/**
 * Copies the log of a file into it, beside the writer and the readers. A reader that stays in one transaction keeps the log
 * from beginning anew, so it grows as long as that.
 */
export class LogThread {
  readonly #path: string;
  #worker: Worker | null = null;
  #running: Promise<Copied> | null = null;
  #last: Copied = { log: 0, copied: 0 };
  #since = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** After a commit. */
  grew(): void {
    if (this.#running !== null || performance.now() - this.#since < EVERY_MS) return;
    void this.#copy();
  }

  /** Before a transaction. */
  async makeRoom(): Promise<void> {
    if (this.#last.log > PAGES_MAX) await (this.#running ?? this.#copy());
  }

  async end(): Promise<void> {
    await this.#running;
    await this.#worker?.terminate();
    this.#worker = null;
  }

  async #copy(): Promise<Copied> {
    this.#since = performance.now();
    this.#worker ??= this.#start();
    const { promise, resolve } = Promise.withResolvers<Copied>();
    this.#running = promise;
    const worker = this.#worker;
    // A copy that fails is tried again after a later commit: the log has everything.
    const over = (copied: Copied): void => {
      worker.removeAllListeners();
      this.#last = copied;
      this.#running = null;
      resolve(copied);
    };
    const failed = (): void => {
      this.#worker = null;
      over({ log: 0, copied: 0 });
    };
    worker.once("message", over).once("error", failed).once("exit", failed);
    worker.postMessage("copy");
    return await promise;
  }

  #start(): Worker {
    const worker = new Worker(COPYING, { eval: true, workerData: this.#path });
    worker.unref();
    return worker;
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
  const { log, checkpointed } = statement.get();
  parentPort.postMessage({ log, copied: checkpointed });
});
`;
