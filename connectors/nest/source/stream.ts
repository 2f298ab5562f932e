import { setImmediate as turn } from "node:timers/promises";
import { systemClock } from "../../../src/core/clock.ts";
import type { ChangeStream, StreamOptions } from "../../../src/core/contracts/change-log.ts";
import { BEFORE_KEY, BEFORE_NONE, Block, NO_TUPLE, OP_DELETE, OP_UPDATE } from "../../../src/core/model/block.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { type Position, rowVersion } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { classify, notOpen, stopped } from "../errors.ts";
import type { PlannedDocument } from "../plan.ts";
import { CHANGED } from "../climbing.ts";
import type { Nest } from "../nest.ts";
import { heldIn, lastEntry, MARK, type Reading } from "../stored.ts";
import { Reader } from "./readers.ts";
import { type ChangedDocument, type DocumentRows, DocumentWriter } from "./rows.ts";
import { shapeOf } from "./tables.ts";

export const MARK_PREFIX = "millrace-nest";

const ENTRIES_MAX = 1_000;
const BYTES_MAX = 1024 * 1024;
/** SQLite's calls are synchronous: after so long other work of the process gets its turn. */
const SLICE_MS = 8;
/** Beside what is told: how often the list is looked at. */
const LOOK_MS = 1_000;

/** Changed documents in the order of the list, each in its newest state. */
export class NestStream implements ChangeStream {
  readonly #nest: Nest;
  readonly #options: StreamOptions;
  readonly #onAcknowledged: (commit: bigint) => void;
  readonly #epoch: number;
  readonly #tables = new Map<PlannedDocument, TableVersion>();
  #next: bigint;
  /** What is listed up to here is read without a wait: `Nest.untilRead`. */
  #until = 0n;
  #reader: Reader;

  constructor(nest: Nest, from: Position, options: StreamOptions, onAcknowledged: (commit: bigint) => void) {
    this.#nest = nest;
    this.#options = options;
    this.#onAcknowledged = onAcknowledged;
    this.#epoch = from.epoch;
    this.#next = from.commit;
    this.#reader = Reader.open(nest);
  }

