/** One document for people: as sinks get it, and the rows that it is made of; or why there is none. For looking only. */
import type { DatabaseSync, SQLInputValue, SQLOutputValue } from "node:sqlite";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { tableId } from "../../src/core/model/schema.ts";
import { spelledJson } from "../../src/core/targets/expected-json.ts";
import type { Relation } from "../../src/documents/document.ts";
import type { Transforms } from "../../src/documents/transforms.ts";
import { nestVersion } from "../sqlite/companion.ts";
import { openExisting } from "../sqlite/file.ts";
import { keyTerm, keyValue } from "../sqlite/inspect/inspect.ts";
import { VERSION_COLUMN } from "../warehouse/own-columns.ts";
import { orderTerms } from "./assembly.ts";
import { readingOf, storedPlans } from "./stored.ts";
import { placesUnder, type PlannedDocument, type PlannedPlace } from "./plan.ts";
import { DocumentRows } from "./source/rows.ts";
import { columnsOf } from "./source/tables.ts";
import { defineFunctions, readable, textOf } from "./values.ts";

export interface ShownDocument {
  /** The JSON of the object; null: there is none, and `reason` says why. */
  readonly json: string | null;
  readonly reason: string | null;
  /** Whether it has changed and the sinks do not all have it yet. */
  readonly isWaiting: boolean;
  /** That it is, or would be, made of. */
  readonly rows: readonly ShownRow[];
}

export interface ShownRow {
  /** The relation with those above it; empty: the root. */
  readonly path: readonly string[];
  readonly table: string;
  readonly key: readonly string[];
  /** See core/model/position. */
  readonly version: bigint;
}

/** A document as the nest at this path has it now. `transforms`: of the configuration. */
export function shownDocument(path: string, name: string, key: KeyText, transforms: Transforms): ShownDocument {
  const database = openExisting(path);
  if (database === null) return nothing(`there is no nest ${path}: the daemon has not run with documents`);
  try {
    const { documents, faulty } = storedPlans(readingOf(database));
    const planned = documents.find(({ document }) => document.name === name);
    if (planned !== undefined) return shown(database, planned, key, transforms);
    const fault = faulty.find((one) => one.name === name);
    const why =
      fault === undefined ? "the daemon has not run with this document" : `it can't be built: ${fault.reason}`;
    return nothing(why);
  } finally {
    database.close();
  }
}

function nothing(reason: string): ShownDocument {
  return { json: null, reason, isWaiting: false, rows: [] };
}

function shown(database: DatabaseSync, planned: PlannedDocument, key: KeyText, transforms: Transforms): ShownDocument {
  const { document, places } = planned;
  const { layout } = places[0]!;
  const names = layout.key.map(({ source }) => source.name);
  if (names.length !== key.length) return nothing(`its key is ${names.join(", ")}`);
  if (!transforms.hasAllOf(document))
    return nothing("the daemon has run with another function: `millrace documents plan` says what a start changes");
  defineFunctions(database);
  for (const { condition } of places) condition?.define(database);
  const documentRows = new DocumentRows(database, planned, transforms);
  const rows = new RowWalk(database, planned).from(key);
  const isWaiting = documentRows.isListed(key);
  const without = (reason: string): ShownDocument => ({ json: null, reason, isWaiting, rows });
  const { id } = layout.table;
  if (rows.length === 0) return without(`${id} has no row with this key, or a rule of \`tables\` leaves it out`);
  const values = documentRows.one(key);
  if (values === null) return without(`\`where\` leaves it out: ${document.where}`);
  const made = documentRows.made(values);
  if (made.kind === "leftOut") return without(`function ${document.root.transform?.function} leaves it out`);
  if (made.kind === "failed") return without(made.how);
  const fields = columnsOf(planned).made.map(({ name, type }, i) => {
    const text = made.texts[i] ?? null;
    return `${JSON.stringify(name)}:${text === null ? "null" : spelledJson(type, text)}`;
  });
  return { json: `{${fields.join(",")}}`, reason: null, isWaiting, rows };
}

/** From the root's row down, as a document is assembled. */
class RowWalk {
  readonly #database: DatabaseSync;
  readonly #planned: PlannedDocument;

