/** What the catalogue says of columns that were added and dropped: see core/targets/carrying. */
import type { ColumnFacts } from "../../../../src/core/contracts/catalog.ts";
import type { Catalog, CatalogColumn, CatalogTable } from "./catalog.ts";
import type { Candidate } from "./selection.ts";

const NONE: ReadonlySet<number> = new Set();

/**
 * A column that was added has null in the rows of before, unless the catalogue has a value for them (a constant default),
 * or the rows were written anew, which moves their file. But it must have been added: a generated column, which is not
 * published, may turn into a plain one that rows have values in, and the catalogue does not tell the two apart. So only
 * columns count that were not there at the first look of this process; attnums grow with each column and never come back.
 */
export class SeenColumns {
  /** The highest attnum that a table had when it was looked at first, by its oid. */
  readonly #firstSeen = new Map<number, number>();

  look(captured: readonly Candidate[], catalog: Catalog): ReadonlyMap<string, ColumnFacts> {
    const facts = new Map<string, ColumnFacts>();
    const seen = new Set<number>();
    for (const { table, shape } of captured) {
      seen.add(table.oid);
      const firstSeen = this.#firstSeen.get(table.oid) ?? newestOf(table);
      this.#firstSeen.set(table.oid, firstSeen);
      const added = table.columns.filter(({ attnum }) => attnum > firstSeen);
      const holders = added.length === 0 ? [] : holdersOf(table, catalog);
      const bare = added.filter((column) => holders.every((holder) => isNullBefore(holder, column)));
      const nullBefore = bare.length === 0 ? NONE : new Set(bare.map(({ attnum }) => attnum));
      facts.set(shape.id, { nullBefore, dropped: table.dropped });
    }
    for (const oid of this.#firstSeen.keys()) if (!seen.has(oid)) this.#firstSeen.delete(oid);
    return facts;
  }
}

function newestOf({ columns, dropped }: CatalogTable): number {
  return Math.max(0, ...columns.map(({ attnum }) => attnum), ...dropped);
}

/** The tables that its rows lie in. */
function holdersOf(table: CatalogTable, catalog: Catalog): readonly CatalogTable[] {
  if (table.kind !== "p") return [table];
  return catalog.tables.filter(({ kind, ancestors }) => kind !== "p" && ancestors.includes(table.oid));
}

/** Partitions have the column under its name, and may number it otherwise. */
function isNullBefore(holder: CatalogTable, { name }: CatalogColumn): boolean {
  const column = holder.columns.find((one) => one.name === name);
  return column !== undefined && !column.missing && column.generated === "";
}
