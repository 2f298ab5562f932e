/** What the catalogue says about columns that were added and dropped: see core/targets/carrying. */
import type { ColumnFacts } from "../../../../src/core/contracts/catalog.ts";
import type { Catalog, CatalogColumn, CatalogTable } from "./catalog.ts";
import type { Candidate } from "./selection.ts";

const NONE: ReadonlySet<number> = new Set();

/**
 * In older rows an added column is null, unless the catalogue has a value for them (a constant default), or the rows were
 * rewritten, which changes their file. But the column must really be new: a generated column, which is not published, may
 * become a plain one with values in older rows, and the catalogue does not distinguish the two. So a column counts only if
 * it did not exist at this process's first look; attnums grow with each column and are never reused.
 */
export class SeenColumns {
  /** The highest attnum that a table had at its first look, by its oid. */
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

/** The tables that hold its rows. */
function holdersOf(table: CatalogTable, catalog: Catalog): readonly CatalogTable[] {
  if (table.kind !== "p") return [table];
  return catalog.tables.filter(({ kind, ancestors }) => kind !== "p" && ancestors.includes(table.oid));
}

/** Partitions have the column under the same name, but perhaps with another number. */
function isNullBefore(holder: CatalogTable, { name }: CatalogColumn): boolean {
  const column = holder.columns.find((one) => one.name === name);
  return column !== undefined && !column.missing && column.generated === "";
}
