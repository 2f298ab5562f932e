/**
 * Which documents a batch changes.
 *
 *     a row of order_items changes ──► trigger ──► waiting values of its place: order_id, before and after
 *                                                          │ at the end of the batch, set by set
 *                                     rows of the place above that have them: orders ──► waiting values of that place …
 *                                                          │ until the root
 *                                                          ▼
 *                                     `_millrace_changed`: the keys of the roots, at the end of the list
 *
 * It is enough to climb from both values in the state after the batch. Take a document that differs, and of the rows that
 * differ in it one whose rows above are all the same before and after. The row above has the value that the row had before or
 * has now, and is there when we climb; and so on up to the root. A row above that did change climbs for itself. For the same
 * reason a climb may be late: what has changed since has climbed too.
 *
 * A value may have any number of rows above it (a customer with a million orders). A batch climbs over a bounded number of
 * rows. What is left goes into `_millrace_climbs` in the same transaction, and is worked off in pieces.
 */
import type { SqliteFile } from "../sqlite/file.ts";
import { chained, parameters } from "../sqlite/tables/layout.ts";
import { placeOf, type Slices, walked, walkOf } from "../sqlite/write/slices.ts";
import type { PlannedDocument, PlannedPlace } from "./plan.ts";
import { differs } from "./values.ts";

/** The keys of changed roots, in the order of their last change. */
export const CHANGED = "_millrace_changed";
/**
 * Climbs that were left. `a1` and so on: the row behind which it goes on, null at the beginning; `again`: it begins once more at
 * its end. Place 0: all roots of the document.
 */
export const CLIMBS = "_millrace_climbs";

export interface ClimbLimits {
  readonly batchRows: number;
  /** How many rows one statement climbs over, and from how many values. */
  readonly stepRows: number;
  readonly stepValues: number;
  /** Of what was left, how many one transaction climbs over at most. Default: as sinks keep up (`Pace`). */
  readonly pieceRows?: number;
}

const LIMITS: ClimbLimits = { batchRows: 2_000, stepRows: 1_000, stepValues: 500 };

/** Null: all. As one bound of a range: of a condition with OR, SQLite would look at all that waits. */
const UP_TO = "ifnull(?1, 9223372036854775807)";

/** Creates the lists, for documents whose keys and joins have at most `width` columns, or widens them. */
export function createLists(file: Pick<SqliteFile, "exec" | "rows">, width: number): void {
  file.exec(
    `CREATE TABLE IF NOT EXISTS ${CHANGED} (seq INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL) STRICT; ` +
      `CREATE TABLE IF NOT EXISTS ${CLIMBS} (id INTEGER PRIMARY KEY, document INTEGER NOT NULL, place INTEGER NOT NULL, ` +
      `again INTEGER NOT NULL DEFAULT 0) STRICT`,
  );
  widen(file, CHANGED, "k", width, "document");
  widen(file, CLIMBS, "v", width, "document, place");
  addColumns(file, CLIMBS, "a", width, "ANY");
}

/** A value that an entry has not is 0. The index finds one entry, and is of no use to readers of the list of one document. */
function widen(
  file: Pick<SqliteFile, "exec" | "rows">,
  list: string,
  prefix: string,
  width: number,
  besides: string,
): void {
  if (!addColumns(file, list, prefix, width, "ANY NOT NULL DEFAULT 0")) return;
  file.exec(
    `DROP INDEX IF EXISTS ${list}_once; CREATE UNIQUE INDEX ${list}_once ON ${list} (${names(prefix, width)}, ${besides})`,
  );
}

/** False: it has so many. */
function addColumns(
  file: Pick<SqliteFile, "exec" | "rows">,
  list: string,
  prefix: string,
  count: number,
  definition: string,
): boolean {
  const there = widthIn(file, list, prefix);
  for (let i = there + 1; i <= count; i++) file.exec(`ALTER TABLE ${list} ADD COLUMN ${prefix}${i} ${definition}`);
  return there < count;
}

