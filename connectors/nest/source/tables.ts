/** What documents are to the pipeline that follows the nest: tables, with columns, a key and a fingerprint. */
import { createHash } from "node:crypto";
import type { CapturedTables, TableShape } from "../../../src/core/contracts/catalog.ts";
import type { ColumnType, JsonShape } from "../../../src/core/model/types.ts";
import { type Column, tableId } from "../../../src/core/model/schema.ts";
import {
  definitionOf,
  type DocumentNode,
  documentTable,
  documentTableId,
  type Relation,
} from "../../../src/documents/document.ts";
import { isTransformed } from "../../../src/documents/transforms.ts";
import { ARRAY } from "../../sqlite/types.ts";
import type { NestPlan } from "../stored.ts";
import { columnOf, placesUnder, type PlannedDocument, type PlannedPlace } from "../plan.ts";

/** Identities of relations are above those of columns. */
const RELATIONS = 1 << 20;

/** What a document is made of, and what goes out. */
export interface DocumentColumns {
  /** The root's fields, then its relations, as they are assembled. An array is JSON, and so is each relation. */
  readonly given: readonly Column[];
  /** The same under the document's functions, then the fields that these add. */
  readonly made: readonly Column[];
  /** In `given` and `made`. */
  readonly key: readonly number[];
  /** In `made`, the column that says why there is no document; -1: there are but those of the key. */
  readonly telling: number;
}

/** Of the present shapes of its tables. */
export function columnsOf({ document, places }: PlannedDocument): DocumentColumns {
  const top = places[0]!;
  const { layout } = top;
  const { root } = document;
  const fields = root.fields.map(({ name, column }): Column => {
    const { source, sqlite } = columnOf(layout, column);
    const asJson =
      sqlite.form === ARRAY ? ({ type: { kind: "json" }, native: jsonName(layout.table.dialect) } as const) : {};
    return { ...source, name, ...asJson };
  });
  const relations = root.relations.map((relation): Column => ({
    name: relation.name,
    type: { kind: "json", shape: shapeOfRelation(relation, places, top) },
    native: jsonName(layout.table.dialect),
    nullable: !relation.many,
    identity: RELATIONS + numberOf(relation.name),
  }));
  const given = [...fields, ...relations];
  const key = layout.key.map(({ source }) => root.fields.findIndex(({ column }) => column === source.name));
  const shown = isTransformed(document) ? transformed(given, root, key) : given;
  const telling = shown.findIndex((_, i) => !key.includes(i));
  const made = shown.map((column, i): Column => (i === telling ? { ...column, computed: "row" } : column));
  return { given, made, key, telling };
}

/** A function may make null of any field, and its failure stands in one. */
function transformed(given: readonly Column[], { transform }: DocumentNode, key: readonly number[]): readonly Column[] {
  const declared = new Map(transform?.fields.map((field) => [field.name, field]));
  const kept = given.map((column, i): Column => {
    if (key.includes(i)) return column;
    const { type = column.type, native = column.native } = declared.get(column.name) ?? {};
    declared.delete(column.name);
    return { ...column, type, native, nullable: true, computed: "row" };
  });
  const added = [...declared.values()].map(({ name, type, native }): Column => {
    return { name, type, native, nullable: true, identity: RELATIONS + numberOf(name), computed: "row" };
  });
  return [...kept, ...added];
}

export function shapeOf(planned: PlannedDocument): TableShape {
  const { document, places } = planned;
  const { layout } = places[0]!;
  const names = documentTable(document.name);
  const { made: columns, key } = columnsOf(planned);
  const told = [hashOf(definitionOf(document)), columns.map(({ name, type, identity }) => [name, type, identity]), key];
  const { hides } = document;
  return {
    ...names,
    ...(hides === undefined ? {} : { hides }),
    id: tableId(names.schema, names.table),
    dialect: layout.table.dialect,
    relation: numberOf(document.name),
    columns,
    key,
    deferrableKey: false,
    fingerprint: hashOf(JSON.stringify(told)),
  };
}

/** `above`: the place of the row above. */
function shapeOfRelation(relation: Relation, places: readonly PlannedPlace[], above: PlannedPlace): JsonShape {
  const [, place] = placesUnder(above, relation, places);
  const { node, value } = relation;
  if (value !== null) return { value: columnOf(place.layout, value).source.type };
  const types = new Map<string, ColumnType>([
    ...node.fields.map(({ name, column }) => [name, columnOf(place.layout, column).source.type] as const),
    ...node.relations.map(
      (one) => [one.name, { kind: "json", shape: shapeOfRelation(one, places, place) } as const] as const,
    ),
    ...(node.transform?.fields.map(({ name, type }) => [name, type] as const) ?? []),
  ]);
  return { fields: Array.from(types, ([name, type]) => ({ name, type })) };
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

export function captured({ documents, faulty }: NestPlan): CapturedTables {
  const tables = documents.map(shapeOf);
  return {
    tables,
    refused: faulty.map(({ name, reason, isPassing }) => {
      return { id: documentTableId(name), reason, fix: `Correct \`documents.${name}\`, or its tables.`, isPassing };
    }),
    // Another definition makes other rows of the same ones. One that comes back knows nothing of what changed in between.
    generations: new Map(
      documents.map(({ document, made }, i) => [tables[i]!.id, hashOf(JSON.stringify([definitionOf(document), made]))]),
    ),
  };
}

function jsonName(dialect: TableShape["dialect"]): string {
  return dialect === "postgres" ? "jsonb" : "json";
}

/** The same for the same name, below 2^20. */
function numberOf(name: string): number {
  return createHash("sha256").update(name).digest().readUInt32BE() % RELATIONS;
}
