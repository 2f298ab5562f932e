/** What the nest's file holds beside rows: documents, the shapes of their tables, openings, and how far its lists are. */
import { randomUUID } from "node:crypto";
import type { DatabaseSync, SQLOutputValue } from "node:sqlite";
import { isRecord } from "../../src/core/stored-json.ts";
import { invariant } from "../../src/core/invariant.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { definitionOf, type Document } from "../../src/documents/document.ts";
import { rowsOf, type SqliteFile } from "../sqlite/file.ts";
import { layoutOf, type SqliteLayout } from "../sqlite/tables/layout.ts";
import { DEFAULT_FORM } from "../warehouse/own-columns.ts";
import { CHANGED, CLIMBS } from "./climbing.ts";
import { DocumentFault, type Layouts, planDocument, type PlannedDocument, rootOf } from "./plan.ts";

/**
 * Documents by their numbers, and how they are defined. `made`: another value since entries of its were thrown away: what was made
 * before lacks what they told. `listed`: changes are listed since its roots all were. `held`: null, or
 * entries of its stay in the list and are not followed: 0 while a table of its is not whole; then those up to this one, until
 * all of them have gone to the end.
 */
export const DOCUMENTS = "_millrace_documents";
/** The tables' shapes by their ids, with the columns that are kept. */
const SHAPES = "_millrace_shapes";
/** Each opening for writing, with the first entry that it may have written. */
const OPENINGS = "_millrace_openings";
const OPENINGS_MAX = 1_000;
const FACTS = "_millrace_nest";
/** When entries were written: those from `seq` on at `at` or later, in milliseconds. */
export const MOMENTS = "_millrace_moments";
/** Moments are at least so far apart; further where the oldest is old, so that there are never many. */
const MOMENT_MS = 1_000;
const MOMENTS_COUNT = 1_000;
/** More are not counted: it would take long. */
const COUNTED_MAX = 50_000;
/** The document of entries that are marks: their `k1` is what they say. */
export const MARK = 0;

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
  readonly documents: readonly MadeDocument[];
  /** Those that can't be built. */
  readonly faulty: readonly FaultyDocument[];
}

interface MadeDocument extends PlannedDocument {
  /** See `DOCUMENTS`. */
  readonly made: string;
}

interface FaultyDocument {
  readonly id: number;
  readonly name: string;
  readonly reason: string;
  /** See DocumentFault. */
  readonly isPassing: boolean;
  /** See `rootOf`. */
  readonly root: PlannedDocument | null;
}

export function createTables(file: SqliteFile): void {
  file.exec(
    `CREATE TABLE IF NOT EXISTS ${DOCUMENTS} (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, definition TEXT NOT NULL, ` +
      `made TEXT NOT NULL, listed INTEGER NOT NULL DEFAULT 0, held INTEGER) STRICT; ` +
      `CREATE TABLE IF NOT EXISTS ${SHAPES} (id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL, shape TEXT NOT NULL) STRICT; ` +
      `CREATE TABLE IF NOT EXISTS ${OPENINGS} (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, first INTEGER NOT NULL) STRICT; ` +
      `CREATE TABLE IF NOT EXISTS ${MOMENTS} (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT; ` +
      `CREATE TABLE IF NOT EXISTS ${FACTS} (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT`,
  );
}

/** The definitions as they are now. What was listed of another definition of the root is void. */
export function define(file: SqliteFile, documents: readonly Document[]): void {
  const there = new Map(file.rows(`SELECT name, id, definition FROM ${DOCUMENTS}`).map((row) => [String(row[0]), row]));
  for (const document of documents) {
    const definition = storedText(document);
    const [, id = null, before] = there.get(document.name) ?? [];
    there.delete(document.name);
    const made = randomUUID();
    if (id === null) {
      const insert = `INSERT INTO ${DOCUMENTS} (name, definition, made) VALUES (?, ?, ?)`;
      file.run(insert, document.name, definition, made);
    } else if (before !== definition) {
      file.run(`UPDATE ${DOCUMENTS} SET definition = ?2 WHERE id = ?1`, id, definition);
      const stored: unknown = JSON.parse(String(before));
      const given: unknown = JSON.parse(definition);
      if (isDocument(stored) && isDocument(given) && definitionOf(stored) === definitionOf(given)) continue;
      file.run(`UPDATE ${DOCUMENTS} SET listed = 0, made = ? WHERE id = ?`, made, id);
      file.run(`DELETE FROM ${CLIMBS} WHERE document = ?`, id);
      file.run(`DELETE FROM ${CHANGED} WHERE document = ?`, id);
    }
  }
  for (const [, id = null] of there.values()) {
    for (const list of [CHANGED, CLIMBS]) file.run(`DELETE FROM ${list} WHERE document = ?`, id);
    file.run(`DELETE FROM ${DOCUMENTS} WHERE id = ?`, id);
  }
}

