/**
 * What the streams have come to: the file, the last event that identifies the log, the transactions that were read, the
 * marks that wait.
 *
 * Marks are not written into the log: a mark is the position where the log ended when it was made, and each stream returns
 * it after it has passed that position. Nothing is written to the source.
 */
import type { SourceTables } from "../catalog/source-tables.ts";
import type { Landmark } from "../events/log-walk.ts";
import { ReadTransactions } from "./read-transactions.ts";

/** A file that the main stream began to read. */
interface LogFile {
  readonly file: number;
  /** When the server began it, in seconds since 1970: after a reset, another file has the same name. */
  readonly createdAt: number;
}

export interface PendingMark {
  readonly id: number;
  /** Every transaction that was in the log at the call begins before it. */
  readonly at: bigint;
  /** Null: after it, the shapes of tables are looked up again. */
  readonly content: string | null;
}

/** A stream that marks are given to. */
interface MarkReceiver {
  expect(mark: PendingMark): void;
  /** Everything before it has been received. */
  readonly reached: bigint;
  /** The log ends before what was received: it is not the one that was read. */
  overtaken(): void;
}

/** Kept for a stream that begins again: no more than this are in use at once. */
const KEPT_COUNT_MAX = 256;

export class StreamState {
  readonly read = new ReadTransactions();
  /** Of the main stream; undefined before it has read an event. */
  file: LogFile | undefined;
  landmark: Landmark | undefined;
  /** The source may forget everything before it. */
  acknowledged = 0n;
  readonly #streams = new Set<MarkReceiver>();
  #kept: PendingMark[] = [];
  #count = 0;

  /** A mark without content renews the shapes of tables. */
  mark(at: bigint, content: string | null): void {
    const mark = { id: ++this.#count, at, content };
    this.#kept.push(mark);
    if (this.#kept.length > KEPT_COUNT_MAX) this.#kept.shift();
    for (const stream of this.#streams) stream.expect(mark);
  }

  /** What this stream has given out need not be kept for the next one. */
  given(id: number): void {
    this.#kept = this.#kept.filter((mark) => mark.id !== id);
  }

  /**
   * Asks where the log ends, and tells the streams that were already further: a log that was reset ends before what they
   * have read, and not every server tells its readers.
   */
  async compared(readTip: () => Promise<bigint>): Promise<bigint> {
    const before = Array.from(this.#streams, (stream) => ({ stream, reached: stream.reached }));
    const tip = await readTip();
    for (const { stream, reached } of before) if (tip < reached) stream.overtaken();
    return tip;
  }

  /** The stream's position; -1 while there is none. */
  get reached(): bigint {
    const [stream] = this.#streams;
    return stream?.reached ?? -1n;
  }

  /** The source's address now leads to another server. */
  elsewhere(): void {
    for (const stream of this.#streams) stream.overtaken();
  }

  attach(stream: MarkReceiver): void {
    for (const mark of this.#kept) stream.expect(mark);
    this.#streams.add(stream);
  }

  detach(stream: MarkReceiver): void {
    this.#streams.delete(stream);
  }

  /** A statement that creates, alters or drops something is at this position. */
  defined(position: bigint, tables: SourceTables): void {
    this.read.defined(position);
    tables.defined(position);
  }
}
