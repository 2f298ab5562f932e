/** Partitions that the stream shows rows of, beside those that the catalogue has. */
import { tableId } from "../../../../src/core/model/schema.ts";
import type { Catalog, CatalogTable } from "./catalog.ts";

/**
 * The server announces a leaf before the first row that lies in it, although the row comes under its root's name. One that
 * came and went between two looks left nothing in the catalogue, but its rows are in the sinks: nobody logs that they are
 * gone. So a leaf that is not in the tree any more has the root read again; the same is done for one that no look has
 * seen yet, as it may go before one does.
 */
export class ShownLeaves {
  /** By oid, the captured root that each partition belonged to at the last look; null before the first. */
  #seen: ReadonlyMap<number, number> | null = null;
  /** By oid, the root of each leaf that rows came in and that was in its tree then. */
  readonly #shown = new Map<number, number>();

  /** A row of `root` lies in `leaf`, which the catalogue has now, or not. True: the root has to be read again. */
  show(root: number, leaf: number, catalog: Catalog): boolean {
    const place = catalog.tables.find(({ oid }) => oid === leaf);
    if (place?.ancestors.includes(root) !== true) return true;
    this.#shown.set(leaf, root);
    return this.#seen !== null && this.#seen.get(leaf) !== root;
  }

  /** Ids of the roots that have to be read again, as leaves that were shown have left them. */
  look(captured: readonly { readonly table: CatalogTable }[], catalog: Catalog): readonly string[] {
    const roots = new Map(captured.filter(({ table }) => table.kind === "p").map(({ table }) => [table.oid, table]));
    const seen = new Map<number, number>();
    for (const { oid, ancestors } of catalog.tables) {
      const root = ancestors.find((ancestor) => roots.has(ancestor));
      if (root !== undefined) seen.set(oid, root);
    }
    const left = new Set<string>();
    for (const [leaf, root] of this.#shown) {
      const table = roots.get(root);
      if (table !== undefined && seen.get(leaf) === root) continue;
      if (table !== undefined) left.add(tableId(table.schema, table.table));
      this.#shown.delete(leaf);
    }
    this.#seen = seen;
    return [...left];
  }
}
