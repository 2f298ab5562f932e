/**
 * The file of the nest, as its sink and its source share it.
 *
 *     sink (SqliteSink) ──► rows, lists ─┐                        ┌─► source: reads the lists, builds documents
 *     source: marks, trimming ───────────┼─► one connection ──► news
 *     climbs that were left ─────────────┘   one turn at a time
 *
 * There are lists only from `beginLists` on: nobody follows them before, and a first copy is as fast as that of the SQLite sink.
 */
import { randomUUID } from "node:crypto";
import type { DatabaseSync, SQLOutputValue } from "node:sqlite";
import type { TableName } from "../../src/core/contracts/connector.ts";
import type { CompleteTables } from "../../src/core/checkpoint/completeness.ts";
import { isRecord } from "../../src/core/checkpoint/stored-json.ts";
import { systemClock } from "../../src/core/clock.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import { invariant } from "../../src/core/invariant.ts";
import { tableId, type TableVersion } from "../../src/core/model/schema.ts";
import { News } from "../../src/core/news.ts";
import { Turn } from "../../src/core/turn.ts";
import { definitionOf, type Document } from "../../src/documents/document.ts";
import type { Companion } from "../sqlite/companion.ts";
import { stopped } from "../sqlite/errors.ts";
import { rowsOf, type SqliteFile } from "../sqlite/file.ts";
import { layoutOf, type SqliteLayout } from "../sqlite/tables/layout.ts";
import { Slices } from "../sqlite/write/slices.ts";
import { DEFAULT_FORM } from "../warehouse/own-columns.ts";
import { CHANGED, Climbing, CLIMBS, type ClimbLimits, createLists, moveToEnd, widthOf } from "./climbing.ts";
import { indexesOf, makeIndexes } from "./indexes.ts";
import { columnsTaken, type Place, placesOf } from "../../src/documents/places.ts";
import { Transforms } from "../../src/documents/transforms.ts";
import { DocumentFault, type Layouts, planDocument, type PlannedDocument } from "./plan.ts";
import { defineFunctions } from "./values.ts";

/**
 * Documents by their numbers, and how they are defined. `listed`: changes are listed since its roots all were. `held`: null, or
 * entries of its stay in the list and are not followed: 0 while a table of its is not whole; then those up to this one, until
 * all of them have gone to the end.
 */
const DOCUMENTS = "_millrace_documents";
/** The tables' shapes by their ids, with the columns that are kept. */
const SHAPES = "_millrace_shapes";
/** Each opening for writing, with the first entry that it may have written. */
const OPENINGS = "_millrace_openings";
const OPENINGS_MAX = 1_000;
const FACTS = "_millrace_nest";
/** When entries were written: those from `seq` on at `at` or later, in milliseconds. */
const MOMENTS = "_millrace_moments";
/** Moments are at least so far apart; further where the oldest is old, so that there are never many. */
const MOMENT_MS = 1_000;
const MOMENTS_COUNT = 1_000;
/** More are not counted: it would take long. */
const COUNTED_MAX = 50_000;
/** The document of entries that are marks: their `k1` is what they say. */
export const MARK = 0;

/** How far the source may be behind before what was left waits for it: other changes are not to wait behind all of it. */
const BACKLOG_MAX = 4_000;
const PIECES_AT_ONCE = 4;
const MOVED_AT_ONCE = 1_000;
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
}

/**
 * A part of the list, from one opening of the file for writing to the next one. A position counts only if its opening reached
 * it: a file that was made again, or put back, has other openings, or its opening ended earlier.
 */
export interface Opening {
  readonly id: string;
  /** The last entry that it may have written. */
  readonly last: bigint;
}

/** What documents are in the present shapes of their tables. */
export interface NestPlan {
  readonly documents: readonly PlannedDocument[];
  /** Those that can't be built. */
  readonly faulty: readonly FaultyDocument[];
}

export interface FaultyDocument {
  readonly id: number;
  readonly name: string;
  readonly reason: string;
}

