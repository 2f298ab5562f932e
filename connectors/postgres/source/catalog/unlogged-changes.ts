/** What the log does not show of rows and columns that came and went, found by comparing looks at the catalogue. */
import { createHash } from "node:crypto";
import type { TableGenerations, ColumnFacts } from "../../../../src/core/contracts/catalog.ts";
import type { Catalog, CatalogTable, CatalogColumn } from "./catalog.ts";
import type { Publication } from "./publication.ts";
import type { Candidate } from "./selection.ts";
import { carriersOf, holdersOf, isRoot } from "./trees.ts";
import { tableId } from "../../../../src/core/model/schema.ts";

/** The file that holds a table's rows. */
interface KnownFile {
  /** The file that names the generation. Everything between it and `file` is in the log. */
  readonly origin: number;
  readonly file: number;
  /** While this stays the same, a new file means nothing. Null: any new file counts. */
  readonly sign: string | null;
}

/**
 * A table's generation is a hash of what changes when the server does something without logging it. It contains the table's
 * oid; the file with its rows; its entry in the publication (or its schema's) and the publication's own entry; who wrote
 * the entry of its row type; and for a partitioned table its partitions, their files, and who attached them; for a tree by
 * inheritance the same of its tables, and their entries in the publication. The server
 * logs nothing when a change of type or a default rewrites the rows, when a leaf is attached, detached, dropped, or
 * truncated by its own name, or when a publication leaves something out for a while. Changes under another name of the
 * table are logged under that name; a rename writes the entry of its row type, and so does a change of its schema or its
 * owner.
 *
 * The generation stays the same over several looks if a new file certainly means nothing: the table was truncated, which is
 * in the log, or was rewritten with the same values (VACUUM FULL, CLUSTER). Invariant: a rewrite with other values also
 * writes an entry of the table's columns (measured for a column added, its type changed, its expression set). So no such
 * entry may have been written since the earlier file was seen. A truncate is in the log only if the table was published all
 * the time. Therefore its entry in the publication, and the publication's own, must exist and be the same; a table that is
 * published without an entry may have been unlogged for a while.
 */
export class Generations {
  #files: ReadonlyMap<number, KnownFile>;

  /** `kept`: the result of `moved` in an earlier process. */
  constructor(kept: string | undefined) {
    this.#files = readFiles(kept);
  }

  look(captured: readonly Candidate[], catalog: Catalog, publication: Publication | undefined): TableGenerations {
    const generations = new Map<string, string>();
    const files = new Map<number, KnownFile>();
    for (const { table, shape } of captured) {
      const carriers = carriersOf(table, catalog);
      if (publication === undefined || !carriers.every(({ oid }) => publication.published.has(oid))) continue;
      const known = this.#files.get(table.oid);
      const { file } = table;
      const sign = signOf(table, publication);
      const isAsBefore = known?.file === file || (sign !== null && known?.sign === sign);
      const origin = isAsBefore ? (known?.origin ?? file) : file;
      files.set(table.oid, { origin, file, sign });
      const partitions = isRoot(table) ? partitionsOf(table, catalog) : [];
      const entries = carriers.slice(1).map((heir) => entryOf(heir, publication));
      generations.set(
        shape.id,
        digest([
          table.oid,
          origin,
          table.named,
          publication.written,
          entryOf(table, publication),
          partitions,
          ...(table.isTree === true ? [entries] : []),
        ]),
      );
    }
    this.#files = files;
    return generations;
  }

  /** Tables whose generation is named after an earlier file. Without this list, a later process would read them again. */
  get moved(): string {
    return JSON.stringify([...this.#files].filter(([, { origin, file }]) => origin !== file));
  }
}

/** The state at one look. */
export function generationsOf(
  captured: readonly Candidate[],
  catalog: Catalog,
  publication: Publication | undefined,
): TableGenerations {
  return new Generations(undefined).look(captured, catalog, publication);
}

function signOf(table: CatalogTable, publication: Publication): string | null {
  const entry = publication.entries.get(table.oid);
  const isPlain = table.kind === "r" && table.isTree !== true;
  return isPlain && entry !== undefined ? digest([table.written, entry, publication.written]) : null;
}

function entryOf({ oid }: CatalogTable, { entries, schemaEntries }: Publication): number | null {
  return entries.get(oid) ?? schemaEntries.get(oid) ?? null;
}

/** Includes the tables between it and the leaves: a whole branch may be detached and attached. */
function partitionsOf(
  root: CatalogTable,
  catalog: Catalog,
): readonly (readonly [oid: number, file: number, attached: string | null])[] {
  return catalog
    .below(root.oid)
    .map((table) => [table.oid, table.file, table.attached] as const)
    .toSorted(([a], [b]) => a - b);
}

function digest(parts: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest().toString("hex", 0, 8);
}

/** Parse boundary: our own JSON. Anything else in it is ignored, and its table is read again. */
function readFiles(text: string | undefined): ReadonlyMap<number, KnownFile> {
  const parsed: unknown = JSON.parse(text ?? "[]");
  const files = new Map<number, KnownFile>();
  for (const entry of Array.isArray(parsed) ? parsed : []) {
    const [oid, known]: readonly unknown[] = Array.isArray(entry) ? entry : [];
    if (typeof oid === "number" && isKnownFile(known)) files.set(oid, known);
  }
  return files;
}

function isKnownFile(value: unknown): value is KnownFile {
  if (typeof value !== "object" || value === null || !("origin" in value && "file" in value && "sign" in value))
    return false;
  const { origin, file, sign } = value;
  return typeof origin === "number" && typeof file === "number" && (sign === null || typeof sign === "string");
}

/** By oid of each captured table whose rows are in others, the tables that hold its rows. */
export function leavesOf(
  captured: readonly Pick<Candidate, "table">[],
  catalog: Pick<Catalog, "below">,
): ReadonlyMap<number, readonly number[]> {
  const roots = captured.filter(({ table }) => isRoot(table));
  return new Map(roots.map(({ table }) => [table.oid, holdersOf(table, catalog).map(({ oid }) => oid)]));
}

/** The roots of those that are trees by inheritance. */
export function treesOf(captured: readonly Pick<Candidate, "table">[]): ReadonlySet<number> {
  return new Set(captured.flatMap(({ table }) => (table.isTree === true ? [table.oid] : [])));
}

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

/** Partitions have the column under the same name, but perhaps with another number. */
function isNullBefore(holder: CatalogTable, { name }: CatalogColumn): boolean {
  const column = holder.columns.find((one) => one.name === name);
  return column !== undefined && !column.missing && column.generated === "";
}

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
    const found = catalog.tables.find(({ oid }) => oid === leaf);
    if (found?.ancestors.some(({ oid }) => oid === root) !== true) return true;
    this.#shown.set(leaf, root);
    return this.#seen !== null && this.#seen.get(leaf) !== root;
  }

  /** Ids of the roots that have to be read again, because leaves that the stream had shown have left them. */
  look(captured: readonly { readonly table: CatalogTable }[], catalog: Catalog): readonly string[] {
    const roots = new Map(captured.filter(({ table }) => table.kind === "p").map(({ table }) => [table.oid, table]));
    const seen = new Map<number, number>();
    for (const { oid, ancestors } of catalog.tables) {
      const root = ancestors.find((ancestor) => roots.has(ancestor.oid));
      if (root !== undefined) seen.set(oid, root.oid);
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
