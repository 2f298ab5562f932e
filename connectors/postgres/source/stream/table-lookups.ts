/** Which version of which table a relation of a stream is. */
import { setTimeout as delay } from "node:timers/promises";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import type { StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import { snapshotSees } from "../../../../src/core/contracts/watermarks.ts";
import { findMillraceError } from "../../../../src/core/errors.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import { tableId, type TableVersion } from "../../../../src/core/model/schema.ts";
import { hasBinaryForm } from "../../../../src/core/model/types.ts";
import { shellWord } from "../../../../src/core/shell-word.ts";
import { isLoggedCopy } from "../../../kit/online-copies.ts";
import { type Catalog, formatTypes, readCatalog, readTypes, tableNames } from "../catalog/catalog.ts";
import type { PgTypes } from "../catalog/types.ts";
import type { ShownLeaves } from "../catalog/unlogged-changes.ts";
import { CORRECT_TEXTS, sourceError, TextModeNeeded } from "../errors.ts";
import type { SourceContext } from "../wire/context.ts";
import type { Ahead } from "./pgoutput.ts";
import { relationShape } from "./relation-shape.ts";
import type { Relation, RelationMessage } from "./relations.ts";

interface CatalogAnswer {
  readonly catalog: Catalog;
  /** The type of each column of the message, as format_type spells it. */
  readonly natives: readonly string[];
  readonly types: PgTypes;
}

interface ReceivedBytes {
  ahead(): Ahead;
}

/** Between two looks at whether a commit is visible, at first and later. */
const LOOK_MS = 2;
const LOOK_MS_MAX = 250;

export class TableLookups {
  readonly #context: SourceContext;
  readonly #options: StreamOptions;
  readonly #leaves: ShownLeaves;
  readonly #isBinary: boolean;
  #catalog: Catalog | undefined;
  #asked: ReadonlySet<number> = new Set();
  #until = 0;

  constructor(context: SourceContext, options: StreamOptions, leaves: ShownLeaves, isBinary: boolean) {
    this.#context = context;
    this.#options = options;
    this.#leaves = leaves;
    this.#isBinary = isBinary;
  }

  /** Null: not captured. `received` knows which other relations the received bytes refer to. */
  async table(relation: Relation, position: Position, received: ReceivedBytes): Promise<TableVersion | null> {
    const { selection, chosenKey } = this.#context;
    const { message, leaf } = relation;
    if (!selection.matches(message.schema, message.table)) return null;
    // The connection's own time limits end it.
    const { signal } = new AbortController();
    if (await this.#isCopy(message, signal)) return null;
    const { resolve, isKnown, onUnreadableRows, onUnloggedRows } = this.#options;
    if (relation.isIllegible) {
      const id = tableId(message.schema, message.table);
      const what = `a change of ${id} has a text without a form in UTF-8`;
      const hint = `${CORRECT_TEXTS}, or leave the table out by \`tables\`; then millrace snapshot start --tables ${shellWord(id)}`;
      const error = sourceError("MR2037", "fatal", what, { hint });
      if (onUnreadableRows === undefined) throw error;
      await onUnreadableRows(id, error);
      return null;
    }
    const { catalog, natives, types } = await this.#look(relation, received.ahead(), signal);
    const table = catalog.tables.find(({ oid }) => oid === message.oid);
    const shape = relationShape(message, natives, table, { types, relation: catalog.relation }, chosenKey(message));
    if (this.#isBinary && !shape.columns.every((column) => hasBinaryForm(column.type))) {
      throw new TextModeNeeded(`${shape.id} has a type without binary form`);
    }
    // Another role's publication may carry tables that can't be followed. When such a table gets a key, the server announces
    // it again.
    if (shape.key.length === 0 && isKnown?.(shape.id) === false) return null;
    try {
      if (leaf !== undefined && this.#leaves.show(message.oid, leaf, catalog)) await onUnloggedRows?.(shape.id);
      return await resolve(leaf === undefined ? shape : { ...shape, parts: [catalog.relation(leaf)] }, position);
    } catch (error) {
      throw findMillraceError(error) ?? error;
    }
  }

  /** Another role's publication may carry copies by tools for online changes, which a glob leaves out. */
  async #isCopy(table: TableName, signal: AbortSignal): Promise<boolean> {
    const { database, selection } = this.#context;
    if (selection.isLiteral(table.schema, table.table)) return false;
    const isFollowed = (other: TableName): boolean =>
      this.#options.isKnown?.(tableId(other.schema, other.table)) === true;
    return await isLoggedCopy(table, isFollowed, () => tableNames(database, table.schema, signal));
  }

  async #look({ message, leaf }: Relation, ahead: Ahead, signal: AbortSignal): Promise<CatalogAnswer> {
    const { database } = this.#context;
    const own = leaf === undefined ? [message.oid] : [message.oid, leaf];
    const catalog = await this.#catalogAfter(message, own, ahead, signal);
    const { types } = catalog;
    const natives = nativesOf(message, catalog);
    if (natives !== undefined && message.columns.every(({ type }) => types(type) !== undefined)) {
      return { catalog, natives, types };
    }
    // Columns have changed since, or no longer exist.
    const typeOids = message.columns.map((column) => column.type);
    return {
      catalog,
      natives: await formatTypes(database, message.columns, signal),
      types: await readTypes(database, typeOids, signal),
    };
  }

  /**
   * A column that the catalogue does not show was dropped or renamed since, or its transaction is in the log and not visible to
   * other sessions yet: then what it has added, and what that is computed from, is looked up when it is.
   */
  async #catalogAfter(
    message: RelationMessage,
    own: readonly number[],
    ahead: Ahead,
    signal: AbortSignal,
  ): Promise<Catalog> {
    const catalog = await this.#catalogOf(own, ahead, signal);
    const table = catalog.tables.find(({ oid }) => oid === message.oid);
    const known = new Set(table?.columns.map(({ name }) => name));
    if (message.columns.every(({ name }) => known.has(name))) return catalog;
    await this.#untilVisible(ahead.xid, signal);
    this.#catalog = undefined;
    return await this.#catalogOf(own, ahead, signal);
  }

  /** With a synchronous standby that is away as long as that takes: until then nobody sees the rows at the source either. */
  async #untilVisible(xid: number, signal: AbortSignal): Promise<void> {
    const sql = "select pg_current_snapshot()::text as snapshot";
    for (let waitMs = LOOK_MS; ; waitMs = Math.min(2 * waitMs, LOOK_MS_MAX)) {
      const [row] = await this.#context.database.rows<{ snapshot: string }>("looking at a commit", sql, [], signal);
      if (row === undefined || snapshotSees(row.snapshot)(xid)) return;
      await delay(waitMs);
    }
  }

  /**
   * Many relations at once if the received bytes name many. Invariant: an answer counts for the bytes that had been received
   * when it was requested, because the catalogue is always ahead of those.
   */
  async #catalogOf(own: readonly number[], { oids, at, until }: Ahead, signal: AbortSignal): Promise<Catalog> {
    if (this.#catalog !== undefined && at < this.#until && own.every((oid) => this.#asked.has(oid)))
      return this.#catalog;
    const asked = new Set([...own, ...oids]);
    this.#catalog = await readCatalog(this.#context.database, [...asked], signal);
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
