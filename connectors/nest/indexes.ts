/** The indexes by which documents are climbed and built. */
import { tableId } from "../../src/core/model/schema.ts";
import type { Document } from "../../src/documents/document.ts";
import { type SqliteFile, unlessBusy } from "../sqlite/file.ts";
import { quoteIdentifier } from "../sqlite/names.ts";
import type { LayoutColumn, SqliteLayout } from "../sqlite/tables/layout.ts";
import { orderTerms } from "./assembly.ts";
import { type Place, placesOf } from "../../src/documents/places.ts";
import type { Layouts } from "./plan.ts";
import { joinOf } from "./values.ts";

const PREFIX = "_millrace_join ";

/** An index over so many rows is made within some milliseconds. */
const ROWS_AT_ONCE = 5_000;

export interface Index {
  readonly name: string;
  readonly sql: string;
  /** The table, quoted. */
  readonly of: string;
  readonly terms: readonly string[];
}

/** All that these documents need. A table that is not there yet is taken to have columns that join others as they are. */
export function indexesOf(documents: readonly Document[], layouts: Layouts): readonly Index[] {
  const wanted = new Map<string, Index>();
  const layoutOf = ({ table }: Place): SqliteLayout | undefined => layouts.get(tableId(table.schema, table.table));
  const add = (layout: SqliteLayout, joins: readonly string[], order: readonly string[]): void => {
    if (isKeyPrefix(layout, joins, order)) return;
    const terms = [...joins, ...order];
    const list = terms.join(", ");
    const name = `${PREFIX}${layout.name} ${list}`;
    const sql = `CREATE INDEX IF NOT EXISTS ${quoteIdentifier(name)} ON ${layout.sqlName} (${list})`;
    wanted.set(name, { name, sql, of: layout.sqlName, terms });
  };
  for (const place of documents.flatMap(placesOf)) {
    if (place.above === null) continue;
    const [upper, lower] = [layoutOf(place.above), layoutOf(place)];
    const joins = place.joins.map((join) => {
      const { above, below } = join;
      const [one, other] = [columnIn(upper, above), columnIn(lower, below)];
      const of = one === undefined || other === undefined ? null : joinOf(one, other, join);
      return { above: of?.[0]?.("") ?? one?.sqlName, below: of?.[1]?.("") ?? other?.sqlName };
    });
    const [above, below] = [joins.map((join) => join.above), joins.map((join) => join.below)];
    if (upper !== undefined && isWhole(above)) add(upper, above, []);
    if (lower !== undefined && isWhole(below)) add(lower, below, orderOf(place, lower));
  }
  // One that begins in the same way finds the same rows.
  const all = [...wanted.values()];
  const isLonger = (one: Index, { of, terms }: Index): boolean =>
    one.of === of && one.terms.length > terms.length && terms.every((term, i) => term === one.terms[i]);
  return all.filter((index) => !all.some((one) => isLonger(one, index)));
}

function columnIn(layout: SqliteLayout | undefined, name: string): LayoutColumn | undefined {
  return layout?.columns.find(({ source }) => source.name === name);
}

function isWhole(terms: readonly (string | undefined)[]): terms is readonly string[] {
  return terms.every((term) => term !== undefined);
}

/** Makes those that are missing. Those of large tables take long. */
export async function makeIndexes(file: SqliteFile, wanted: readonly Index[], signal: AbortSignal): Promise<void> {
  const made = indexesIn(file);
  for (const { name, sql, of } of wanted) {
    if (made.has(name)) continue;
    const isLarge = file.rows(`SELECT 1 FROM ${of} LIMIT 1 OFFSET ${ROWS_AT_ONCE}`).length > 0;
    if (isLarge) await file.runBeside(signal, sql);
    else await unlessBusy(signal, () => file.exec(sql));
  }
}

/** Removes ours that nobody needs. */
export function dropIndexes(file: SqliteFile, wanted: readonly Index[]): void {
  const names = new Set(wanted.map(({ name }) => name));
  for (const name of indexesIn(file).difference(names)) file.exec(`DROP INDEX ${quoteIdentifier(name)}`);
}

function indexesIn(file: SqliteFile): ReadonlySet<string> {
  const there = file.rows("SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB ?", `${PREFIX}*`);
  return new Set(there.map(([name]) => String(name)));
}

/** Where only the first rows are wanted, the index has them in their order. */
function orderOf({ relation, isBetween, above }: Place, layout: SqliteLayout): readonly string[] {
  if (relation === null || isBetween || above?.isBetween === true || relation.limit === null) return [];
  if (!relation.orderBy.every(({ column }) => columnIn(layout, column) !== undefined)) return [];
  const terms = orderTerms(relation, layout, "");
  if (!terms.every(({ isIndexable }) => isIndexable)) return [];
  const listed = terms.map(({ sql, isDescending }) => `${sql}${isDescending ? " DESC" : ""}`);
  // The number of the row is behind all terms anyway.
  const [key, ...others] = layout.key;
  const isNumber = others.length === 0 && key?.sqlite.name === "INTEGER";
  return isNumber && listed.at(-1) === key.sqlName ? listed.slice(0, -1) : listed;
}

/** SQLite has an index of the key, in which a row is found by columns in any order. */
function isKeyPrefix({ key }: SqliteLayout, joins: readonly string[], order: readonly string[]): boolean {
  const names = key.map(({ sqlName }) => sqlName);
  const isFound = new Set(joins).symmetricDifference(new Set(names.slice(0, joins.length))).size === 0;
  return isFound && order.every((term, i) => term === names[joins.length + i]);
}
