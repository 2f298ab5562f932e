/**
 * The sink's log: entries with consecutive numbers, each created only if its number is free. That is the commit and the
 * fence: of two processes that continue the log, one finds the number taken.
 *
 * Entries whose changes are in files are removed from the oldest on, and never the newest. So a process that was away
 * while others wrote, and finds its number free because it was taken and removed again, misses the entry before it.
 *
 * A request that this daemon gave up, or a process of it that was killed, may still write an entry late. Such an entry is
 * whole: the process that finds it at the next number takes the log over behind it. One that comes later than that finds its number
 * taken, or is removed with the old ones.
 */
import { failpoint } from "../../../src/core/failpoint.ts";
import { filesError } from "../errors.ts";
import { LOG, logKey, NUMBER_MAX, numberOf } from "../names.ts";
import type { Store } from "../store/store.ts";
import { piecesOfEntry, type Entry, type Head, parseEntry } from "./entry.ts";

export interface FoundLog {
  /** The numbers that are there: those from `since` on, and what is left of others. */
  readonly numbers: readonly number[];
  readonly newest: number;
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
  if (present.length === newest - since + 1) return { numbers, newest, entry };
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

type Writer = Pick<Head, "lease" | "owner" | "writer">;

/** Continues the log. */
export class LogWriter {
  readonly #store: Store;
  readonly #writer: Writer;
  /** The numbers of the entries that are there. */
  readonly #present: number[];
  #newest: number;

  /** `newest`: the last number that was used. */
  constructor(store: Store, writer: Writer, present: readonly number[], newest: number) {
    this.#store = store;
    this.#writer = writer;
    this.#present = [...present];
    this.#newest = newest;
  }

  get newest(): number {
    return this.#newest;
  }

  async append(
    head: Omit<Head, "format" | keyof Writer>,
    parts: readonly Buffer[],
    signal: AbortSignal,
  ): Promise<void> {
    const number = this.#newest + 1;
    if (number > NUMBER_MAX) throw filesError("MR2035", "fatal", `${this.#store.location}: ${logKey(this.#newest)}`);
    const key = logKey(number);
    failpoint("files.before-entry");
    const isNew = await this.#store.create(key, piecesOfEntry({ ...this.#writer, ...head }, parts), signal);
    failpoint("files.entry-written");
    if (!isNew) await this.#expectOwn(number, signal);
    if (this.#present.length > 0 && !(await this.#store.has(logKey(this.#newest), signal))) {
      await this.#store.remove(key, signal);
      throw await this.#missing(signal);
    }
    this.#newest = number;
    this.#present.push(number);
  }

  /** The newest entry is where this process left it, and nobody has continued behind it. */
  async expectUnchanged(signal: AbortSignal): Promise<void> {
    const next = this.#newest + 1;
    if (await this.#store.has(logKey(next), signal)) await this.#expectOwn(next, signal);
    if (!(await this.#store.has(logKey(this.#newest), signal))) throw await this.#missing(signal);
  }

  /**
   * Of a log that begins here: two processes that begin at the same moment may take two numbers. The higher one goes on, and is
   * taken over as any other log; what is below it ends.
   */
  async expectAlone(signal: AbortSignal): Promise<void> {
    for (;;) {
      const others = (await entryNumbers(this.#store, signal)).filter((number) => number !== this.#newest);
      const above = others.find((number) => number > this.#newest);
      if (above !== undefined) throw cameLate(above, this.#store.location);
      if (others.length === 0) return;
      // Its writer may have added one meanwhile.
      for (const number of others) await this.#store.remove(logKey(number), signal);
    }
  }

  /** Removes the entries before `since`, except for the newest. */
  async trim(since: number, signal: AbortSignal): Promise<void> {
    await this.#removeBelow(Math.min(since, this.#newest), signal);
  }

  /** Removes the log as this process knows it: what another one has begun behind it stays. */
  async remove(signal: AbortSignal): Promise<void> {
    await this.#removeBelow(Infinity, signal);
  }

  async #removeBelow(end: number, signal: AbortSignal): Promise<void> {
    for (; (this.#present[0] ?? Infinity) < end; this.#present.shift()) {
      await this.#store.remove(logKey(this.#present[0]!), signal);
    }
  }

  /** A number that is taken may be by our own entry, whose answer was lost, or by a predecessor's. */
  async #expectOwn(number: number, signal: AbortSignal): Promise<void> {
    const head = (await readEntry(this.#store, number, signal))?.head;
    if (head?.writer === this.#writer.writer) return;
    if (head === undefined || this.#isFormer(head)) {
      throw cameLate(number, this.#store.location);
    }
    throw taken(head, this.#writer, this.#store.location);
  }

  #isFormer(head: Owned): boolean {
    return isOf(head, this.#writer.owner) && head.lease <= this.#writer.lease;
  }

  async #missing(signal: AbortSignal): Promise<Error> {
    const found = await findLog(this.#store, signal);
    const head = found?.entry.head;
    if (head !== undefined && !this.#isFormer(head)) return taken(head, this.#writer, this.#store.location);
    return filesError("MR3110", "reopen", `the log below ${this.#store.location} is gone`);
  }
}

type Owned = Pick<Head, "owner" | "lease">;

/** Throws if the log is another sink's. One without a checkpoint was only just begun, or is being removed. */
export function expectOwn(head: Pick<Head, "owner" | "checkpoint">, ours: Head["owner"], location: string): void {
  if (!isOf(head, ours) && head.checkpoint.position !== "") throw ofAnother(head, location);
}

/** Throws if a newer process has the log. */
export function expectNoNewer(head: Owned, ours: Owned, location: string): void {
  if (isOf(head, ours.owner) && head.lease > ours.lease) throw taken(head, ours, location);
}

function isOf({ owner }: Pick<Head, "owner">, { daemon, sink }: Head["owner"]): boolean {
  return owner.daemon === daemon && owner.sink === sink;
}

function taken(head: Owned, ours: Owned, location: string): Error {
  if (!isOf(head, ours.owner)) return ofAnother(head, location);
  const message = `another process has written below ${location} under lease ${head.lease}, ours is ${ours.lease}`;
  return filesError("MR3109", "fatal", message);
}

function ofAnother({ owner }: Pick<Head, "owner">, location: string): Error {
  const message = `${location} has the changes of ${owner.daemon}/${owner.sink} (daemon and sink)`;
  return filesError("MR3121", "fatal", message);
}

export function cameLate(number: number, location: string): Error {
  return filesError("MR4219", "retryable", `${logKey(number)} below ${location} came late`);
}
