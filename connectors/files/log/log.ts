/**
 * The sink's log: entries with consecutive numbers, each created only if its number is free. That is the commit and the
 * fence: of two processes that continue the log, one finds the number taken.
 *
 * Entries whose changes are in files are removed from the oldest on, and never the newest. So a process that was away
 * while others wrote, and finds its number free because it was taken and removed again, misses the entry before it.
 */
import { failpoint } from "../../../src/core/failpoint.ts";
import { filesError } from "../errors.ts";
import { LOG, logKey, numberOf } from "../names.ts";
import type { Store } from "../store/store.ts";
import { piecesOfEntry, type Entry, type Head, parseEntry } from "./entry.ts";

export interface FoundLog {
  readonly newest: number;
  readonly oldest: number;
  readonly entry: Entry;
}

/** Null: there is no log, or what is left of one has a gap and can't be continued. */
export async function findLog(store: Store, signal: AbortSignal): Promise<FoundLog | null> {
  const numbers = await entryNumbers(store, signal);
  const newest = numbers.at(-1);
  if (newest === undefined) return null;
  const entry = await readEntry(store, newest, signal);
  if (entry === null) return await findLog(store, signal);
  const { since } = entry.head;
  const present = numbers.filter((number) => number >= since);
  if (present.length === newest - since + 1) return { newest, oldest: numbers[0]!, entry };
  // While the list was read, its writer may have gone on and removed entries.
  const later = await entryNumbers(store, signal);
  return later.at(-1) === newest ? null : await findLog(store, signal);
}

export async function readEntry(store: Store, sequence: number, signal: AbortSignal): Promise<Entry | null> {
  const bytes = await store.read(logKey(sequence), signal);
  return bytes === null ? null : parseEntry(bytes, logKey(sequence));
}

export async function entryNumbers(store: Store, signal: AbortSignal): Promise<readonly number[]> {
  const keys = await store.list(LOG, signal);
  return keys.flatMap((key) => numberOf(key, LOG) ?? []);
}

/** Continues the log. */
export class LogWriter {
  readonly #store: Store;
  #newest: number;
  #oldest: number;
  /** No entry is there: the next one is the first. */
  #isEmpty: boolean;

  /** `newest`: the last number that was used. `oldest`: null where no entry is there. */
  constructor(store: Store, newest: number, oldest: number | null) {
    this.#store = store;
    this.#newest = newest;
    this.#isEmpty = oldest === null;
    this.#oldest = oldest ?? newest + 1;
  }

  get newest(): number {
    return this.#newest;
  }

  async append(head: Omit<Head, "format">, parts: readonly Buffer[], signal: AbortSignal): Promise<void> {
    const sequence = this.#newest + 1;
    const key = logKey(sequence);
    failpoint("files.before-entry");
    const isOurs = await this.#store.create(key, piecesOfEntry(head, parts), signal);
    failpoint("files.entry-written");
    if (!isOurs) await this.#expectOwn(sequence, head.writer, signal);
    if (!this.#isEmpty && !(await this.#store.has(logKey(this.#newest), signal))) {
      await this.#store.remove(key, signal);
      throw await this.#missing(head.lease, signal);
    }
    this.#newest = sequence;
    this.#isEmpty = false;
  }

  /** The newest entry is where this process left it, and nobody has continued behind it. */
  async expectUnchanged(lease: number, signal: AbortSignal): Promise<void> {
    if (await this.#store.has(logKey(this.#newest + 1), signal)) throw taken(lease, this.#store.place);
    if (!(await this.#store.has(logKey(this.#newest), signal))) throw await this.#missing(lease, signal);
  }

  /** Removes the entries before `since`, except for the newest. */
  async trim(since: number, signal: AbortSignal): Promise<void> {
    const end = Math.min(since, this.#newest);
    for (; this.#oldest < end; this.#oldest++) await this.#store.remove(logKey(this.#oldest), signal);
  }

  /** A number that is taken may be by our own entry, whose answer was lost. */
  async #expectOwn(sequence: number, writer: string, signal: AbortSignal): Promise<void> {
    const found = await readEntry(this.#store, sequence, signal);
    if (found?.head.writer !== writer) throw taken(found?.head.lease ?? 0, this.#store.place);
  }

  async #missing(lease: number, signal: AbortSignal): Promise<Error> {
    const found = await findLog(this.#store, signal);
    if (found !== null && found.entry.head.lease > lease) return taken(found.entry.head.lease, this.#store.place);
    return filesError("MR4203", "reopen", `the log below ${this.#store.place} is gone`);
  }
}

function taken(lease: number, place: string): Error {
  return filesError("MR4202", "fatal", `another process has written below ${place}, under lease ${lease}`);
}