/** A document that waits until the nest has all rows of these tables again. */
export interface HeldDocument {
  readonly name: string;
  readonly tableIds: readonly string[];
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
  readonly #limits: ClimbLimits | undefined;
  readonly #taken: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #turn = new Turn();
  readonly #room = new News();
  #opened: Opened | null = null;
  #climbing: Climbing | null = null;
  /** Of the tables that were prepared, by their ids. */
  readonly #shapes = new Map<string, SqliteLayout>();
  /** What changes is noted for the shapes that tables have. */
  #isSettled = false;
  #plan: NestPlan | null = null;
  /** As the checkpoint in the file says. */
  #complete: CompleteTables = {};
  /** Tables that are to be read again though the checkpoint does not say so; null: nobody has said yet, as at an opening. */
  #lacking: ReadonlySet<string> | null = null;
  #openings = 0;
  #isListing = false;
  #working: Promise<void> | null = null;
  /** The source has passed everything up to this entry; null: nobody follows. */
  #passed: bigint | null = null;

  constructor({ path, documents, transforms = new Transforms(), climbing }: NestOptions) {
    this.path = path;
    this.#limits = climbing;
    this.documents = documents;
    this.transforms = transforms;
    this.#taken = columnsTaken(documents);
  }

  /** Of the tables that documents take rows of. */
  get tableIds(): readonly string[] {
    return [...this.#taken.keys()];
  }

  columns({ schema, table }: TableName): ReadonlySet<string> {
    return this.#taken.get(tableId(schema, table)) ?? new Set();
  }

  async turn(signal: AbortSignal): Promise<Disposable> {
    return await this.#turn.take(signal);
  }

  async opened(file: SqliteFile, fence: () => void, complete: CompleteTables, signal: AbortSignal): Promise<void> {
    this.#complete = complete;
    this.#lacking = null;
    defineFunctions(file);
    await file.transaction(signal, fence, () => {
      file.exec(
        `CREATE TABLE IF NOT EXISTS ${DOCUMENTS} (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, definition TEXT NOT NULL, ` +
          `listed INTEGER NOT NULL DEFAULT 0, held INTEGER) STRICT; ` +
          `CREATE TABLE IF NOT EXISTS ${SHAPES} (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, shape TEXT NOT NULL) STRICT; ` +
          `CREATE TABLE IF NOT EXISTS ${OPENINGS} (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, first INTEGER NOT NULL) STRICT; ` +
          `CREATE TABLE IF NOT EXISTS ${MOMENTS} (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT; ` +
          `CREATE TABLE IF NOT EXISTS ${FACTS} (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT`,
      );
      createLists(file, 1);
      this.#define(file);
      const tip = lastEntry(file);
      file.run(`INSERT INTO ${OPENINGS} (id, first) VALUES (?, ?)`, randomUUID(), tip + 1n);
      file.run(`DELETE FROM ${OPENINGS} WHERE number <= (SELECT max(number) FROM ${OPENINGS}) - ${OPENINGS_MAX}`);
      this.#isListing = fact(file, "listing") === 1n;
    });
    this.#opened = { file, fence, stop: new AbortController() };
    this.#openings++;
    await this.#settle(signal);
  }

  /** The definitions as they are now. What was listed of another definition of the root is void. */
  #define(file: SqliteFile): void {
    const there = new Map(
      file.rows(`SELECT name, id, definition FROM ${DOCUMENTS}`).map((row) => [String(row[0]), row]),
    );
    for (const document of this.documents) {
      const definition = storedText(document);
      const [, id = null, before] = there.get(document.name) ?? [];
      there.delete(document.name);
      if (id === null) file.run(`INSERT INTO ${DOCUMENTS} (name, definition) VALUES (?, ?)`, document.name, definition);
      else if (before !== definition) {
        file.run(`UPDATE ${DOCUMENTS} SET definition = ?2 WHERE id = ?1`, id, definition);
        const stored: unknown = JSON.parse(String(before));
        const given: unknown = JSON.parse(definition);
        if (isDocument(stored) && isDocument(given) && definitionOf(stored) === definitionOf(given)) continue;
        file.run(`UPDATE ${DOCUMENTS} SET listed = 0 WHERE id = ?`, id);
        file.run(`DELETE FROM ${CLIMBS} WHERE document = ?`, id);
        file.run(`DELETE FROM ${CHANGED} WHERE document = ?`, id);
      }
    }
    for (const [, id = null] of there.values()) {
      for (const list of [CHANGED, CLIMBS]) file.run(`DELETE FROM ${list} WHERE document = ?`, id);
      file.run(`DELETE FROM ${DOCUMENTS} WHERE id = ?`, id);
    }
  }

