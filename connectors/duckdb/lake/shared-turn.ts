import { closeSync, fchmodSync, openSync, statSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

/** How often a waiting process looks again. */
const LOOK_MS = 15;

interface Times {
  /** How often the process that has the turn beats. */
  readonly beatMs: number;
  /** After so long without a beat a waiting process goes on without a turn: the one that has it may be stopped. */
  readonly silenceMsMax: number;
}

const TIMES: Times = { beatMs: 1_000, silenceMsMax: 10_000 };

/**
 * The turns of all processes that write to one lake with a catalogue in SQLite, which refuses a transaction if another one
 * committed since it began: beside a daemon that commits twice a second, another's batches of a second would never come through.
 * A turn takes as long as its transaction.
 */
export class SharedTurn implements Disposable {
  readonly #turn: Lock;
  /** Held while waiting for the turn: who has just ended a turn comes after. */
  readonly #next: Lock;
  readonly #beats: Beats;

  constructor(catalog: string, times = TIMES) {
    this.#turn = new Lock(catalog, "turn");
    this.#next = new Lock(catalog, "next");
    this.#beats = new Beats(catalog, times);
  }

  /** One at a time. */
  async take(signal: AbortSignal): Promise<Disposable> {
    const isSilent = this.#beats.look();
    using _ = await this.#next.take(isSilent, signal);
    const turn = await this.#turn.take(isSilent, signal);
    return turn === NO_LOCK ? turn : this.#beats.during(turn, signal);
  }

  [Symbol.dispose](): void {
    this.#turn[Symbol.dispose]();
    this.#next[Symbol.dispose]();
  }
}

/**
 * The process that has the turn shows that it runs: it changes the time of a file beside the catalogue. The file is
 * none of the locks, because closing a lock's file would end the lock.
 */
class Beats {
  readonly #catalog: string;
  readonly #path: string;
  readonly #times: Times;

  constructor(catalog: string, times: Times) {
    this.#catalog = catalog;
    this.#path = `${catalog}-beat`;
    this.#times = times;
  }

  /** Work that was given up (`signal`) may hang for good: it beats no more. */
  during(turn: Disposable, signal: AbortSignal): Disposable {
    this.#beat();
    const timer = setInterval(() => this.#beat(), this.#times.beatMs).unref();
    const end = (): void => clearInterval(timer);
    signal.addEventListener("abort", end);
    return {
      [Symbol.dispose]: () => {
        end();
        signal.removeEventListener("abort", end);
        turn[Symbol.dispose]();
      },
    };
  }

  #beat(): void {
    try {
      makeFile(this.#path, this.#catalog);
      writeFileSync(this.#path, "");
    } catch {
      // Others then take this process for a stopped one.
    }
  }

  /**
   * Returns a question for each look: was there no beat for too long? It counts looks, not time: a process that was
   * itself held up has seen no beats either.
   */
  look(): () => boolean {
    const looksMax = this.#times.silenceMsMax / LOOK_MS;
    let [heard, looks] = [this.#last(), 0];
    return () => {
      const last = this.#last();
      looks = last === heard ? looks + 1 : 0;
      heard = last;
      return looks > looksMax;
    };
  }

  #last(): number | undefined {
    return statSync(this.#path, { throwIfNoEntry: false })?.mtimeMs;
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

  async take(isSilent: () => boolean, signal: AbortSignal): Promise<Disposable> {
    let taken = this.#taken();
    while (taken === null && !isSilent()) {
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
    const file = new DatabaseSync(this.#path, { timeout: 0 });
    // The database is empty: each transaction would make and remove a journal.
    file.exec("PRAGMA journal_mode = MEMORY");
    return file;
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