function widthIn(file: Pick<SqliteFile, "rows">, list: string, prefix: string): number {
  return file.rows("SELECT 1 FROM pragma_table_info(?) WHERE name GLOB ?", list, `${prefix}[0-9]*`).length;
}

/** How many columns the lists need for a document. */
export function widthOf({ places }: PlannedDocument): number {
  return Math.max(...places.map((place) => Math.max(arityOf(place), place.layout.key.length)));
}

const MOVED_AT_ONCE = 1_000;

/** The first entries of a document behind `after`, and none behind `until`, go to the end. Returns up to where. */
export function moveToEnd(
  file: Pick<SqliteFile, "run" | "rows">,
  document: number,
  { after, until }: { readonly after: bigint; readonly until: bigint },
): bigint {
  const of = `FROM ${CHANGED} WHERE document = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq`;
  const [next] = file.rows(`SELECT seq ${of} LIMIT 1 OFFSET ?4`, document, after, until, MOVED_AT_ONCE);
  const keys = names("k", widthIn(file, CHANGED, "k"));
  const to = typeof next?.[0] === "bigint" ? next[0] - 1n : until;
  file.run(`INSERT OR REPLACE INTO ${CHANGED} (document, ${keys}) SELECT document, ${keys} ${of}`, document, after, to);
  return to;
}

export class Climbing {
  readonly #file: SqliteFile;
  readonly #documents: readonly PlannedDocument[];
  readonly #limits: ClimbLimits;

  /** `file`: the one connection that writes. */
  constructor(file: SqliteFile, documents: readonly PlannedDocument[], limits = LIMITS) {
    this.#file = file;
    this.#documents = documents;
    this.#limits = limits;
  }

  /** From here on the connection notes what it changes. */
  begin(): void {
    for (const place of this.#places()) {
      place.condition?.define(this.#file);
      const values = names("v", arityOf(place));
      this.#file.exec(
        `CREATE TABLE IF NOT EXISTS temp.${waiting(place)} (n INTEGER PRIMARY KEY, ${values}, UNIQUE (${values}))`,
      );
      for (const event of EVENTS) this.#file.exec(triggerSql(place, event));
    }
  }

  end(): void {
    for (const place of this.#places()) {
      for (const event of EVENTS) this.#file.exec(`DROP TRIGGER IF EXISTS temp.${triggerName(place, event)}`);
      this.#file.exec(`DROP TABLE IF EXISTS temp.${waiting(place)}`);
    }
  }

  /** Lists the documents that were changed since the last call, in the transaction of the changes. */
  async list(slices: Slices): Promise<void> {
    const { batchRows, stepRows, stepValues } = this.#limits;
    let left = batchRows;
    for (const { id, places } of this.#documents) {
      for (const [ordinal, place] of [...places.entries()].toReversed()) {
        for (let count = stepValues; this.#isAnyWaiting(place);) {
          if (slices.isOver) await slices.next();
          if (left <= 0 && place.above !== null) {
            this.#leave(id, ordinal, place, null);
            continue;
          }
          const last = this.#lastOf(place, count);
          const visited = place.above === null ? 0 : this.#count(place, place.above, last);
          if (visited <= stepRows) {
            this.#step(id, place, last);
            left -= visited;
            count = stepValues;
          } else if (count > 1) count = Math.ceil(count / 4);
          else this.#leave(id, ordinal, place, last);
        }
      }
    }
  }

  get hasLeft(): boolean {
    return this.#file.rows(`SELECT 1 FROM ${CLIMBS} LIMIT 1`).length > 0;
  }

