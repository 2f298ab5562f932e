/** The indexes by which documents are climbed and built. */
import { tableId } from "../../src/core/model/schema.ts";
import type { Document } from "../../src/documents/document.ts";
import type { SqliteFile } from "../sqlite/file.ts";
import { quoteIdentifier } from "../sqlite/names.ts";
import type { LayoutColumn, SqliteLayout } from "../sqlite/tables/layout.ts";
import { orderTerms } from "./assembly.ts";
import { type Place, placesOf } from "../../src/documents/places.ts";
import type { Layouts } from "./plan.ts";
import { joinOf } from "./values.ts";

const PREFIX = "_millrace_join ";

export interface Index {
  readonly name: string;
  readonly sql: string;
}

/**
 * All that these documents need. A table that is not there yet is taken to have columns that join others as they are: its
 * neighbours get their indexes while they are empty.
 */
export function indexesOf(documents: readonly Document[], layouts: Layouts): readonly Index[] {
  const wanted = new Map<string, Index>();
  const layoutOf = ({ table }: Place): SqliteLayout | undefined => layouts.get(tableId(table.schema, table.table));
  const add = (layout: SqliteLayout, terms: readonly string[]): void => {
    if (isKeyPrefix(layout, terms)) return;
    const list = terms.join(", ");
    const name = `${PREFIX}${layout.name} ${list}`;
    const sql = `CREATE INDEX IF NOT EXISTS ${quoteIdentifier(name)} ON ${layout.sqlName} (${list})`;
    wanted.set(name, { name, sql });
  };
  for (const place of documents.flatMap(placesOf)) {
    if (place.above === null) continue;
    const [upper, lower] = [layoutOf(place.above), layoutOf(place)];
    const joins = place.joins.map(({ above, below }) => {
      const [one, other] = [columnIn(upper, above), columnIn(lower, below)];
      const of = one === undefined || other === undefined ? null : joinOf(one, other);
      return { above: of?.[0]?.("") ?? one?.sqlName, below: of?.[1]?.("") ?? other?.sqlName };
    });
    const [above, below] = [joins.map((join) => join.above), joins.map((join) => join.below)];
    if (upper !== undefined && isWhole(above)) add(upper, above);
    if (lower !== undefined && isWhole(below)) add(lower, [...below, ...orderOf(place, lower)]);
  }
  return [...wanted.values()];
}

function columnIn(layout: SqliteLayout | undefined, name: string): LayoutColumn | undefined {
  return layout?.columns.find(({ source }) => source.name === name);
}

function isWhole(terms: readonly (string | undefined)[]): terms is readonly string[] {
  return terms.every((term) => term !== undefined);
}

/** Makes those that are missing, and removes ours that nobody needs. Quick while the tables are empty. */
export function makeIndexes(file: SqliteFile, wanted: readonly Index[]): void {
  const names = new Set(wanted.map(({ name }) => name));
  const there = file.rows("SELECT name FROM sqlite_schema WHERE type = 'index' AND name GLOB ?", `${PREFIX}*`);
  for (const [name] of there) if (!names.has(String(name))) file.exec(`DROP INDEX ${quoteIdentifier(String(name))}`);
  const made = new Set(there.map(([name]) => String(name)));
  for (const { name, sql } of wanted) if (!made.has(name)) file.exec(sql);
}

/** Where only the first rows are wanted, the index has them in their order. */
function orderOf({ relation, isBetween, above }: Place, layout: SqliteLayout): readonly string[] {
  if (relation === null || isBetween || above?.isBetween === true || relation.limit === null) return [];
  if (!relation.orderBy.every(({ column }) => columnIn(layout, column) !== undefined)) return [];
  const terms = orderTerms(relation, layout, "");
  if (!terms.every(({ isIndexable }) => isIndexable)) return [];
  return terms.map(({ sql, isDescending }) => `${sql}${isDescending ? " DESC" : ""}`);
}

/** SQLite has an index of the key. */
function isKeyPrefix({ key }: SqliteLayout, terms: readonly string[]): boolean {
  return terms.length <= key.length && terms.every((term, i) => term === key[i]!.sqlName);
}
