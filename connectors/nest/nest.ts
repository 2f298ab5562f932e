/**
 * The file of the nest, as its sink and its source share it.
 *
 *     sink (SqliteSink) ──► rows, lists ─┐                        ┌─► source: reads the lists, builds documents
 *     source: marks, trimming ───────────┼─► one connection ──► news
 *     climbs that were left ─────────────┘   one turn at a time
 *
 * There are lists only from `beginLists` on: nobody follows them before, and a first copy is as fast as that of the SQLite sink.
 */
import { constants } from "node:buffer";
import type { TableName } from "../../src/core/contracts/connector.ts";
import type { CompleteTables } from "../../src/core/checkpoint.ts";
import { deadline, systemClock } from "../../src/core/clock.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import { tableId } from "../../src/core/model/schema.ts";
import { News, Turn } from "../../src/core/waiting.ts";
import type { Document } from "../../src/documents/document.ts";
import { columnsFolded, columnsIndexed, columnsTaken, placesOf } from "../../src/documents/places.ts";
import { Transforms } from "../../src/documents/transforms.ts";
import type { Companion } from "../sqlite/companion.ts";
import { stopped } from "../sqlite/errors.ts";
import type { SqliteFile } from "../sqlite/file.ts";
import type { SqliteLayout } from "../sqlite/tables/layout.ts";
import { Slices } from "../sqlite/write/slices.ts";
import { CHANGED, Climbing, type ClimbLimits, CLIMBS, createLists, moveToEnd, widthOf } from "./climbing.ts";
import { dropIndexes, indexesOf, makeIndexes } from "./indexes.ts";
import {
  createTables,
  define,
  DOCUMENTS,
  lastEntry,
  layoutsIn,
  MARK,
  MOMENTS,
  type NestPlan,
  noteMoment,
  noteOpening,
  PASSED,
  type Reading,
  releasedIn,
  setFact,
  storedPlans,
  storeShape,
  trimmedTo,
  type Waiting,
  waitingIn,
} from "./stored.ts";
import { ReadDelay, type ReadDelayLimits } from "./read-delay.ts";
import { Pace } from "./pace.ts";
import { defineFunctions } from "./values.ts";

/** A transaction of what was left ends after so long, if not with as many entries as `Pace` says. */
const PIECES_MS = 50;
const TRIMMED_AT_ONCE = 5_000;
const RETRY_MS = 1_000;
const WAIT_MS = 1_000;

export interface NestOptions {
  readonly path: string;
  readonly documents: readonly Document[];
  /** Their functions; default: none. */
  readonly transforms?: Transforms;
  /** How much a batch climbs. */
  readonly climbing?: ClimbLimits;
  /** When changed documents are read. */
  readonly readDelay?: ReadDelayLimits;
  /** Default: what fits into a text. */
  readonly documentBytesMax?: number;
}

/** A document that waits until the nest has all rows of these tables again. */
interface HeldDocument {
  readonly name: string;
  readonly tableIds: readonly string[];
}

/** Of a document's entries, those up to here are at the end of the list. */
interface Moved {
  readonly id: number;
  readonly to: bigint;
}

interface Opened {
  readonly file: SqliteFile;
  readonly fence: () => void;
  readonly stop: AbortController;
}

export class Nest implements Companion {
  readonly path: string;
  readonly documents: readonly Document[];
  readonly transforms: Transforms;
  /** Told at each commit: of entries, of marks, of shapes. */
  readonly news = new News();
  readonly documentBytesMax: number;
  readonly #limits: ClimbLimits | undefined;
  readonly #taken: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #folded: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #indexed: ReadonlyMap<string, ReadonlySet<string>>;
  /** Ids of the tables of each document. */
  readonly #tablesOf: ReadonlyMap<string, readonly string[]>;
  readonly #readDelay: ReadDelay;
  readonly #turn = new Turn();
  readonly #room = new News();
  #opened: Opened | null = null;
  #climbing: Climbing | null = null;
  /** Of the tables that were prepared, by their ids. */
  readonly #shapes = new Map<string, SqliteLayout>();
  /** What changes is noted for the shapes that tables have. */
  #isSettled = false;
  #plan: NestPlan | null = null;
  /** Of which tables the file has all rows: as its checkpoint says. */
  #complete: () => CompleteTables = () => ({});
  /**
   * Tables that are to be read again though the checkpoint does not say so; null: not known, as at an opening, or after a commit
   * that failed and may be in the file.
   */
  #lacking: ReadonlySet<string> | null = null;
  #openings = 0;
  #working: Promise<void> | null = null;
  /** All sinks have everything up to this entry; null: nobody follows. */
  #passed: bigint | null = null;
  /** The same of the sinks that take documents now: what was left waits for them. */
  #followed: bigint | null = null;