  /** A piece of a climb that was left, over at most so many rows; the others follow in turn. In a transaction. */
  async workOff(slices: Slices, rowsMax: number): Promise<void> {
    const file = this.#file;
    const [climb] = file.rows(`SELECT id, document, place, again, a1 IS NULL FROM ${CLIMBS} ORDER BY id LIMIT 1`);
    if (climb === undefined) return;
    const [id = null, document, ordinal, again, isFirst] = climb;
    const place = this.#documents.find((one) => BigInt(one.id) === document)?.places[Number(ordinal)];
    // One of a document that is no more.
    if (place === undefined) return void file.run(`DELETE FROM ${CLIMBS} WHERE id = ?`, id);
    const above = place.above ?? place;
    const walk = walkOf(file, above.layout.sqlName);
    const at = walk.map((_, i) => `a${i + 1}`);
    const passed = at.map((name) => `c.${name}`);
    const goesOn = isFirst === 1n ? [] : [walked(walk, ">", passed, "a")];
    const rows =
      `FROM ${CLIMBS} AS c CROSS JOIN ${above.layout.sqlName} AS a ` +
      `ON ${[...joined(place), ...goesOn, "true"].join(" AND ")} WHERE c.id = ?1`;
    const names = walk.map((name) => `a.${name}`).join(", ");
    const skipped = Math.min(this.#limits.stepRows, rowsMax) - 1;
    const to = placeOf(file.rows(`SELECT ${names} ${rows} ORDER BY ${names} LIMIT 1 OFFSET ${skipped}`, id));
    const piece = to === null ? rows : `${rows} AND ${walked(walk, "<=", parameters(walk.length, 2), "a")}`;
    file.run(`${into(above)} ${selected(above, "a", piece)}`, id, ...(to ?? []));
    if (to === null && again === 0n) file.run(`DELETE FROM ${CLIMBS} WHERE id = ?`, id);
    else {
      const sets = at.map((name, i) => `${name} = ${to === null ? "NULL" : `?${i + 2}`}`);
      if (to === null) sets.push("again = 0");
      const last = `id = (SELECT max(id) + 1 FROM ${CLIMBS})`;
      file.run(`UPDATE ${CLIMBS} SET ${[last, ...sets].join(", ")} WHERE id = ?1`, id, ...(to ?? []));
    }
    await this.list(slices);
  }

  *#places(): Generator<PlannedPlace> {
    for (const { places } of this.#documents) yield* places;
  }

  #isAnyWaiting(place: PlannedPlace): boolean {
    return this.#file.rows(`SELECT 1 FROM temp.${waiting(place)} LIMIT 1`).length > 0;
  }

  /** Number of the last of the first `count` values; null: of all. */
  #lastOf(place: PlannedPlace, count: number): bigint | null {
    const [row] = this.#file.rows(`SELECT n FROM temp.${waiting(place)} ORDER BY n LIMIT 1 OFFSET ?`, count);
    return typeof row?.[0] === "bigint" ? row[0] - 1n : null;
  }

  /** How many rows above the values up to `last` have; not much more than one step takes. */
  #count(place: PlannedPlace, above: PlannedPlace, last: bigint | null): number {
    // One at most.
    if (isByKey(place, above)) return 0;
    const [row] = this.#file.rows(
      `SELECT count(*) FROM (SELECT 1 ${rowsAbove(place, above)} LIMIT ${this.#limits.stepRows + 1})`,
      last,
    );
    return Number(row?.[0] ?? 0);
  }

  #step(documentId: number, place: PlannedPlace, last: bigint | null): void {
    const { above } = place;
    if (above !== null) {
      const condition = above.condition === null ? "" : ` AND ${above.condition.sql("a")}`;
      this.#file.run(`${into(above)} ${selected(above, "a", rowsAbove(place, above) + condition)}`, last);
    } else {
      const width = arityOf(place);
      this.#file.run(
        `INSERT OR REPLACE INTO ${CHANGED} (document, ${names("k", width)}) ` +
          `SELECT ?2, ${names("v", width)} FROM temp.${waiting(place)} WHERE n <= ${UP_TO} ORDER BY n`,
        last,
        documentId,
      );
    }
    this.#remove(place, last);
  }

  #leave(documentId: number, ordinal: number, place: PlannedPlace, last: bigint | null): void {
    const values = names("v", arityOf(place));
    this.#file.run(
      `INSERT INTO ${CLIMBS} (document, place, ${values}) SELECT ?2, ?3, ${values} FROM temp.${waiting(place)} ` +
        `WHERE n <= ${UP_TO} ${AGAIN}`,
      last,
      documentId,
      ordinal,
    );
    this.#remove(place, last);
  }

  #remove(place: PlannedPlace, last: bigint | null): void {
    if (last === null) this.#file.run(`DELETE FROM temp.${waiting(place)}`);
    else this.#file.run(`DELETE FROM temp.${waiting(place)} WHERE n <= ?`, last);
  }
}