export function noteOpening(file: SqliteFile): void {
  file.run(`INSERT INTO ${OPENINGS} (id, first) VALUES (?, ?)`, randomUUID(), lastEntry(file) + 1n);
  file.run(`DELETE FROM ${OPENINGS} WHERE number <= (SELECT max(number) FROM ${OPENINGS}) - ${OPENINGS_MAX}`);
}

/** Whether the table had another shape. */
export function storeShape(file: SqliteFile, { table, name }: SqliteLayout): boolean {
  const [there] = file.rows(`SELECT shape FROM ${SHAPES} WHERE id = ?`, table.id);
  const shape = shapeText(table);
  if (there?.[0] === shape) return false;
  file.run(`INSERT OR REPLACE INTO ${SHAPES} (id, name, shape) VALUES (?, ?, ?)`, table.id, name, shape);
  setFact(file, "shapes", shapesCount(file) + 1n);
  return true;
}

/** An entry that the source has not skipped. */
export const PASSED = `NOT EXISTS (SELECT 1 FROM ${DOCUMENTS} AS d WHERE d.id = document AND (d.held = 0 OR d.held >= seq))`;

/** Of a table it has the name, whatever else its object tells. */
function storedText(document: Document): string {
  return JSON.stringify(document, (name, value: unknown) =>
    name === "table" && isRecord(value) ? { schema: value["schema"], table: value["table"] } : value,
  );
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

export function waitingIn(reading: Reading, passed: bigint): ReadonlyMap<string, Waiting> {
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
export function noteMoment(file: SqliteFile, before: bigint): void {
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
export function releasedIn(reading: Reading): readonly (readonly [document: number, until: bigint])[] {
  return [...heldIn(reading)].flatMap(([id, until]) => (until === null ? [] : [[id, until] as const]));
}

/** Another number means that shapes of tables are others. */
export function shapesCount(reading: Reading): bigint {
  return fact(reading, "shapes") ?? 0n;
}

/** The documents of the file, as far as they can be built, and what is wrong with the others. */
export function storedPlans(reading: Reading): NestPlan {
  const layouts = layoutsIn(reading);
  const documents: MadeDocument[] = [];
  const faulty: FaultyDocument[] = [];
  let numbered = 0;
  const stored = reading.rows(`SELECT id, name, definition, made FROM ${DOCUMENTS} ORDER BY id`);
  for (const [id, name, definition, made] of stored) {
    const document: unknown = JSON.parse(String(definition));
    invariant(isDocument(document), "the nest holds what was stored there");
    try {
      const planned = planDocument(document, Number(id), layouts, numbered);
      documents.push({ ...planned, made: String(made) });
      numbered += planned.places.length;
    } catch (error) {
      if (!(error instanceof DocumentFault)) throw error;
      const root = rootOf(document, Number(id), layouts, numbered++);
      faulty.push({ id: Number(id), name: String(name), reason: error.message, isPassing: error.isPassing, root });
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
      return [
        String(id),
        layoutOf({ ...table, since }, String(name), { form: DEFAULT_FORM, dropsColumns: true }, true),
      ];
    }),
  );
}

/** Without what differs though the shape is the same. */
function shapeText({ id, schema, table, dialect, relation, columns, key, deferrableKey }: TableVersion): string {
  // Columns that are not kept make no other shape. `version` grows when documents show a type in another way: then all are listed again.
  const same = { version: columns.some((column) => column.type.kind === "vector") ? 2 : 1, fingerprint: "" };
  return JSON.stringify({ id, schema, table, dialect, relation, columns, key, deferrableKey, ...same });
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

export function setFact(file: SqliteFile, name: string, value: bigint): void {
  file.run(`INSERT OR REPLACE INTO ${FACTS} (name, value) VALUES (?, ?)`, name, value);
}
