import { closeSync, fchmodSync, openSync, statSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

/** How often a waiting process looks again. */
const LOOK_MS = 15;

interface Times {
  /** How often who holds a lock beats. */
  readonly beatMs: number;
  /** After so long without a beat the others pass by who holds a lock: it may be stopped. */
  readonly silenceMsMax: number;
}

const TIMES: Times = { beatMs: 1_000, silenceMsMax: 10_000 };

/**
 * The turns of all processes that write to one lake with a catalogue in SQLite, which refuses a transaction if another one
 * committed since it began: beside a daemon that commits twice a second, another's batches of a second would never come through.
 * A turn takes as long as its transaction.
 *
 *     next    one process that waits for the turn: who has just ended a turn comes after
 *     turn    one process that writes
 *     who has the turn is stopped      the others pass it by, and whose is `next` keeps that one while it writes
 *     who has `next` is stopped        the others wait for the turn itself
 *
 * The others wait once for the beat of one that is stopped, not at each of their turns, until it beats again.
 */
export class SharedTurn implements Disposable {
  readonly #turn: Lock;
  readonly #next: Lock;

  constructor(catalog: string, times = TIMES) {
    this.#turn = new Lock(catalog, { lock: "turn", beat: "beat" }, times);
    this.#next = new Lock(catalog, { lock: "next", beat: "next-beat" }, times);
  }

  /** One at a time. */
  async take(signal: AbortSignal): Promise<Disposable> {
    using waiting = new DisposableStack();
    waiting.use(await this.#next.take(signal));
    const turn = await this.#turn.take(signal);
    return turn === NO_LOCK ? waiting.move() : turn;
  }

  [Symbol.dispose](): void {
    this.#turn[Symbol.dispose]();
    this.#next[Symbol.dispose]();
  }
}

/**
 * Who holds a lock shows that it runs: it changes the time of a file beside the catalogue. The file is none of the locks,
 * because closing a lock's file would end the lock.
 */
class Beats {
  readonly #catalog: string;
  readonly #path: string;
  readonly #beatMs: number;

  constructor(catalog: string, name: string, beatMs: number) {
    this.#catalog = catalog;
    this.#path = `${catalog}-${name}`;
    this.#beatMs = beatMs;
  }

  /** Work that was given up (`signal`) may hang for good: it beats no more. */
  during(held: Disposable, signal: AbortSignal): Disposable {
    this.#beat();
    const timer = setInterval(() => this.#beat(), this.#beatMs).unref();
    const end = (): void => clearInterval(timer);
    signal.addEventListener("abort", end);
    return {
      [Symbol.dispose]: () => {
        end();
        signal.removeEventListener("abort", end);
        held[Symbol.dispose]();
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

  /** The time of the last one; 0: there was none. */
  get last(): number {
    return statSync(this.#path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  }
}

/** A lock on a file beside the catalogue: the system ends that of a process that dies. */
class Lock implements Disposable {
  readonly #catalog: string;
  readonly #path: string;
  readonly #beats: Beats;
  readonly #looksMax: number;
  #file: DatabaseSync | null = null;
  /** The last beat of one that was passed by; null: none was. It counts again once it beats. */
  #passedBy: number | null = null;

  constructor(catalog: string, names: { readonly lock: string; readonly beat: string }, times: Times) {
    this.#catalog = catalog;
    this.#path = `${catalog}-${names.lock}`;
    this.#beats = new Beats(catalog, names.beat, times.beatMs);
    this.#looksMax = times.silenceMsMax / LOOK_MS;
  }

  /** NO_LOCK: who holds it is silent. Looks are counted, not time: a process that was itself held up has seen no beats either. */
  async take(signal: AbortSignal): Promise<Disposable> {
    let [heard, looks] = [this.#beats.last, 0];
    for (;;) {
      const held = this.#taken();
      if (held !== null) return held === NO_LOCK ? held : this.#beats.during(held, signal);
      const { last } = this.#beats;
      looks = last === heard ? looks + 1 : 0;
      heard = last;
      if (looks > this.#looksMax) this.#passedBy = last;
      if (last === this.#passedBy) return NO_LOCK;
      await sleep(LOOK_MS, undefined, { signal });
    }
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