const AGAIN = "ON CONFLICT DO UPDATE SET again = 1";

function names(prefix: string, count: number): string {
  return Array.from({ length: count }, (_, i) => `${prefix}${i + 1}`).join(", ");
}

/** How many values tell what waits at a place: those that join the row above, or the root's key. */
function arityOf({ layout, joins }: PlannedPlace): number {
  return joins.length === 0 ? layout.key.length : joins.length;
}

function valuesOf({ layout, joins }: PlannedPlace, row: string): readonly string[] {
  if (joins.length === 0) return layout.key.map(({ sqlName }) => `${row}.${sqlName}`);
  return joins.map(({ below }) => below(row));
}

function waiting({ number }: PlannedPlace): string {
  return `_millrace_waiting_${number}`;
}

function into(place: PlannedPlace): string {
  return `INSERT INTO temp.${waiting(place)} (${names("v", arityOf(place))})`;
}

/** The values of rows that are to wait. Null joins nothing. `rows`: ends in a condition. */
function selected(place: PlannedPlace, row: string, rows: string): string {
  const values = valuesOf(place, row);
  const isAny = values.map((value) => `${value} IS NOT NULL`).join(" AND ");
  return `SELECT ${values.join(", ")} ${rows} AND ${isAny} ON CONFLICT DO NOTHING`;
}

/** Of the values `c`. */
function joined({ joins }: PlannedPlace): readonly string[] {
  return joins.map(({ above }, i) => `${above("a")} = c.v${i + 1}`);
}

function rowsAbove(place: PlannedPlace, above: PlannedPlace): string {
  return (
    `FROM temp.${waiting(place)} AS c CROSS JOIN ${above.layout.sqlName} AS a ON ${joined(place).join(" AND ")} ` +
    `WHERE c.n <= ${UP_TO}`
  );
}

function isByKey({ joins }: PlannedPlace, { layout }: PlannedPlace): boolean {
  return layout.key.every(({ sqlName }) => joins.some(({ above }) => above("") === sqlName));
}

const EVENTS = ["insert", "update", "delete"] as const;

function triggerName({ number }: PlannedPlace, event: (typeof EVENTS)[number]): string {
  return `_millrace_${event}_${number}`;
}

/** A name in a trigger is looked for among the temporary tables first. */
function triggerSql(place: PlannedPlace, event: (typeof EVENTS)[number]): string {
  const { layout, condition } = place;
  const note = (row: "old" | "new", besides: string): string => {
    const isWanted = condition === null ? besides : `${condition.sql(row)} AND ${besides}`;
    const list = `${waiting(place)} (${names("v", arityOf(place))})`;
    return `INSERT INTO ${list} ${selected(place, row, `WHERE ${isWanted}`)};`;
  };
  const head = `CREATE TEMP TRIGGER ${triggerName(place, event)} AFTER ${event.toUpperCase()} ON main.${layout.sqlName}`;
  if (event === "insert") return `${head} BEGIN ${note("new", "true")} END`;
  if (event === "delete") return `${head} BEGIN ${note("old", "true")} END`;
  const used = layout.columns.filter(({ source }) => place.place.uses.has(source.name)).map(differs);
  const [before, after] = [valuesOf(place, "old"), valuesOf(place, "new")];
  const isElsewhere = before.map((value, i) => `${value} IS NOT ${after[i]}`).join(" OR ");
  const second = condition === null ? `(${isElsewhere})` : "true";
  return `${head} WHEN ${used.length === 0 ? "0" : chained("OR", used)} BEGIN ${note("old", "true")} ${note("new", second)} END`;
}