  constructor(database: DatabaseSync, planned: PlannedDocument) {
    this.#database = database;
    this.#planned = planned;
  }

  from(key: KeyText): readonly ShownRow[] {
    const { document, places } = this.#planned;
    const root = places[0]!;
    const parts = root.layout.key.map(({ sqlName, source }, i) => `p.${sqlName} = ${keyTerm(source, i + 1, true)}`);
    const given = root.layout.key.map(({ source }, i) => keyValue(source, key[i]!, true));
    const sql = `SELECT ${selected(root, "p")} FROM ${root.layout.sqlName} AS p WHERE ${parts.join(" AND ")}`;
    return this.#read(sql, given).flatMap((row) => [
      shownRow([], root, row),
      ...document.root.relations.flatMap((one) => this.#below(one, root, row, [])),
    ]);
  }

  #below(relation: Relation, above: PlannedPlace, row: Row, path: readonly string[]): readonly ShownRow[] {
    const own = [...path, relation.name];
    const [between, place] = placesUnder(above, relation, this.#planned.places);
    const joined = place.joins.map((join) => `${join.above(between === null ? "a" : "b")} = ${join.below("p")}`);
    if (place.condition !== null) joined.push(place.condition.sql("p"));
    const inBetween = between?.joins.map((join) => `${join.above("a")} = ${join.below("b")}`) ?? [];
    const isRow = above.layout.key.map(({ sqlName }, i) => `a.${sqlName} = ?${i + 1}`);
    const order = orderTerms(relation, place.layout, "p").map(({ sql, isDescending, nulls }) =>
      [sql, ...(isDescending ? ["DESC"] : []), ...(nulls === null ? [] : [`NULLS ${nulls}`])].join(" "),
    );
    const limit = relation.many ? relation.limit : 1;
    const from = [above.layout.sqlName + " AS a", ...(between === null ? [] : [`${between.layout.sqlName} AS b`])];
    const sql =
      `SELECT ${selected(place, "p")}${between === null ? "" : `, ${selected(between, "b")}`} ` +
      `FROM ${from.join(" CROSS JOIN ")} CROSS JOIN ${place.layout.sqlName} AS p ` +
      `WHERE ${[...isRow, ...inBetween, ...joined].join(" AND ")} ` +
      `ORDER BY ${order.join(", ")}${limit === null ? "" : ` LIMIT ${limit}`}`;
    return this.#read(sql, row.slice(0, above.layout.key.length).map(bound)).flatMap((found) => [
      ...(between === null ? [] : [shownRow(own, between, found.slice(widthOf(place)))]),
      shownRow(own, place, found),
      ...relation.node.relations.flatMap((one) => this.#below(one, place, found, own)),
    ]);
  }

  #read(sql: string, values: readonly SQLInputValue[]): readonly Row[] {
    const statement = this.#database.prepare(sql);
    statement.setReadBigInts(true);
    return statement.all(...values).map((row) => Object.values(row));
  }
}

/** The stored key, the key for reading, the version. */
type Row = readonly SQLOutputValue[];

function selected({ layout }: PlannedPlace, row: string): string {
  const { key } = layout;
  const stored = key.map(({ sqlName }) => `${row}.${sqlName}`);
  const terms = [...stored, ...key.map((column) => readable(column, row)), `${row}.${VERSION_COLUMN}`];
  // Names of their own, because the driver's rows are objects.
  return terms.map((term, i) => `${term} AS ${row}${i}`).join(", ");
}

function widthOf({ layout }: PlannedPlace): number {
  return 2 * layout.key.length + 1;
}

function shownRow(path: readonly string[], { layout }: PlannedPlace, row: Row): ShownRow {
  const { key, table } = layout;
  const version = row[2 * key.length];
  return {
    path,
    table: tableId(table.schema, table.table),
    key: key.map((column, i) => textOf(column, row[key.length + i] ?? null) ?? ""),
    version: typeof version === "bigint" ? nestVersion(version) : 0n,
  };
}

function bound(value: SQLOutputValue): SQLInputValue {
  return value instanceof Uint8Array ? Uint8Array.from(value) : value;
}