  async next(signal: AbortSignal): Promise<Block> {
    const { news, path } = this.#nest;
    try {
      for (;;) {
        if (signal.aborted) throw stopped();
        if (this.#next > this.#until) await this.#nest.untilRead(signal);
        const told = news.count;
        const block = await this.#read(signal);
        if (block !== null) return block;
        await news.after(told, systemClock, LOOK_MS, signal).catch(() => undefined);
      }
    } catch (error) {
      if (signal.aborted) throw stopped();
      throw classify(error, "reading changed documents", path);
    }
  }

  /** Null: there is nothing behind the last block. Invariant: every entry of the block is read in one snapshot of the file. */
  async #read(signal: AbortSignal): Promise<Block | null> {
    await turn();
    const { database, reading: snapshot } = this.#begin();
    try {
      if (this.#next > this.#until) this.#until = lastEntry(snapshot);
      const entries = entriesFrom(snapshot, this.#next);
      const last = entries.at(-1);
      if (last === undefined) return this.#empty(lastEntry(snapshot) + 1n);
      const held = heldIn(snapshot);
      const reading = new BlockWriter(this.#epoch);
      using changed = new ChangedDocuments(this.#reader, last.seq);
      const began = performance.now();
      for (const entry of entries) {
        // Invariant: one that is passed by stays in the list, and goes to its end.
        if (entry.content !== null) reading.mark(entry.seq, entry.content);
        else if (!isHeld(held, entry)) await this.#add(reading, entry, changed, signal);
        this.#next = entry.seq + 1n;
        if (reading.byteCount > BYTES_MAX || performance.now() - began > SLICE_MS) break;
      }
      failpoint("nest.read");
      return reading.finish(this.#next);
    } finally {
      database.exec("COMMIT");
    }
  }

  /** A snapshot, of a reader whose statements are of the shapes that the tables have there. */
  #begin(): Reader {
    for (;;) {
      const { database } = this.#reader;
      database.exec("BEGIN");
      // Its identity has to be looked at again.
      const isLost = !this.#reader.isOfThisOpening;
      if (!isLost && this.#reader.isInShape) return this.#reader;
      database.exec("COMMIT");
      if (isLost) throw notOpen(this.#nest.path);
      this.#reader[Symbol.dispose]();
      this.#tables.clear();
      this.#reader = Reader.open(this.#nest);
    }
  }

  /** Entries that are gone from the end of the list have moved on: the position moves too. */
  #empty(tip: bigint): Block | null {
    if (tip <= this.#next) return null;
    this.#next = tip;
    return new BlockWriter(this.#epoch).finish(tip);
  }

  async #add(reading: BlockWriter, entry: Entry, changed: ChangedDocuments, signal: AbortSignal): Promise<void> {
    const planned = this.#reader.plan.documents.find(({ id }) => id === entry.document);
    // One that the configuration does not have any more, or that can't be built.
    if (planned === undefined) return;
    const found = changed.at(planned, entry.seq);
    let table = this.#tables.get(planned);
    if (table === undefined) {
      const position = { epoch: this.#epoch, commit: entry.seq, index: 0 };
      table = await this.#options.resolve(shapeOf(planned), position);
      if (signal.aborted) throw stopped();
      this.#tables.set(planned, table);
    }
    reading.add(entry.seq, table, this.#reader.rows(planned), found);
  }

  acknowledge(commit: bigint): void {
    this.#onAcknowledged(commit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#reader[Symbol.dispose]();
  }
}

function isHeld(held: ReturnType<typeof heldIn>, { document, seq }: Entry): boolean {
  const until = held.get(document);
  return until !== undefined && (until === null || seq <= until);
}

interface Entry {
  readonly seq: bigint;
  readonly document: number;
  /** Of a mark. */
  readonly content: string | null;
}

function entriesFrom(reading: Reading, from: bigint): readonly Entry[] {
  const sql = `SELECT seq, document, iif(document = ${MARK}, k1, NULL) FROM ${CHANGED} WHERE seq >= ? ORDER BY seq LIMIT ${ENTRIES_MAX}`;
  return reading.rows(sql, from).map(([seq, document, content]) => ({
    seq: typeof seq === "bigint" ? seq : 0n,
    document: Number(document),
    content: typeof content === "string" ? content : null,
  }));
}

/**
 * Of each document its entries up to one of the list, assembled as they are asked for, in their order. Those that are passed by
 * come before the first one that is asked for.
 */
class ChangedDocuments implements Disposable {
  readonly #reader: Reader;
  readonly #to: bigint;
  readonly #open = new Map<PlannedDocument, Generator<ChangedDocument>>();

  constructor(reader: Reader, to: bigint) {
    this.#reader = reader;
    this.#to = to;
  }

  at(planned: PlannedDocument, seq: bigint): ChangedDocument {
    let rows = this.#open.get(planned);
    if (rows === undefined) this.#open.set(planned, (rows = this.#reader.rows(planned).changed(seq, this.#to)));
    const { value, done } = rows.next();
    invariant(done !== true && value.seq === seq, "an entry that is not passed by is read");
    return value;
  }

  /** A statement that has rows left keeps its snapshot. */
  [Symbol.dispose](): void {
    for (const rows of this.#open.values()) rows.return(undefined);
  }
}

/** A block grows: each entry is a transaction of its own. */
class BlockWriter {
  readonly #epoch: number;
  readonly #writer = new DocumentWriter();
  readonly #block: Block;
  readonly #nowUs = BigInt(Date.now()) * 1000n;

  constructor(epoch: number) {
    this.#epoch = epoch;
    this.#block = new Block(this.#writer.out.bytes);
  }

  get byteCount(): number {
    return this.#writer.out.length;
  }

  add(seq: bigint, table: TableVersion, rows: DocumentRows, { key, document }: ChangedDocument): void {
    const block = this.#block;
    let ordinal = block.tables.indexOf(table);
    if (ordinal < 0) ordinal = block.tables.push(table) - 1;
    const tx = block.transactions.add(seq, rowVersion(this.#epoch, seq), this.#nowUs, 0);
    const tuple = document === null ? null : rows.write(this.#writer, table, document);
    if (tuple === null) block.append(OP_DELETE, ordinal, NO_TUPLE, rows.writeKey(this.#writer, key), BEFORE_KEY, tx, 0);
    else block.append(OP_UPDATE, ordinal, tuple, NO_TUPLE, BEFORE_NONE, tx, 0);
  }

  mark(seq: bigint, content: string): void {
    this.#block.messages.push({
      at: this.#block.count,
      prefix: MARK_PREFIX,
      content: Buffer.from(content),
      position: seq,
      transactional: false,
    });
  }

  finish(commit: bigint): Block {
    const block = this.#block;
    block.bytes = this.#writer.out.view();
    block.byteCount = block.bytes.length;
    block.until = { epoch: this.#epoch, commit, index: 0 };
    block.arrivedMs = Date.now();
    return block;
  }
}
