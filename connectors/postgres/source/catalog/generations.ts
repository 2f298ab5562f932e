/** What tells whether rows of a table came or went without a word in the log. */
import { createHash } from "node:crypto";
import type { TableGenerations } from "../../../../src/core/contracts/catalog.ts";
import type { Catalog, CatalogTable } from "./catalog.ts";
import type { Publication } from "../log/publication.ts";
import type { Candidate } from "./selection.ts";

/** The file that a table's rows lie in. */
interface KnownFile {
  /** The one that its generation is named after; from there to `file` nothing happened without a word in the log. */
  readonly origin: number;
  readonly file: number;
  /** While this stays as it is, another file means nothing. Null: any other file means something. */
  readonly sign: string | null;
}

/**
 * A table's generation is made of its oid, the file that its rows lie in, its entry in the publication (or its schema's)
 * and the publication's own, who wrote its row type's, and of a partitioned one of its partitions with their files and who
 * attached them: the server sends nothing when a change of type or a default rewrites the rows, nor when a leaf is
 * attached, detached, dropped, or truncated by its own name, nor what a publication leaves out for a while. What changes
 * while a table bears another name is sent under that one; a rename writes the entry of its row type, as does a change of
 * its schema or its owner.
 *
 * Over several looks it stays where another file certainly means nothing: the table was truncated, which the log says, or
 * written anew as it was (VACUUM FULL, CLUSTER). Invariant: what writes a table's rows anew with other values writes an
 * entry of its columns too (measured for a column added, its type changed, its expression set), so no such entry may have
 * been written since the file of before was seen. A truncate is in the log only if the table was published all the time:
 * its entry in the publication, and the publication's own, have to be the same, and there has to be one: a table that is
 * published without being named may have been unlogged for a while.
 */
export class Generations {
  #files: ReadonlyMap<number, KnownFile>;

  /** `kept`: what `moved` said in an earlier process. */
  constructor(kept: string | undefined) {
    this.#files = readFiles(kept);
  }

  look(captured: readonly Candidate[], catalog: Catalog, publication: Publication | undefined): TableGenerations {
    const generations = new Map<string, string>();
    const files = new Map<number, KnownFile>();
    for (const { table, shape } of captured) {
      if (publication?.published.has(table.oid) !== true) continue;
      const known = this.#files.get(table.oid);
      const { file } = table;
      const sign = signOf(table, publication);
      const isAsBefore = known?.file === file || (sign !== null && known?.sign === sign);
      const origin = isAsBefore ? (known?.origin ?? file) : file;
      files.set(table.oid, { origin, file, sign });
      const partitions = table.kind === "p" ? partitionsOf(table, catalog) : [];
      generations.set(
        shape.id,
        digest([table.oid, origin, table.named, publication.written, entryOf(table, publication), partitions]),
      );
    }
    this.#files = files;
    return generations;
  }

  /** The tables whose generation is named after an earlier file: without them a later process would read those again. */
  get moved(): string {
    return JSON.stringify([...this.#files].filter(([, { origin, file }]) => origin !== file));
  }
}

/** As of one look. */
export function generationsOf(
  captured: readonly Candidate[],
  catalog: Catalog,
  publication: Publication | undefined,
): TableGenerations {
  return new Generations(undefined).look(captured, catalog, publication);
}

function signOf(table: CatalogTable, publication: Publication): string | null {
  const entry = publication.entries.get(table.oid);
  return table.kind === "r" && entry !== undefined ? digest([table.written, entry, publication.written]) : null;
}

function entryOf({ oid }: CatalogTable, { entries, schemaEntries }: Publication): number | null {
  return entries.get(oid) ?? schemaEntries.get(oid) ?? null;
}

/** Those between it and the leaves too: all below one may be detached and attached with it. */
function partitionsOf(
  root: CatalogTable,
  catalog: Catalog,
): readonly (readonly [oid: number, file: number, attached: string | null])[] {
  return catalog.tables
    .filter((table) => table.ancestors.includes(root.oid))
    .map((table) => [table.oid, table.file, table.attached] as const)
    .toSorted(([a], [b]) => a - b);
}

function digest(parts: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest().toString("hex", 0, 8);
}

/** Parse boundary: our own JSON; anything else in it is passed over, and its table is read again. */
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