  constructor({
    path,
    documents,
    transforms = new Transforms(),
    climbing,
    readDelay,
    documentBytesMax = constants.MAX_STRING_LENGTH,
  }: NestOptions) {
    this.path = path;
    this.documentBytesMax = documentBytesMax;
    this.#limits = climbing;
    this.#readDelay = new ReadDelay(readDelay);
    this.documents = documents;
    this.transforms = transforms;
    this.#taken = columnsTaken(documents);
    this.#folded = columnsFolded(documents);
    this.#indexed = columnsIndexed(documents);
    this.#tablesOf = new Map(
      documents.map((document) => {
        const ids = placesOf(document).map(({ table }) => tableId(table.schema, table.table));
        return [document.name, [...new Set(ids)]];
      }),
    );
  }

  /** Of the tables that documents take rows of. */
  get tableIds(): readonly string[] {
    return [...this.#taken.keys()];
  }

  columns({ schema, table }: TableName): ReadonlySet<string> {
    return this.#taken.get(tableId(schema, table)) ?? new Set();
  }

  folded({ schema, table }: TableName): ReadonlySet<string> {
    return this.#folded.get(tableId(schema, table)) ?? new Set();
  }

  indexed({ schema, table }: TableName): ReadonlySet<string> {
    return this.#indexed.get(tableId(schema, table)) ?? new Set();
  }

  async turn(signal: AbortSignal): Promise<Disposable> {
    return await this.#turn.take(signal);
  }

  async opened(
    file: SqliteFile,
    fence: () => void,
    complete: () => CompleteTables,
    signal: AbortSignal,
  ): Promise<void> {
    this.#complete = complete;
    this.#lacking = null;
    defineFunctions(file);
    await file.transaction(signal, fence, () => {
      createTables(file);
      createLists(file, 1);
      define(file, this.documents);
      noteOpening(file);
    });
    this.#opened = { file, fence, stop: new AbortController() };
    this.#openings++;
    await this.#settle(signal);
  }

  async closing(): Promise<void> {
    this.#opened?.stop.abort();
    await this.#working;
    this.#opened = null;
    this.#readDelay.ended(0, performance.now());
    this.#climbing = null;
    this.#isSettled = false;
    this.#plan = null;
    this.#lacking = null;
    this.#shapes.clear();
    this.news.tell();
  }

  /**
   * Rows may be lost, or other than they were, with nothing that notes it: all roots are listed when the table is prepared.
   * Invariant: the shape that the file tells of a table is the one that it has, whenever the process ends.
   */
  changing(layout: SqliteLayout): void {
    const { file } = this.#open;
    storeShape(file, layout);
    this.#unlist(file, layout);
    if (trimmedTo(file) !== null) this.#noteHeld(file, this.#complete(), this.#lacking);
  }

  #unlist(file: SqliteFile, { table }: SqliteLayout): void {
    for (const { name } of this.documents.filter((document) => this.#tablesOf.get(document.name)!.includes(table.id)))
      file.run(`UPDATE ${DOCUMENTS} SET listed = 0 WHERE name = ?`, name);
  }

  preparing(): void {
    this.#climbing?.end();
    this.#climbing = null;
    this.#isSettled = false;
  }

  async prepared(layouts: readonly SqliteLayout[], signal: AbortSignal): Promise<void> {
    for (const layout of layouts) this.#shapes.set(layout.table.id, layout);
    await this.#settle(signal);
  }

  async writing(signal: AbortSignal): Promise<void> {
    if (!this.#isSettled) await this.#settle(signal);
    this.#readDelay.begun();
  }

  /**
   * What changes is noted for the present shapes, of the documents that can be built, if changes are listed. `begin`: done
   * before, in the same transaction.
   */
  async #settle(signal: AbortSignal, begin: (file: SqliteFile) => void = () => undefined): Promise<void> {
    const { file, fence } = this.#open;
    // A commit that fails may be in the file.
    this.#isSettled = false;
    if (trimmedTo(file) !== null) await this.#makeIndexes(signal);
    const { plan, noted } = await file.transaction(signal, fence, () => {
      begin(file);
      for (const layout of this.#shapes.values()) if (storeShape(file, layout)) this.#unlist(file, layout);
      dropIndexes(file, indexesOf(this.documents, layoutsIn(file)));
      const plan = storedPlans(file);
      const { documents, faulty } = plan;
      // Of a document that can't be built now the roots that go are listed all the same.
      const followed = [...documents, ...faulty.flatMap(({ root }) => root ?? [])];
      createLists(file, Math.max(1, ...followed.map(widthOf)));
      for (const { id } of faulty) file.run(`UPDATE ${DOCUMENTS} SET listed = 0 WHERE id = ?`, id);
      this.#noteHeld(file, this.#complete(), this.#lacking, plan);
      if (trimmedTo(file) === null) return { plan, noted: [] };
      for (const [id = null] of file.rows(`SELECT id FROM ${DOCUMENTS} WHERE listed = 0`)) {
        if (!documents.some((one) => BigInt(one.id) === id)) continue;
        file.run(`INSERT INTO ${CLIMBS} (document, place) VALUES (?, 0) ON CONFLICT DO UPDATE SET again = 1`, id);
        file.run(`UPDATE ${DOCUMENTS} SET listed = 1 WHERE id = ?`, id);
      }
      return { plan, noted: followed };
    });
    failpoint("nest.settled");
    this.#climbing?.end();
    this.#climbing = new Climbing(file, noted, this.#limits);
    this.#climbing.begin();
    this.#isSettled = true;
    this.#plan = plan;
    this.committed();
  }

  /** Before lists begin nobody looks for joined rows, and an index that is made of all rows at once is smaller and costs less. */
  async #makeIndexes(signal: AbortSignal): Promise<void> {
    const { file } = this.#open;
    const layouts = new Map([...layoutsIn(file), ...this.#shapes]);
    await makeIndexes(file, indexesOf(this.documents, layouts), signal);
  }

  async written(slices: Slices, complete = this.#complete()): Promise<void> {
    const { file } = this.#open;
    const before = lastEntry(file);
    await this.#climbing?.list(slices);
    noteMoment(file, before);
    this.#noteHeld(file, complete, this.#lacking);
  }

  committed(filled = 0): void {
    this.#readDelay.ended(filled, performance.now());
    this.news.tell();
    if (this.#working === null && this.#hasLeft) {
      this.#working = this.#workOff(this.#open.stop.signal).finally(() => (this.#working = null));
    }
  }

  /** These tables are to be read again. */
  async hold(lacking: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    if (this.#lacking?.symmetricDifference(lacking).size === 0) return;
    using _ = await this.turn(signal);
    const { file, fence } = this.#open;
    try {
      await file.transaction(signal, fence, () => this.#noteHeld(file, this.#complete(), lacking));
    } catch (error) {
      this.#lacking = null;
      throw error;
    }
    this.#lacking = lacking;
    this.committed();
  }

  /** Of which documents the nest has not all rows. */
  get held(): readonly HeldDocument[] {
    return this.#heldBy(this.#complete(), this.#lacking);
  }

  #heldBy(complete: CompleteTables, lacking: ReadonlySet<string> | null): readonly HeldDocument[] {
    return this.documents.flatMap(({ name }) => {
      const tableIds = this.#tablesOf
        .get(name)!
        .filter((id) => complete[id] === undefined || lacking?.has(id) === true);
      return tableIds.length === 0 ? [] : [{ name, tableIds }];
    });
  }

  /**
   * Invariant: in the transaction that makes a table whole, or that no longer has it whole, or that gives it another shape: the
   * entries of a document that can't be built stay too. What differs is seen in the file: no memory is to know what the last
   * commit left there.
   */
  #noteHeld(
    file: SqliteFile,
    complete: CompleteTables,
    lacking: ReadonlySet<string> | null,
    { faulty }: NestPlan = this.#isSettled ? this.#plan! : storedPlans(file),
  ): void {
    const held = new Set([...this.#heldBy(complete, lacking), ...faulty].map(({ name }) => name));
    for (const [id, name, isHeld] of file.rows(`SELECT id, name, held IS 0 FROM ${DOCUMENTS}`)) {
      if (held.has(String(name)) === (isHeld === 1n)) continue;
      if (isHeld === 0n) file.run(`UPDATE ${DOCUMENTS} SET held = 0 WHERE id = ?`, id!);
      // Of what is not known, nothing is released.
      else if (lacking !== null)
        file.run(`UPDATE ${DOCUMENTS} SET held = nullif(?, 0) WHERE id = ?`, lastEntry(file), id!);
    }
  }

  /** Whether documents are still to be listed. */
  get #hasLeft(): boolean {
    return this.#climbing?.hasLeft === true || releasedIn(this.#open.file).length > 0;
  }

  /** Resolves when all that has changed up to now is listed. */
  async listed(signal: AbortSignal): Promise<void> {
    for (;;) {
      const { count } = this.news;
      if (this.#opened !== null && this.#lacking !== null && !this.#hasLeft) return;
      await this.news.after(count, systemClock, WAIT_MS, signal);
    }
  }

  /** What was left, in pieces, while sinks keep up. */
  async #workOff(signal: AbortSignal): Promise<void> {
    const pace = new Pace(this.#limits?.pieceRows);
    let moved: Moved | null = null;
    while (!signal.aborted) {
      try {
        const count = (await this.#hasRoom(pace.count, signal))
          ? pace.seen(this.#followed, performance.now())
          : pace.max;
        const done = await this.transaction(signal, async (file) => {
          const slices = new Slices(signal);
          const before = lastEntry(file);
          const until = performance.now() + PIECES_MS;
          const isFull = (): boolean => lastEntry(file) - before >= count || performance.now() > until;
          while (this.#climbing?.hasLeft === true) {
            await this.#climbing.workOff(slices, count);
            if (isFull()) break;
          }
          const released = this.#release(file, moved);
          noteMoment(file, before);
          return { released, isLeft: this.#hasLeft };
        });
        moved = done.released;
        failpoint("nest.climbed");
        if (!done.isLeft) return;
      } catch {
        // Of a disk that is full the sink's own batch tells. Whatever it is, the climbs stay in the file.
        if (!signal.aborted) await systemClock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  /** A piece of the entries of a document whose tables are whole again. Returns what has been moved so far; null: all. */
  #release(file: SqliteFile, moved: Moved | null): Moved | null {
    const [released] = releasedIn(file);
    if (released === undefined) return null;
    const [id, until] = released;
    const to = moveToEnd(file, id, { after: moved?.id === id ? moved.to : 0n, until });
    if (to === until) file.run(`UPDATE ${DOCUMENTS} SET held = NULL WHERE id = ?`, id);
    return to === until ? null : { id, to };
  }

  /** False: one of the sinks is slow, and the others are not to wait for it longer. */
  async #hasRoom(behindMax: number, signal: AbortSignal): Promise<boolean> {
    using limit = deadline(systemClock, WAIT_MS, signal);
    for (;;) {
      const { count } = this.#room;
      if (this.#followed === null || lastEntry(this.#open.file) - this.#followed <= behindMax) return true;
      await this.#room.after(count, systemClock, WAIT_MS, limit.signal).catch(() => undefined);
      signal.throwIfAborted();
      if (limit.signal.aborted) return false;
    }
  }

  /** One transaction of the connection that writes, between those of the sink. Rejects while the sink is not open. */
  async transaction<T>(signal: AbortSignal, work: (file: SqliteFile) => T | Promise<T>): Promise<T> {
    using _ = await this.turn(signal);
    const { file, fence } = this.#open;
    const result = await file.transaction(signal, fence, () => work(file));
    this.news.tell();
    return result;
  }

  /** Another object after each change; null: the file is not open for writing, or it is not known which tables are whole. */
  get plan(): NestPlan | null {
    return this.#lacking === null ? null : this.#plan;
  }

  /** How often the file was opened for writing: a reader opens it again, as it may be another one. */
  get openings(): number {
    return this.#openings;
  }

  get #open(): Opened {
    if (this.#opened === null) throw stopped();
    return this.#opened;
  }

  /** From here on changes are listed. Returns the last entry before. */
  async beginLists(signal: AbortSignal): Promise<bigint> {
    using _ = await this.turn(signal);
    let tip = 0n;
    await this.#makeIndexes(signal);
    await this.#settle(signal, (file) => {
      setFact(file, "listing", 1n);
      // A reader that begins copies all documents as of now, or of later.
      file.run(`UPDATE ${DOCUMENTS} SET listed = 0`);
      for (const { id } of storedPlans(file).documents) file.run(`UPDATE ${DOCUMENTS} SET listed = 1 WHERE id = ?`, id);
      file.exec(`DELETE FROM ${CLIMBS}; DELETE FROM ${CHANGED}; UPDATE ${DOCUMENTS} SET held = NULL WHERE held > 0`);
      tip = lastEntry(file);
      setFact(file, "trimmed", tip);
    });
    failpoint("nest.lists-begun");
    return tip;
  }

  async endLists(signal: AbortSignal): Promise<void> {
    using _ = await this.turn(signal);
    await this.#settle(signal, (file) => {
      setFact(file, "listing", 0n);
      file.run(`UPDATE ${DOCUMENTS} SET listed = 0`);
      file.exec(`DELETE FROM ${CLIMBS}; DELETE FROM ${CHANGED}`);
    });
  }

  /** Resolves when changed documents are to be read: see `ReadDelay`. */
  async untilRead(signal: AbortSignal): Promise<void> {
    for (;;) {
      const { count } = this.news;
      const leftMs = this.#readDelay.leftMs(performance.now());
      if (leftMs === 0) return this.#readDelay.read();
      await this.news.after(count, systemClock, leftMs, signal);
    }
  }

  /** Writes a mark, which somebody waits for, and returns its entry. */
  async mark(content: string, signal: AbortSignal): Promise<bigint> {
    this.#readDelay.read();
    const seq = await this.transaction(signal, (file) => {
      file.run(`INSERT OR REPLACE INTO ${CHANGED} (document, k1) VALUES (${MARK}, ?)`, content);
      return lastEntry(file);
    });
    failpoint("nest.marked");
    return seq;
  }

  /** All sinks have what the entries up to this one tell; `followed`: those that are not paused, nor away. */
  passed(seq: bigint, followed?: bigint): void {
    const before = this.#followed;
    if (this.#passed === null || this.#passed < seq) this.#passed = seq;
    const now = followed ?? before ?? seq;
    this.#followed = now > this.#passed ? now : this.#passed;
    if (before !== this.#followed) this.#room.tell();
  }

  /** What not all sinks have yet, by documents' names. */
  waiting(reading: Reading): ReadonlyMap<string, Waiting> {
    return waitingIn(reading, this.#passed ?? trimmedTo(reading) ?? 0n);
  }

  /**
   * Forgets all entries up to this one. Invariant: those that stay are of documents that are held, and go to the end of the list
   * before these no longer are. So nobody looks through them again.
   */
  async trim(seq: bigint, signal: AbortSignal): Promise<void> {
    for (let isDone = false; !isDone;) {
      isDone = await this.transaction(signal, (file) => {
        const from = trimmedTo(file);
        const last = lastEntry(file);
        const to = seq < last ? seq : last;
        if (from === null || to <= from) return true;
        const above = `FROM ${CHANGED} WHERE seq > ? AND seq <= ? AND ${PASSED}`;
        const [row] = file.rows(`SELECT seq ${above} ORDER BY seq LIMIT 1 OFFSET ?`, from, to, TRIMMED_AT_ONCE);
        const until = typeof row?.[0] === "bigint" ? row[0] : to;
        file.run(`DELETE ${above}`, from, until);
        file.run(`DELETE FROM ${MOMENTS} WHERE seq < (SELECT max(seq) FROM ${MOMENTS} WHERE seq <= ?)`, until);
        setFact(file, "trimmed", until);
        return until === to;
      });
      failpoint("nest.trimmed");
    }
  }
}
