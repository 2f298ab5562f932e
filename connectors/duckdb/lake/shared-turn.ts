import { closeSync, fchmodSync, openSync, statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

/** Who waits looks again after so long. */
const LOOK_MS = 15;
/** Then it goes on as if there were no turns: a process may have been stopped in its own. */
const WAIT_MS_MAX = 10_000;

/**
 * The turns of all processes that write to one lake with a catalogue in SQLite, which refuses a transaction if another one
 * committed since it began: beside a daemon that commits twice a second, another's batches of a second would never come through.
 */
export class SharedTurn implements Disposable {
  readonly #turn: Lock;
  /** Held while waiting for the turn: who has just ended a turn comes after. */
  readonly #next: Lock;

  constructor(catalog: string) {
    this.#turn = new Lock(catalog, "turn");
    this.#next = new Lock(catalog, "next");
  }

  /** One at a time. */
  async take(signal: AbortSignal): Promise<Disposable> {
    const untilMs = performance.now() + WAIT_MS_MAX;
    using _ = await this.#next.take(untilMs, signal);
    return await this.#turn.take(untilMs, signal);
  }

  [Symbol.dispose](): void {
    this.#turn[Symbol.dispose]();
    this.#next[Symbol.dispose]();
  }
}

/** A lock on a file beside the catalogue: the system ends that of a process that dies. */
class Lock implements Disposable {
  readonly #catalog: string;
  readonly #path: string;
  #file: DatabaseSync | null = null;

  constructor(catalog: string, name: string) {
    this.#catalog = catalog;
    this.#path = `${catalog}-${name}`;
  }

  async take(untilMs: number, signal: AbortSignal): Promise<Disposable> {
    let taken = this.#taken();
    while (taken === null && performance.now() < untilMs) {
      await sleep(LOOK_MS, undefined, { signal });
      taken = this.#taken();
    }
    return taken ?? NO_LOCK;
  }

  /** Null: another one has it. */
  #taken(): Disposable | null {
    try {
      const file = (this.#file ??= this.#open());
      file.exec("BEGIN IMMEDIATE");
      return { [Symbol.dispose]: () => file.exec("ROLLBACK") };
    } catch (error) {
      // A file that can't be locked costs turns, and no batch.
      return isBusy(error) ? null : NO_LOCK;
    }
  }

  #open(): DatabaseSync {
    makeFile(this.#path, this.#catalog);
    return new DatabaseSync(this.#path, { timeout: 0 });
  }

  [Symbol.dispose](): void {
    this.#file?.close();
  }
}

const NO_LOCK: Disposable = { [Symbol.dispose]: () => undefined };

/** Whoever may write the catalogue may lock it. */
function makeFile(path: string, catalog: string): void {
  const { mode } = statSync(catalog);
  try {
    const descriptor = openSync(path, "wx");
    fchmodSync(descriptor, mode & 0o666);
    closeSync(descriptor);
  } catch {
    // It is there.
  }
}

/** SQLite's primary code for a lock that another connection has. */
const SQLITE_BUSY = 5;

function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && (Number(error.errcode) & 0xff) === SQLITE_BUSY;
}
