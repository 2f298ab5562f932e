/**
 * What the statements of a document are compiled from: its places, each with the present shape of its table in the file.
 * A document whose tables lack a column that it needs, or have it with a type that it can't use, has a fault instead.
 */
import type { SQLOutputValue } from "node:sqlite";
import { invariant } from "../../src/core/invariant.ts";
import { tableId } from "../../src/core/model/schema.ts";
import type { Document, Join, Relation } from "../../src/documents/document.ts";
import { bindWhere, TRUE } from "../../src/rules/where/condition.ts";
import { parseWhere, WhereError } from "../../src/rules/where/syntax.ts";
import type { Functions } from "../sqlite/file.ts";
import type { LayoutColumn, SqliteLayout } from "../sqlite/tables/layout.ts";
import { type Place, placesOf } from "../../src/documents/places.ts";
import { joinOf, readable, textOf } from "./values.ts";

/** By table id. */
export type Layouts = ReadonlyMap<string, SqliteLayout>;

export interface PlannedPlace {
  /** Unique among all documents; statements and functions are named by it. */
  readonly number: number;
  readonly place: Place;
  readonly layout: SqliteLayout;
  readonly above: PlannedPlace | null;
  readonly joins: readonly PlannedJoin[];
  readonly condition: Condition | null;
}

interface PlannedJoin {
  /** `row`: what names the row above or below. */
  readonly above: (row: string) => string;
  readonly below: (row: string) => string;
}

export interface PlannedDocument {
  readonly document: Document;
  /** Number of the document in the file. */
  readonly id: number;
  /** In the order of `placesOf`. */
  readonly places: readonly PlannedPlace[];
}

/** Says why the document can't be built; the reader wrote the configuration, so it may name tables and columns. */
export class DocumentFault extends Error {
  /** Only columns are others that the document follows: it is going to be made from those. */
  readonly isPassing: boolean;

  constructor(message: string, isPassing = false) {
    super(message);
    this.isPassing = isPassing;
  }
}

/** `places`: of the document; `numbered`: how many places other documents have before it. */
export function planDocument(document: Document, id: number, layouts: Layouts, numbered: number): PlannedDocument {
  const planned = new Map<Place, PlannedPlace>();
  let passing: DocumentFault | null = null;
  for (const place of placesOf(document)) {
    const layout = layouts.get(tableId(place.table.schema, place.table.table));
    const name = `${place.table.schema}.${place.table.table}`;
    if (layout === undefined) throw new DocumentFault(`table ${name} is not there`);
    const above = place.above === null ? null : planned.get(place.above)!;
    for (const column of place.needs) columnOf(layout, column);
    const gone = [...place.uses].find((column) => layout.columns.every(({ source }) => source.name !== column));
    if (gone !== undefined) passing ??= lacking(layout, gone, true);
    const joins = above === null ? [] : place.joins.map((join) => planJoin(join, above.layout, layout));
    const number = numbered + planned.size;
    const condition = place.where === null ? null : new Condition(place.where, layout, number);
    planned.set(place, { number, place, layout, above, joins, condition });
  }
  const places = [...planned.values()];
  const inKey = places[0]!.layout.key.filter(({ source }) =>
    document.root.fields.every(({ column }) => column !== source.name),
  );
  if (inKey.length > 0)
    throw new DocumentFault(
      `its root lacks the key's column ${JSON.stringify(inKey[0]!.source.name)}`,
      document.root.hasAll === true,
    );
  if (passing !== null) throw passing;
  return { document, id, places };
}

/** Of a document that can't be built its root alone, by which the keys of roots are noted; null: there is no such table. */
export function rootOf(document: Document, id: number, layouts: Layouts, number: number): PlannedDocument | null {
  const { table } = document.root;
  const layout = layouts.get(tableId(table.schema, table.table));
  if (layout === undefined) return null;
  const fields = layout.key.map(({ source: { name } }) => ({ name, column: name }));
  const root = { ...document.root, fields, relations: [] };
  try {
    return planDocument({ ...document, root }, id, layouts, number);
  } catch (error) {
    if (!(error instanceof DocumentFault)) throw error;
    // Its condition has the fault: any row may have been a document.
    return planDocument({ ...document, root, where: null }, id, layouts, number);
  }
}

/** The places of a relation under one: the table in between, if there is one, and its node. */
export function placesUnder(
  above: PlannedPlace,
  relation: Relation,
  places: readonly PlannedPlace[],
): readonly [PlannedPlace | null, PlannedPlace] {
  const under = (one: PlannedPlace): PlannedPlace =>
    places.find((other) => other.above === one && other.place.relation === relation)!;
  const first = under(above);
  return first.place.isBetween ? [first, under(first)] : [null, first];
}

export function columnOf({ columns, table }: SqliteLayout, name: string): LayoutColumn {
  const found = columns.find(({ source }) => source.name === name);
  if (found === undefined) throw lacking({ table }, name, false);
  return found;
}

function lacking({ table }: Pick<SqliteLayout, "table">, column: string, isPassing: boolean): DocumentFault {
  return new DocumentFault(`table ${table.id} has no column ${JSON.stringify(column)}`, isPassing);
}

function planJoin(given: Join, upper: SqliteLayout, lower: SqliteLayout): PlannedJoin {
  const { above, below } = given;
  const [one, other] = [columnOf(upper, above), columnOf(lower, below)];
  const join = joinOf(one, other, given);
  if (join !== null) return { above: join[0]!, below: join[1]! };
  const [a, b] = [`${upper.table.id}.${above}`, `${lower.table.id}.${below}`];
  throw new DocumentFault(
    `column ${a} is ${one.source.native} and ${b} is ${other.source.native}: they can't be joined`,
  );
}

/** A condition of the configuration over stored rows, as a function of SQL. The same code decides as for filters of rules. */
export class Condition {
  readonly #name: string;
  readonly #columns: readonly LayoutColumn[];
  readonly #evaluate: (values: readonly SQLOutputValue[]) => boolean;

  constructor(where: string, layout: SqliteLayout, number: number) {
    this.#name = `nest_where_${number}`;
    const bound = boundWhere(where, layout);
    const used = layout.columns.filter(({ source }) => bound.columns.has(source.name));
    invariant(used.length > 0, "a condition is over columns");
    this.#columns = used;
    const ordinals = new Map(layout.columns.map((column, i) => [i, used.indexOf(column)]));
    let values: readonly SQLOutputValue[] = [];
    const row = {
      text: (ordinal: number): string | null => {
        const i = ordinals.get(ordinal)!;
        return textOf(used[i]!, values[i]!);
      },
      isLeftOut: () => false,
      remembered: () => undefined,
    };
    this.#evaluate = (given) => {
      values = given;
      return bound.evaluate(row) === TRUE;
    };
  }

  /** `row`: what names the row. */
  sql(row: string): string {
    return `${this.#name}(${this.#columns.map((column) => readable(column, row)).join(", ")})`;
  }

  define(database: Functions): void {
    const options = { deterministic: true, varargs: true, useBigIntArguments: true };
    database.function(this.#name, options, (...values: SQLOutputValue[]) => (this.#evaluate(values) ? 1 : 0));
  }
}

function boundWhere(where: string, { columns, table }: SqliteLayout): ReturnType<typeof bindWhere> {
  try {
    return bindWhere(
      parseWhere(where),
      columns.map(({ source }) => source),
    );
  } catch (error) {
    if (error instanceof WhereError) throw new DocumentFault(`\`where\` over ${table.id}: ${error.message}`);
    throw error;
  }
}
