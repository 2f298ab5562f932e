/**
 * One statement builds a document: the root's fields as they are stored, and each relation as the text of its JSON. The text
 * is put together by `concat`, because SQLite's json functions take few arguments, parse JSON again, and print a float with
 * other digits. Rate to hold: 20 µs of processor time for a document of 5 lines (connectors/nest/README.md).
 *
 *     SELECT t0."id", (SELECT ifnull('[' || group_concat(o, ',') || ']', '[]') FROM (
 *       SELECT concat('{"qty":', ifnull(t1."qty", 'null'), '}') AS o FROM "public.order_items" AS t1
 *       WHERE t1."order_id" = t0."id" ORDER BY t1."line_no", t1."id" LIMIT 500)) FROM "public.orders" AS t0
 */
import type { DocumentNode, Order, Relation } from "../../src/documents/document.ts";
import type { LayoutColumn, SqliteLayout } from "../sqlite/tables/layout.ts";
import { columnOf, placesUnder, type PlannedDocument, type PlannedPlace } from "./plan.ts";
import { quoteText } from "../sqlite/names.ts";
import { jsonOf, type OrderTerm, orderOf, readable } from "./values.ts";
import { groupsOf } from "../../src/core/each-of.ts";

/** `concat` takes 1,000 arguments at most. */
const FIELDS_AT_ONCE = 200;
export const ROOT = "t0";

export interface Assembly {
  readonly root: PlannedPlace;
  readonly columns: readonly LayoutColumn[];
  /** What SELECT lists for the root's row `t0`: the fields, then each relation as text; null: no row joins. */
  readonly values: readonly string[];
  /** Whether the root's row has a document; null: each has. */
  readonly condition: string | null;
}

export function assemblyOf({ document, places }: PlannedDocument): Assembly {
  const root = places[0]!;
  const builder = new Builder(places);
  const columns = document.root.fields.map(({ column }) => columnOf(root.layout, column));
  const values = [
    ...columns.map((column) => readable(column, ROOT)),
    ...document.root.relations.map((relation) => builder.relation(relation, root, ROOT)),
  ];
  return { root, columns, values, condition: root.condition?.sql(ROOT) ?? null };
}

class Builder {
  readonly #places: readonly PlannedPlace[];
  #next = 1;

  constructor(places: readonly PlannedPlace[]) {
    this.#places = places;
  }

  relation(relation: Relation, above: PlannedPlace, row: string): string {
    const { node, many, value } = relation;
    const [between, place] = placesUnder(above, relation, this.#places);
    const own = `t${this.#next++}`;
    const middle = between === null ? row : `t${this.#next++}`;
    const joined = place.joins.map((join) => `${join.above(middle)} = ${join.below(own)}`);
    if (place.condition !== null) joined.push(place.condition.sql(own));
    const ofBetween = between?.joins.map((join) => `${join.above(row)} = ${join.below(middle)}`) ?? [];
    const from =
      between === null
        ? `${place.layout.sqlName} AS ${own}`
        : `${between.layout.sqlName} AS ${middle} CROSS JOIN ${place.layout.sqlName} AS ${own}`;
    const order = orderTerms(relation, place.layout, own).map(({ sql, isDescending, nulls }) =>
      [sql, ...(isDescending ? ["DESC"] : []), ...(nulls === null ? [] : [`NULLS ${nulls}`])].join(" "),
    );
    const shown = value === null ? this.#object(node, place, own) : jsonOf(columnOf(place.layout, value), own);
    const limit = many ? relation.limit : 1;
    const rows =
      `SELECT ${shown} AS o FROM ${from} WHERE ${[...ofBetween, ...joined].join(" AND ")} ` +
      `ORDER BY ${order.join(", ")}${limit === null ? "" : ` LIMIT ${limit}`}`;
    return many ? `(SELECT ifnull('[' || group_concat(o, ',') || ']', '[]') FROM (${rows}))` : `(${rows})`;
  }

  #object(node: DocumentNode, place: PlannedPlace, row: string): string {
    const fields = [
      ...node.fields.map(({ name, column }) => [name, jsonOf(columnOf(place.layout, column), row)] as const),
      ...node.relations.map((relation) => {
        const json = this.relation(relation, place, row);
        return [relation.name, relation.many ? json : `ifnull(${json}, 'null')`] as const;
      }),
    ];
    const pieces = fields.map(
      ([name, json], i) => `${quoteText(`${i === 0 ? "" : ","}${JSON.stringify(name)}:`)}, ${json}`,
    );
    const groups = groupsOf(pieces, FIELDS_AT_ONCE).map((some) => `concat(${some.join(", ")})`);
    return ["'{'", ...groups, "'}'"].join(" || ");
  }
}

interface PlannedOrder extends OrderTerm {
  readonly isDescending: boolean;
  /** Where nulls come, if SQLite would have them elsewhere. */
  readonly nulls: "FIRST" | "LAST" | null;
}

/** As the source's own SQL orders: Postgres has nulls behind all values, MySQL before them. */
export function orderTerms({ orderBy }: Relation, layout: SqliteLayout, row: string): readonly PlannedOrder[] {
  const key = layout.key.map(({ source }): Order => ({ column: source.name, isDescending: false }));
  return [...orderBy, ...key].flatMap(({ column, isDescending }) => {
    const found = columnOf(layout, column);
    const isLast = layout.table.dialect === "postgres" && found.source.nullable && !found.isKey;
    const nulls = isLast ? (isDescending ? "FIRST" : "LAST") : null;
    return orderOf(found, row).map((term) => ({ ...term, isDescending, nulls }));
  });
}