  async closing(): Promise<void> {
    this.#opened?.stop.abort();
    await this.#working;
    this.#opened = null;
    this.#climbing = null;
    this.#isSettled = false;
    this.#plan = null;
    this.#lacking = null;
    this.#shapes.clear();
    this.news.tell();
  }

  /** Rows may be lost, or other than they were, with nothing that notes it: all roots are listed when the table is prepared. */
  changing({ table }: SqliteLayout): void {
    const { file } = this.#open;
    for (const { name } of this.documents.filter((document) => placesOf(document).some(isOf(table))))
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
  }

  /** From here on changes are listed, of the documents that can be built. */
  async #settle(signal: AbortSignal): Promise<void> {
    const { file, fence } = this.#open;
    const plan = await file.transaction(signal, fence, () => {
      this.#storeShapes(file);
      makeIndexes(file, indexesOf(this.documents, layoutsIn(file)));
      const stored = storedPlans(file);
      const { documents, faulty } = stored;
      createLists(file, Math.max(1, ...documents.map(widthOf)));
      for (const { id } of faulty) file.run(`UPDATE ${DOCUMENTS} SET listed = 0 WHERE id = ?`, id);
      if (!this.#isListing) return stored;
      for (const [id = null] of file.rows(`SELECT id FROM ${DOCUMENTS} WHERE listed = 0`)) {
        if (!documents.some((one) => BigInt(one.id) === id)) continue;
        file.run(`INSERT INTO ${CLIMBS} (document, place) VALUES (?, 0) ON CONFLICT DO UPDATE SET again = 1`, id);
        file.run(`UPDATE ${DOCUMENTS} SET listed = 1 WHERE id = ?`, id);
      }
      return stored;
    });
    failpoint("nest.settled");
    this.#climbing?.end();
    this.#climbing = new Climbing(file, this.#isListing ? plan.documents : [], this.#limits);
    this.#climbing.begin();
    this.#isSettled = true;
    this.#plan = plan;
    this.committed();
  }

  #storeShapes(file: SqliteFile): void {
    const there = new Map(file.rows(`SELECT id, shape FROM ${SHAPES}`).map(([id, shape]) => [id, shape]));
    const other = [...this.#shapes.values()].filter(({ table }) => there.get(table.id) !== shapeText(table));
    for (const layout of other) {
      const { table, name } = layout;
      this.changing(layout);
      file.run(`INSERT OR REPLACE INTO ${SHAPES} (id, name, shape) VALUES (?, ?, ?)`, table.id, name, shapeText(table));
    }
    if (other.length > 0) setFact(file, "shapes", shapesCount(file) + 1n);
  }

