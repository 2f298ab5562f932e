/**
 * Where tables are in documents.
 *
 *     orders                 root: place 0 of its document
 *     ├─ customer            orders.customer_id = customers.id
 *     ├─ items               orders.id = order_items.order_id
 *     │  └─ product          order_items.product_id = products.id
 *     └─ tags                order_tags.tag_id = tags.id
 *        above: order_tags   orders.id = order_tags.order_id: the table in between is a place of its own
 */
import type { TableName } from "../core/contracts/connector.ts";
import { tableId } from "../core/model/schema.ts";
import type { Document, DocumentNode, Join, Relation } from "./document.ts";
import { columnsIn, parseWhere } from "../rules/where/syntax.ts";

/** A table at one place of a document. A table may be at several. */
export interface Place {
  readonly document: Document;
  readonly table: TableName;
  /** The place whose rows its rows join; null: it is the root. */
  readonly above: Place | null;
  /** Whose rows it has, or whose table in between it is; null: it is the root. */
  readonly relation: Relation | null;
  readonly isBetween: boolean;
  readonly joins: readonly Join[];
  /** Rows that it leaves out do not count. */
  readonly where: string | null;
  /** A change of a row changes documents only if it changes one of these columns. The key is not among them. */
  readonly uses: ReadonlySet<string>;
  /** Those of them without which the document can't be: others are there because the table has them. */
  readonly needs: ReadonlySet<string>;
}

/** Each place comes after the one above it. */
export function placesOf(document: Document): readonly Place[] {
  const places: Place[] = [];
  const add = (place: Place): Place => {
    places.push(place);
    return place;
  };
  const below = (node: DocumentNode, above: Place): void => {
    for (const relation of node.relations) {
      const { through, on, where } = relation;
      const between =
        through === null
          ? above
          : add({
              document,
              table: through.table,
              above,
              relation,
              isBetween: true,
              joins: through.on,
              where: null,
              ...taking([...through.on.map((join) => join.below), ...on.map((join) => join.above)]),
            });
      const taken = takenOf(relation.node, where, relation);
      const { table } = relation.node;
      below(
        relation.node,
        add({ document, table, above: between, relation, isBetween: false, joins: on, where, ...taken }),
      );
    }
  };
  const { root, where } = document;
  const taken = takenOf(root, where, null);
  below(
    root,
    add({ document, table: root.table, above: null, relation: null, isBetween: false, joins: [], where, ...taken }),
  );
  return places;
}

type Taken = Pick<Place, "uses" | "needs">;

function takenOf(node: DocumentNode, where: string | null, relation: Relation | null): Taken {
  const fields = relation?.value == null ? node.fields.map(({ column }) => column) : [];
  return taking(
    [
      ...(relation?.value == null ? [] : [relation.value]),
      ...(node.hasAll === true ? [] : fields),
      ...node.relations.flatMap(({ through, on }) => (through?.on ?? on).map(({ above }) => above)),
      ...(relation?.on.map(({ below }) => below) ?? []),
      ...(relation?.orderBy.map(({ column }) => column) ?? []),
      ...(where === null ? [] : columnsIn(parseWhere(where))),
    ],
    fields,
  );
}

function taking(needed: readonly string[], besides: readonly string[] = []): Taken {
  return { uses: new Set([...besides, ...needed]), needs: new Set(needed) };
}

/** By table id, the columns that join by their small letters. */
export function columnsFolded(documents: readonly Document[]): ReadonlyMap<string, ReadonlySet<string>> {
  const folded = new ColumnsByTable();
  for (const { table, above: upper, joins } of documents.flatMap(placesOf))
    for (const { above, below, alike } of joins) {
      if (alike?.isFolded !== true || upper === null) continue;
      folded.add(upper.table, above);
      folded.add(table, below);
    }
  return folded.byId;
}

/** By table id, the columns that join, and those that order the rows of which some are taken: an index may have them. */
export function columnsIndexed(documents: readonly Document[]): ReadonlyMap<string, ReadonlySet<string>> {
  const indexed = new ColumnsByTable();
  for (const { table, above: upper, joins, relation } of documents.flatMap(placesOf)) {
    for (const { above, below } of joins) {
      if (upper !== null) indexed.add(upper.table, above);
      indexed.add(table, below);
    }
    if (relation !== null && relation.limit !== null)
      for (const { column } of relation.orderBy) indexed.add(relation.node.table, column);
  }
  return indexed.byId;
}

class ColumnsByTable {
  readonly byId = new Map<string, Set<string>>();

  add({ schema, table }: TableName, column: string): void {
    const id = tableId(schema, table);
    this.byId.set(id, (this.byId.get(id) ?? new Set()).add(column));
  }
}

/** By table id, the columns that documents take, without those that only the key needs. */
export function columnsTaken(documents: readonly Document[]): ReadonlyMap<string, ReadonlySet<string>> {
  const taken = new Map<string, Set<string>>();
  for (const { table, uses } of documents.flatMap(placesOf)) {
    const id = tableId(table.schema, table.table);
    const columns = taken.get(id) ?? new Set();
    for (const column of uses) columns.add(column);
    taken.set(id, columns);
  }
  return taken;
}
