/** How many bytes the nest's file will have, by the source's statistics and by what SQLite adds to rows and indexes. */
import type { TableShape, TableSize } from "../../src/core/contracts/catalog.ts";
import { namesOfTable, tableId } from "../../src/core/model/schema.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import type { Document } from "../../src/documents/document.ts";
import { columnsFolded, columnsIndexed, columnsTaken } from "../../src/documents/places.ts";
import { isInKeyOrder, type LayoutColumn, layoutOf, type SqliteLayout } from "../sqlite/tables/layout.ts";
import { DEFAULT_FORM } from "../warehouse/own-columns.ts";
import { indexesOf } from "./indexes.ts";

export interface NestTable {
  /** `schema.table`, as the source has it. */
  readonly table: string;
  readonly columns: readonly string[];
  /** Null: the source has no statistics of it. */
  readonly rowCount: number | null;
  readonly bytes: number | null;
}

const NONE: ReadonlySet<string> = new Set();

/** Of a row or an entry of an index: its place in the page, its length, and that of its head. */
const ENTRY_BYTES = 4;
const ROW_NUMBER_BYTES = 3;
/** The form of a value in the head. */
const HEAD_BYTES = 1;
/** Of a row: two heads, and the version that it gets when it changes. */
const OWN_BYTES = 6;
/** Of a value that may have any length, if nothing is known of it. */
const UNKNOWN_BYTES = 32;
/** What pages have beside entries, when some have been put between others. */
const PAGE_SHARE = 1.1;

/** The tables that these documents take, those that take most first. `shapes`: as the source has them. */
export function nestTables(
  documents: readonly Document[],
  shapes: readonly TableShape[],
  sizes: ReadonlyMap<string, TableSize>,
): readonly NestTable[] {
  const layouts = layoutsOf(documents, shapes);
  const indexes = indexesOf(documents, layouts);
  const tables = shapes.flatMap((shape): readonly NestTable[] => {
    const layout = layouts.get(shape.id);
    if (layout === undefined) return [];
    const { schema, table } = namesOfTable(shape.id);
    const columns = layout.columns.map(({ source }) => source.name);
    const named = { table: `${schema}.${table}`, columns };
    const size = sizes.get(shape.id);
    if (size === undefined) return [{ ...named, rowCount: null, bytes: null }];
    const bytesOf = columnBytes(shape, size);
    const own = indexes.filter(({ of }) => of === layout.sqlName).map(({ terms }) => columnsIn(layout, terms));
    const rowBytes = own.reduce((sum, some) => sum + indexBytes(layout, some, bytesOf), tableBytes(layout, bytesOf));
    return [{ ...named, rowCount: size.rowCount, bytes: Math.round(size.rowCount * rowBytes * PAGE_SHARE) }];
  });
  return tables.toSorted((a, b) => (b.bytes ?? 0) - (a.bytes ?? 0));
}

function layoutsOf(documents: readonly Document[], shapes: readonly TableShape[]): ReadonlyMap<string, SqliteLayout> {
  const [taken, folded, indexed] = [columnsTaken(documents), columnsFolded(documents), columnsIndexed(documents)];
  const layouts = new Map<string, SqliteLayout>();
  for (const shape of shapes) {
    const id = tableId(shape.schema, shape.table);
    const wanted = taken.get(id);
    if (wanted === undefined) continue;
    const ordinals = shape.columns.flatMap(({ name }, i) => (wanted.has(name) || shape.key.includes(i) ? [i] : []));
    const columns = ordinals.map((ordinal) => shape.columns[ordinal]!);
    const key = shape.key.map((ordinal) => ordinals.indexOf(ordinal));
    const kept = { ...shape, columns, key, version: 1, since: { epoch: 1, commit: 0n, index: 0 } };
    const facts = { folded: folded.get(id) ?? NONE, indexed: indexed.get(id) ?? NONE };
    const rest = { form: DEFAULT_FORM, owner: undefined, dropsColumns: true };
    layouts.set(shape.id, layoutOf(kept, shape.id, rest, true, facts));
  }
  return layouts;
}

type BytesOf = (column: LayoutColumn) => number;

/** A row in its table, with the entry of its key. */
function tableBytes(layout: SqliteLayout, bytesOf: BytesOf): number {
  const { columns, key } = layout;
  const isNumbered = key.length === 1 && key[0]!.sqlite.name === "INTEGER";
  // The number of the row is its key, and is nowhere else.
  const stored = isNumbered ? columns.filter((column) => column !== key[0]) : columns;
  const row = ENTRY_BYTES + OWN_BYTES + HEAD_BYTES * columns.length + sum(stored, bytesOf);
  if (isInKeyOrder(layout)) return row;
  return row + ROW_NUMBER_BYTES + (isNumbered ? 0 : indexBytes(layout, key, bytesOf));
}

/** An entry of an index over these columns. Behind them it has what leads to the row. */
function indexBytes(layout: SqliteLayout, over: readonly LayoutColumn[], bytesOf: BytesOf): number {
  const { key } = layout;
  const behind = isInKeyOrder(layout)
    ? sum(
        key.filter((column) => !over.includes(column)),
        (column) => HEAD_BYTES + bytesOf(column),
      )
    : HEAD_BYTES + ROW_NUMBER_BYTES;
  return ENTRY_BYTES + sum(over, (column) => HEAD_BYTES + bytesOf(column)) + behind;
}

/** Terms are columns, or expressions of one. */
function columnsIn(layout: SqliteLayout, terms: readonly string[]): readonly LayoutColumn[] {
  return terms.flatMap((term) => layout.columns.find(({ sqlName }) => term.includes(sqlName)) ?? []);
}

function columnBytes({ columns }: TableShape, { columnBytes: known, restBytes }: TableSize): BytesOf {
  const varying = columns.filter(({ type }) => fixedBytes(type) === null);
  const unknown = columns.filter(({ name }) => !known.has(name));
  const left = restBytes - sum(unknown, ({ type }) => fixedBytes(type) ?? 0);
  const each = varying.length === 0 ? 0 : Math.max(0, left) / varying.length;
  return ({ source: { name, type } }) => {
    const fixed = fixedBytes(type);
    if (fixed !== null) return fixed;
    const own = known.get(name);
    if (own === undefined && each === 0) return UNKNOWN_BYTES;
    return ((own ?? 0) + each) * longerBy(type);
  };
}

/** As SQLite stores it: numbers take as many bytes as they need. Null: values have any length. */
function fixedBytes(type: ColumnType): number | null {
  switch (type.kind) {
    case "bool":
      return 0;
    case "int":
      return type.bits === 64 ? 5 : Math.min(3, type.bits / 8);
    case "float":
    case "timestamp":
      return 8;
    case "date":
      return 3;
    case "time":
    case "decimal":
      return 6;
    case "uuid":
      return 16;
    case "enum":
      return sum(type.labels, (label) => label.length) / Math.max(1, type.labels.length);
    case "vector":
    case "text":
    case "bytes":
    case "json":
    case "array":
    case "opaque":
      return null;
    default:
      return type satisfies never;
  }
}

/** The nest has the text of values that sources store in fewer bytes. */
function longerBy({ kind }: ColumnType): number {
  return kind === "vector" ? 2.5 : 1;
}

function sum<T>(all: readonly T[], of: (one: T) => number): number {
  return all.reduce((total, one) => total + of(one), 0);
}