  async written(slices: Slices, complete = this.#complete): Promise<void> {
    const { file } = this.#open;
    const before = lastEntry(file);
    await this.#climbing?.list(slices);
    noteMoment(file, before);
    if (complete === this.#complete) return;
    this.#complete = complete;
    this.#noteHeld(file);
  }

  committed(): void {
    this.news.tell();
    if (this.#working === null && this.#hasLeft) {
      this.#working = this.#workOff(this.#open.stop.signal).finally(() => (this.#working = null));
    }
  }

  /** These tables are to be read again. */
  async hold(lacking: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const before = this.#lacking;
    if (before?.symmetricDifference(lacking).size === 0) return;
    await this.transaction(signal, (file) => {
      this.#lacking = lacking;
      this.#noteHeld(file);
    });
    this.committed();
  }

  /** Of which documents the nest has not all rows. */
  get held(): readonly HeldDocument[] {
    return this.documents.flatMap((document) => {
      const ids = new Set(placesOf(document).map(({ table }) => tableId(table.schema, table.table)));
      const tableIds = [...ids].filter((id) => this.#complete[id] === undefined || this.#lacking?.has(id) === true);
      return tableIds.length === 0 ? [] : [{ name: document.name, tableIds }];
    });
  }

  /** Invariant: in the transaction that makes a table whole, or that no longer has it whole. */
  #noteHeld(file: SqliteFile): void {
    const held = new Set(this.held.map(({ name }) => name));
    for (const { name } of this.documents) {
      if (held.has(name)) file.run(`UPDATE ${DOCUMENTS} SET held = 0 WHERE name = ? AND held IS NOT 0`, name);
      else file.run(`UPDATE ${DOCUMENTS} SET held = nullif(?, 0) WHERE name = ? AND held = 0`, lastEntry(file), name);
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

  /** What was left, in pieces, while the source keeps up. */
  async #workOff(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#hasRoom(signal);
        const isLeft = await this.transaction(signal, async (file) => {
          const slices = new Slices(signal);
          const before = lastEntry(file);
          for (let piece = 0; piece < PIECES_AT_ONCE && this.#climbing?.hasLeft === true; piece++)
            await this.#climbing.workOff(slices);
          this.#release(file);
          noteMoment(file, before);
          return this.#hasLeft;
        });
        failpoint("nest.climbed");
        if (!isLeft) return;
      } catch {
        // Of a disk that is full the sink's own batch tells. Whatever it is, the climbs stay in the file.
        if (!signal.aborted) await systemClock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  /** A piece of the entries of a document whose tables are whole again. */
  #release(file: SqliteFile): void {
    const [released] = releasedIn(file);
    if (released === undefined) return;
    const [id, until] = released;
    if (!moveToEnd(file, id, until, MOVED_AT_ONCE)) file.run(`UPDATE ${DOCUMENTS} SET held = NULL WHERE id = ?`, id);
  }

  async #hasRoom(signal: AbortSignal): Promise<void> {
    for (;;) {
      const { count } = this.#room;
      if (this.#passed === null || lastEntry(this.#open.file) - this.#passed <= BACKLOG_MAX) return;
      await this.#room.after(count, systemClock, WAIT_MS, signal);
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
    const { file, fence } = this.#open;
    let tip = 0n;
    await file.transaction(signal, fence, () => {
      setFact(file, "listing", 1n);
      // Whoever begins copies all documents as of now, or of later.
      file.run(`UPDATE ${DOCUMENTS} SET listed = 0`);
      for (const { id } of storedPlans(file).documents) file.run(`UPDATE ${DOCUMENTS} SET listed = 1 WHERE id = ?`, id);
      file.exec(`DELETE FROM ${CLIMBS}; DELETE FROM ${CHANGED}; UPDATE ${DOCUMENTS} SET held = NULL WHERE held > 0`);
      tip = lastEntry(file);
      setFact(file, "trimmed", tip);
    });
    failpoint("nest.lists-begun");
    this.#isListing = true;
    await this.#settle(signal);
    return tip;
  }

  async endLists(signal: AbortSignal): Promise<void> {
    await this.transaction(signal, (file) => {
      setFact(file, "listing", 0n);
      file.run(`UPDATE ${DOCUMENTS} SET listed = 0`);
      file.exec(`DELETE FROM ${CLIMBS}; DELETE FROM ${CHANGED}`);
    });
    using _ = await this.turn(signal);
    this.#isListing = false;
    await this.#settle(signal);
  }

  /** Writes a mark, and returns its entry. */
  async mark(content: string, signal: AbortSignal): Promise<bigint> {
    const seq = await this.transaction(signal, (file) => {
      file.run(`INSERT OR REPLACE INTO ${CHANGED} (document, k1) VALUES (${MARK}, ?)`, content);
      return lastEntry(file);
    });
    failpoint("nest.marked");
    return seq;
  }

  /** The source has passed all entries up to this one. */
  passed(seq: bigint): void {
    if (this.#passed !== null && this.#passed >= seq) return;
    this.#passed = seq;
    this.#room.tell();
  }

  /** What the source has not passed yet, by documents' names. */
  waiting(reading: Reading): ReadonlyMap<string, Waiting> {
    return waitingIn(reading, this.#passed ?? trimmedTo(reading) ?? 0n);
  }

  /** Forgets all entries up to this one. */
  async trim(seq: bigint, signal: AbortSignal): Promise<void> {
    for (let isDone = false; !isDone;) {
      isDone = await this.transaction(signal, (file) => {
        const [row] = file.rows(
          `SELECT seq FROM ${CHANGED} WHERE seq <= ? AND ${PASSED} ORDER BY seq LIMIT 1 OFFSET ?`,
          seq,
          TRIMMED_AT_ONCE,
        );
        const until = typeof row?.[0] === "bigint" ? row[0] : seq;
        file.run(`DELETE FROM ${CHANGED} WHERE seq <= ? AND ${PASSED}`, until);
        file.run(`DELETE FROM ${MOMENTS} WHERE seq < (SELECT max(seq) FROM ${MOMENTS} WHERE seq <= ?)`, until);
        setFact(file, "trimmed", until);
        return until === seq;
      });
      failpoint("nest.trimmed");
    }
  }
}

/** An entry that the source has not skipped. */
const PASSED = `NOT EXISTS (SELECT 1 FROM ${DOCUMENTS} AS d WHERE d.id = document AND (d.held = 0 OR d.held >= seq))`;

/** Of a table it has the name, whatever else its object tells. */
function storedText(document: Document): string {
  return JSON.stringify(document, (name, value: unknown) =>
    name === "table" && isRecord(value) ? { schema: value["schema"], table: value["table"] } : value,
  );
}

function isOf({ id }: TableVersion): (place: Place) => boolean {
  return ({ table }) => tableId(table.schema, table.table) === id;
}

/** A connection that reads the file. */
export interface Reading {
  rows(sql: string, ...values: readonly (string | number | bigint)[]): readonly (readonly SQLOutputValue[])[];
}

export function readingOf(database: DatabaseSync): Reading {
  return { rows: (sql, ...values) => rowsOf(database, sql, ...values) };
}

/** The last entry that was ever written. */
export function lastEntry(reading: Reading): bigint {
  const [row] = reading.rows("SELECT seq FROM sqlite_sequence WHERE name = ?", CHANGED);
  return typeof row?.[0] === "bigint" ? row[0] : 0n;
}

export interface Waiting {
  /** Entries. */
  readonly count: number;
  /** Not all are counted, or some are not listed yet. */
  readonly isMore: boolean;
  /** When the first of them was written, about; null: not known. */
  readonly sinceMs: number | null;
}

function waitingIn(reading: Reading, passed: bigint): ReadonlyMap<string, Waiting> {
  const listed = new Map(
    reading
      .rows(
        `SELECT document, count(*), min(seq) FROM ` +
          `(SELECT document, seq FROM ${CHANGED} WHERE seq > ? ORDER BY seq LIMIT ${COUNTED_MAX}) GROUP BY document`,
        passed,
      )
      .map(([document, count, first]) => [document, { count: Number(count), first }]),
  );
  const isCut = [...listed.values()].reduce((sum, { count }) => sum + count, 0) >= COUNTED_MAX;
  const left = new Set(reading.rows(`SELECT DISTINCT document FROM ${CLIMBS}`).map(([document]) => document));
  return new Map(
    reading.rows(`SELECT id, name FROM ${DOCUMENTS}`).map(([id, name]) => {
      const { count = 0, first = null } = listed.get(id ?? null) ?? {};
      const [moment] =
        typeof first === "bigint"
          ? reading.rows(`SELECT at FROM ${MOMENTS} WHERE seq <= ? ORDER BY seq DESC LIMIT 1`, first)
          : [];
      const sinceMs = moment === undefined ? null : Number(moment[0]);
      return [String(name), { count, isMore: isCut || left.has(id ?? null), sinceMs }];
    }),
  );
}

/** `before`: the last entry before those that were just written. */
function noteMoment(file: SqliteFile, before: bigint): void {
  if (lastEntry(file) === before) return;
  const now = Date.now();
  const [row] = file.rows(`SELECT min(at), max(at) FROM ${MOMENTS}`);
  const [oldest = null, newest = null] = row ?? [];
  if (typeof newest === "bigint") {
    const gap = Math.max(MOMENT_MS, (now - Number(oldest)) / MOMENTS_COUNT);
    if (now - Number(newest) < gap) return;
  }
  file.run(`INSERT OR REPLACE INTO ${MOMENTS} (seq, at) VALUES (?, ?)`, before + 1n, now);
}

/** Everything up to this entry was forgotten; null: changes are not listed. */
export function trimmedTo(reading: Reading): bigint | null {
  return fact(reading, "listing") === 1n ? (fact(reading, "trimmed") ?? 0n) : null;
}

/** The present one; null: the file was never opened. */
export function lastOpening(reading: Reading): Opening | null {
  const [row] = reading.rows(`SELECT id FROM ${OPENINGS} ORDER BY number DESC LIMIT 1`);
  return row === undefined ? null : { id: String(row[0]), last: lastEntry(reading) };
}

/** Null: the file never had it. */
export function openingOf(reading: Reading, id: string): Opening | null {
  const next = `SELECT first - 1 FROM ${OPENINGS} AS later WHERE later.number > o.number ORDER BY later.number LIMIT 1`;
  const [row] = reading.rows(`SELECT (${next}) FROM ${OPENINGS} AS o WHERE id = ?`, id);
  if (row === undefined) return null;
  return { id, last: typeof row[0] === "bigint" ? row[0] : lastEntry(reading) };
}

/** By number of the document, up to which entry it is not followed; null: it is not whole. */
export function heldIn(reading: Reading): ReadonlyMap<number, bigint | null> {
  const rows = reading.rows(`SELECT id, nullif(held, 0) FROM ${DOCUMENTS} WHERE held IS NOT NULL`);
  return new Map(rows.map(([id, until]) => [Number(id), typeof until === "bigint" ? until : null]));
}

/** Those that are whole again. */
function releasedIn(reading: Reading): readonly (readonly [document: number, until: bigint])[] {
  return [...heldIn(reading)].flatMap(([id, until]) => (until === null ? [] : [[id, until] as const]));
}

/** Another number means that shapes of tables are others. */
export function shapesCount(reading: Reading): bigint {
  return fact(reading, "shapes") ?? 0n;
}

/** The documents of the file, as far as they can be built, and what is wrong with the others. */
export function storedPlans(reading: Reading): NestPlan {
  const layouts = layoutsIn(reading);
  const documents: PlannedDocument[] = [];
  const faulty: FaultyDocument[] = [];
  let numbered = 0;
  for (const [id, name, definition] of reading.rows(`SELECT id, name, definition FROM ${DOCUMENTS} ORDER BY id`)) {
    const document: unknown = JSON.parse(String(definition));
    invariant(isDocument(document), "the nest holds what was stored there");
    try {
      const planned = planDocument(document, Number(id), layouts, numbered);
      documents.push(planned);
      numbered += planned.places.length;
    } catch (error) {
      if (!(error instanceof DocumentFault)) throw error;
      faulty.push({ id: Number(id), name: String(name), reason: error.message });
    }
  }
  return { documents, faulty };
}

/** As the file has them, whether they can be built or not. */
export function storedDocuments(reading: Reading): readonly Document[] {
  const isThere = reading.rows("SELECT 1 FROM sqlite_schema WHERE name = ?", DOCUMENTS).length > 0;
  if (!isThere) return [];
  return reading.rows(`SELECT definition FROM ${DOCUMENTS} ORDER BY id`).flatMap(([definition]) => {
    const document: unknown = JSON.parse(String(definition));
    return isDocument(document) ? [document] : [];
  });
}

export function layoutsIn(reading: Reading): Layouts {
  return new Map(
    reading.rows(`SELECT id, name, shape FROM ${SHAPES}`).map(([id, name, shape]) => {
      const table: unknown = JSON.parse(String(shape));
      invariant(isShape(table), "the nest holds what was stored there");
      const since = { epoch: 1, commit: 0n, index: 0 };
      return [String(id), layoutOf({ ...table, since }, String(name), { form: DEFAULT_FORM, dropsColumns: true })];
    }),
  );
}

/** Without what differs though the shape is the same. */
function shapeText({
  id,
  schema,
  table,
  dialect,
  relation,
  columns,
  key,
  deferrableKey,
  fingerprint,
}: TableVersion): string {
  return JSON.stringify({ id, schema, table, dialect, relation, columns, key, deferrableKey, version: 1, fingerprint });
}

function isShape(value: unknown): value is Omit<TableVersion, "since"> {
  return isRecord(value) && typeof value["id"] === "string" && Array.isArray(value["columns"]);
}

function isDocument(value: unknown): value is Document {
  return isRecord(value) && typeof value["name"] === "string" && isRecord(value["root"]);
}

function fact(reading: Reading, name: string): bigint | null {
  const [row] = reading.rows(`SELECT value FROM ${FACTS} WHERE name = ?`, name);
  return typeof row?.[0] === "bigint" ? row[0] : null;
}

function setFact(file: SqliteFile, name: string, value: bigint): void {
  file.run(`INSERT OR REPLACE INTO ${FACTS} (name, value) VALUES (?, ?)`, name, value);
}
