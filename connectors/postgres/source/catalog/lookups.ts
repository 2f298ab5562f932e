/** Looks up the relations of a stream in the catalogue, many at once if the received bytes name many. */
import type { PgTypes } from "../../types.ts";
import { type Catalog, formatTypes, readCatalog, readTypes } from "./catalog.ts";
import type { Database } from "../database.ts";
import type { Relation, RelationMessage } from "../stream/relations.ts";

/** Relations that the received bytes refer to and that were not looked up yet. */
export interface Ahead {
  readonly oids: readonly number[];
  /** The stream's position, and the end of the bytes that were searched, both in bytes since its beginning. */
  readonly at: number;
  readonly until: number;
}

export interface CatalogAnswer {
  readonly catalog: Catalog;
  /** The type of each column of the message, as format_type spells it. */
  readonly natives: readonly string[];
  readonly types: PgTypes;
}

/**
 * Invariant: an answer counts for the bytes that had been received when it was requested, because the catalogue is always
 * ahead of those.
 */
export class Lookups {
  readonly #database: Database;
  #catalog: Catalog | undefined;
  #asked: ReadonlySet<number> = new Set();
  #until = 0;

  constructor(database: Database) {
    this.#database = database;
  }

  async of({ message, leaf }: Relation, ahead: () => Ahead, signal: AbortSignal): Promise<CatalogAnswer> {
    const own = leaf === undefined ? [message.oid] : [message.oid, leaf];
    const catalog = await this.#catalogOf(own, ahead(), signal);
    const { types } = catalog;
    const natives = nativesOf(message, catalog);
    if (natives !== undefined && message.columns.every(({ type }) => types(type) !== undefined)) {
      return { catalog, natives, types };
    }
    // Columns have changed since, or no longer exist.
    const typeOids = message.columns.map((column) => column.type);
    return {
      catalog,
      natives: await formatTypes(this.#database, message.columns, signal),
      types: await readTypes(this.#database, typeOids, signal),
    };
  }

  async #catalogOf(own: readonly number[], { oids, at, until }: Ahead, signal: AbortSignal): Promise<Catalog> {
    if (this.#catalog !== undefined && at < this.#until && own.every((oid) => this.#asked.has(oid)))
      return this.#catalog;
    const asked = new Set([...own, ...oids]);
    this.#catalog = await readCatalog(this.#database, [...asked], signal);
    this.#asked = asked;
    this.#until = until;
    return this.#catalog;
  }
}

function nativesOf(message: RelationMessage, { tables }: Catalog): readonly string[] | undefined {
  const table = tables.find(({ oid }) => oid === message.oid);
  const known = new Map(table?.columns.map(({ type, modifier, native }) => [`${type} ${modifier}`, native]));
  const natives = message.columns.flatMap(({ type, modifier }) => known.get(`${type} ${modifier}`) ?? []);
  return natives.length === message.columns.length ? natives : undefined;
}
