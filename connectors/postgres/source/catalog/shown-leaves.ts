/** Partitions of which the stream has shown rows, besides those in the catalogue. */
import { tableId } from "../../../../src/core/model/schema.ts";
import type { Catalog, CatalogTable } from "./catalog.ts";

/**
 * The server announces a leaf before the first row in it, although the row comes under its root's name. A leaf that came
 * and went between two looks leaves nothing in the catalogue, but its rows are in the sinks, and their removal is not
 * logged. So if such a leaf is no longer in the tree, the root is read again. The same happens for a leaf that no look has
 * seen yet, because it may disappear before the next look.
 */
export class ShownLeaves {
  /** By oid, the captured root that each partition belonged to at the last look; null before the first. */
  #seen: ReadonlyMap<number, number> | null = null;
  /** By oid, the root of each leaf that rows came in and that was in the root's tree then. */
  readonly #shown = new Map<number, number>();

  /** A row of `root` is in `leaf`, which the catalogue may or may not have. True: the root has to be read again. */
  show(root: number, leaf: number, catalog: Catalog): boolean {
    const place = catalog.tables.find(({ oid }) => oid === leaf);
    if (place?.ancestors.includes(root) !== true) return true;
    this.#shown.set(leaf, root);
    return this.#seen !== null && this.#seen.get(leaf) !== root;
  }

  /** Ids of the roots that have to be read again, because leaves that the stream had shown have left them. */
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
