import { Worker } from "node:worker_threads";
import { DriverError } from "./errors.ts";

/** With so many pages in the log it is copied, beside the writer. */
const PAGES_COPIED = 2_048;
/** SQLite starts the log again only if a write finds all of it copied: beyond this size the next write waits for that. */
const PAGES_MAX = 16_384;

/**
 * A second connection, in a thread, for calls that take long. It copies the file's log into it, beside the writer and the readers:
 * a reader that stays in one transaction keeps the log from beginning anew, so it grows as long as that.
 */
export class FileThread {
  readonly #path: string;
  #worker: Worker | null = null;
  #running: Promise<unknown> | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** After a commit, which left so many pages that are not in the file. */
  grew(pages: number): void {
    // A copy that fails is tried again after a later commit: the log has everything.
    if (this.#running === null && pages > PAGES_COPIED) void this.#ask(COPY);
  }

  /** Before a transaction. What was copied beside the one before is not all of it. */
  async makeRoom(pages: number): Promise<void> {
    if (pages <= PAGES_MAX) return;
    await this.#running;
    await this.#ask(COPY);
  }

  /** Runs a statement that writes, in a transaction of its own. */
  async run(sql: string): Promise<void> {
    await this.#running;
    const failure = await this.#ask(sql);
    if (failure !== null) throw failure;
  }

  async end(): Promise<void> {
    await this.#running;
    this.#worker?.ref();
    await this.#worker?.terminate();
    this.#worker = null;
  }

  /** Resolves with what failed, or null. */
  async #ask(sql: string): Promise<Error | null> {
    let worker: Worker;
    try {
      worker = this.#worker ??= this.#start();
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
    const { promise, resolve } = Promise.withResolvers<Error | null>();
    this.#running = promise;
    worker.ref();
    const over = (failure: Error | null): void => {
      worker.off("message", answered).off("error", failed).off("exit", ended);
      worker.unref();
      this.#running = null;
      resolve(failure);
    };
    const answered = (code: number): void => over(code === 0 ? null : new DriverError(code));
    const failed = (error: Error): void => {
      this.#worker = null;
      over(error);
    };
    const ended = (): void => failed(new Error("the thread of the SQLite file has ended"));
    worker.once("message", answered).once("error", failed).once("exit", ended);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread of Node's, no window
    worker.postMessage(sql);
    return await promise;
  }

  #start(): Worker {
    return new Worker(WORK, { eval: true, workerData: this.#path });
  }
}

const COPY = "PRAGMA wal_checkpoint(PASSIVE)";

/** As text, so that it needs no file beside the compiled program. It answers with SQLite's result code. */
const WORK = `
const { parentPort, workerData } = require("node:worker_threads");
const { DatabaseSync } = require("node:sqlite");
const database = new DatabaseSync(workerData, { timeout: 0 });
database.exec("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA secure_delete = ON");
parentPort.on("message", (sql) => {
  let code = 0;
  try {
    database.exec(sql);
  } catch (error) {
    code = error.errcode ?? 1;
  }
  parentPort.postMessage(code);
});
`;
