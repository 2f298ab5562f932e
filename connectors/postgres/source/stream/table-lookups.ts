/** Which version of which table a relation of a stream is. */
import { setTimeout as delay } from "node:timers/promises";
import type { TableName, ChosenKey } from "../../../../src/core/contracts/connector.ts";
import type { StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import { snapshotSees } from "../../../../src/core/contracts/watermarks.ts";
import { findMillraceError } from "../../../../src/core/errors.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import { tableId, type TableVersion, type Column } from "../../../../src/core/model/schema.ts";
import { hasBinaryForm } from "../../../../src/core/model/types.ts";
import { shellWord } from "../../../../src/core/shell-word.ts";
import { isLoggedCopy } from "../../../kit/online-copies.ts";
import {
  type Catalog,
  formatTypes,
  readCatalog,
  readTypes,
  tableNames,
  type CatalogTable,
} from "../catalog/catalog.ts";
import { type PgTypes, columnType } from "../catalog/types.ts";
import type { ShownLeaves } from "../catalog/unlogged-changes.ts";
import { mustSaySchemas, saySchemas } from "../log/schema-names.ts";
import { CORRECT_TEXTS, sourceError, TextModeNeeded } from "../errors.ts";
import type { SourceContext } from "../wire/context.ts";
import type { Ahead } from "./pgoutput.ts";
import type { Relation, RelationMessage } from "./relations.ts";
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import { findKey, FULL, type FoundKey, type Key, keyOf } from "../catalog/keys.ts";
import { comesWithRoot, hasIllegibleName, isIllegible, isOfExtension } from "../catalog/selection.ts";
import { originsOf, shapeOf } from "../catalog/shapes.ts";

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

interface LookupParts {
  readonly context: SourceContext;
  readonly options: StreamOptions;
  readonly leaves: ShownLeaves;
  /** server_version_num */
  readonly version: number;
}

export class TableLookups {
  readonly #context: SourceContext;
  readonly #options: StreamOptions;
  readonly #leaves: ShownLeaves;
  readonly #saysSchemas: boolean;
  readonly #isBinary: boolean;
  #catalog: Catalog | undefined;
  #asked: ReadonlySet<number> = new Set();
  #until = 0;

  constructor({ context, options, leaves, version }: LookupParts, isBinary: boolean) {
    this.#context = context;
    this.#options = options;
    this.#leaves = leaves;
    // Nothing is written for a reader who shows every table.
    this.#saysSchemas = options.isKnown !== undefined && mustSaySchemas(version);
    this.#isBinary = isBinary;
  }

  /** Null: not captured. `received` knows which other relations the received bytes refer to. */
  async table(relation: Relation, position: Position, received: ReceivedBytes): Promise<TableVersion | null> {
    const { selection, chosenKey, leaves } = this.#context;
    const { message, leaf } = relation;
    // The connection's own time limits end it.
    const { signal } = new AbortController();
    const root = leaves.rootOf(message.oid);
    if (root !== undefined && root !== message.oid) {
      const found = await this.#heir(relation, root, { position, ahead: received.ahead() }, signal);
      if (found !== undefined) return found;
    }
    relation.tree = root === message.oid ? (leaves.of(root) ?? null) : null;
    if (this.#saysSchemas) await this.#saySchema(message, position, received.ahead(), signal);
    if (!selection.matches(message.schema, message.table)) return null;
    if (await this.#isCopy(message, signal)) return refuse(relation);
    const { resolve, isKnown, onUnloggedRows } = this.#options;
    if (relation.isIllegible) return await this.#illegible(tableId(message.schema, message.table));
    const { catalog, natives, types } = await this.#look(relation, received.ahead(), signal);
    const table = catalog.tables.find(({ oid }) => oid === message.oid);
    // Of a table that came into a tree the next look says so, and the tree is read again.
    if (root === undefined && table?.parents.some(({ oid }) => leaves.rootOf(oid) !== undefined) === true) return null;
    const shape = relationShape(message, natives, table, { types, relation: catalog.relation }, chosenKey(message));
    if (this.#isBinary && !shape.columns.every((column) => hasBinaryForm(column.type))) {
      throw new TextModeNeeded(`${shape.id} has a type without binary form`);
    }
    // Another role's publication may carry tables that are not captured.
    const isRefused = shape.key.length === 0 || hasIllegibleName(message);
    const isOthers = isRefused || (table !== undefined && this.#isLeftOut(table, catalog));
    if (isOthers && isKnown?.(shape.id) === false) return refuse(relation);
    try {
      if (leaf !== undefined && this.#leaves.show(message.oid, leaf, catalog)) await onUnloggedRows?.(shape.id);
      return await resolve(leaf === undefined ? shape : { ...shape, parts: [catalog.relation(leaf)] }, position);
    } catch (error) {
      throw findMillraceError(error) ?? error;
    }
  }

  /**
   * The rows of a table in a tree are the root's, without the columns that only this one has. Undefined: it is in the tree no
   * more.
   */
  async #heir(
    relation: Relation,
    rootOid: number,
    { position, ahead }: { readonly position: Position; readonly ahead: Ahead },
    signal: AbortSignal,
  ): Promise<TableVersion | null | undefined> {
    const { leaves, selection } = this.#context;
    const { message } = relation;
    const { catalog, natives, types } = await this.#look({ ...relation, leaf: rootOid }, ahead, signal);
    const root = catalog.tables.find(({ oid }) => oid === rootOid);
    const heir = catalog.tables.find(({ oid }) => oid === message.oid);
    if (heir?.parents.every(({ oid }) => oid !== rootOid) === true) return undefined;
    if (root === undefined || !selection.matches(root.schema, root.table)) return null;
    const id = tableId(root.schema, root.table);
    if (relation.isIllegible) return await this.#illegible(id);
    const own = inherited(message, natives, heir, root);
    const known = { types, relation: catalog.relation };
    const shape = relationShape(own.message, own.natives, root, known, null, own.numbers);
    if (this.#isBinary && !shape.columns.every((column) => hasBinaryForm(column.type)))
      throw new TextModeNeeded(`${shape.id} has a type without binary form`);
    try {
      const version = await this.#options.resolve({ ...shape, parts: [catalog.relation(message.oid)] }, position);
      const isAsItIs = own.cells.length === message.columns.length && own.cells.every((cell, i) => cell === i);
      relation.cells = isAsItIs ? null : own.cells;
      relation.tree = leaves.of(rootOid) ?? [rootOid, message.oid];
      return version;
    } catch (error) {
      throw findMillraceError(error) ?? error;
    }
  }

  async #illegible(id: string): Promise<null> {
    const { onUnreadableRows } = this.#options;
    const what = `a change of ${id} has a text without a form in UTF-8`;
    const hint = `${CORRECT_TEXTS}, or leave the table out by \`tables\`; then millrace snapshot start --tables ${shellWord(id)}`;
    const error = sourceError("MR2037", "fatal", what, { hint });
    if (onUnreadableRows === undefined) throw error;
    await onUnreadableRows(id, error);
    return null;
  }

  /** Of a table that has come into another schema since: in the log before or behind the position. */
  async #saySchema(
    { oid, schema }: RelationMessage,
    { commit }: Position,
    ahead: Ahead,
    signal: AbortSignal,
  ): Promise<void> {
    const catalog = await this.#catalogOf([oid], ahead, signal);
    const table = catalog.tables.find((one) => one.oid === oid);
    if (table === undefined || table.schema === schema || isIllegible(table, catalog)) return;
    if (this.#context.schemas.isAhead(table, commit)) return;
    await saySchemas(this.#context, [table], this.#options.onUnloggedRows, signal);
  }

  #isLeftOut(table: CatalogTable, catalog: Catalog): boolean {
    return isOfExtension(this.#context, table) || comesWithRoot(this.#context, table) || isIllegible(table, catalog);
  }

  /** Another role's publication may carry copies by tools for online changes, which a glob leaves out. */
  async #isCopy(table: TableName, signal: AbortSignal): Promise<boolean> {
    const { database, selection } = this.#context;
    if (selection.isLiteral(table.schema, table.table)) return false;
    return await isLoggedCopy(table, this.#options, () => tableNames(database, table.schema, signal));
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

function refuse(relation: Relation): null {
  const { schema, table } = relation.message;
  relation.refused = tableId(schema, table);
  return null;
}

function nativesOf(message: RelationMessage, { tables }: Catalog): readonly string[] | undefined {
  const table = tables.find(({ oid }) => oid === message.oid);
  const known = new Map(table?.columns.map(({ type, modifier, native }) => [`${type} ${modifier}`, native]));
  const natives = message.columns.flatMap(({ type, modifier }) => known.get(`${type} ${modifier}`) ?? []);
  return natives.length === message.columns.length ? natives : undefined;
}

// The shape of a table in the stream, at the position of a Relation message.

/**
 * The shape that a Relation message announces. The message decides names, types and, except under FULL, the columns of the
 * key. The catalogue, which may be ahead or lack the table, adds attnum, nullability and the order of the key. A column
 * that the catalogue does not have under that name gets an identity below zero. A key that neither shows is empty: the
 * table has lost its identity.
 */
export function relationShape(
  message: RelationMessage,
  natives: readonly string[],
  table: CatalogTable | undefined,
  { types, relation }: Pick<Catalog, "types" | "relation">,
  wanted: ChosenKey | null = null,
  numbers: readonly number[] = columnNumbers(message, table),
): TableShape {
  const columns = message.columns.map((c, i): Column => {
    const known = table?.columns.find((column) => column.attnum === numbers[i]);
    return {
      name: c.name,
      type: columnType(c.type, c.modifier, types),
      native: natives[i] ?? "text",
      nullable: known === undefined ? !(c.inKey && message.identity !== FULL) : !known.notNull,
      identity: numbers[i]!,
    };
  });
  const chosen = wanted === null ? undefined : chosenKey(message, numbers, table, wanted);
  const key = chosen ?? relationKey(message, table);
  const ordinals = key.columns.map((name) => columns.findIndex((column) => column.name === name));
  const named = { schema: message.schema, table: message.table, relation: relation(message.oid) };
  const shape = shapeOf(named, columns, ordinals.includes(-1) ? [] : ordinals, key, chosen !== undefined);
  return table === undefined ? shape : { ...shape, ...originsOf(table, types) };
}

interface Inherited {
  /** As if the root had announced itself. */
  readonly message: RelationMessage;
  readonly natives: readonly string[];
  /** The attnum of each of its columns in the root. */
  readonly numbers: readonly number[];
  /** Where each is in the tuples. */
  readonly cells: readonly number[];
}

/** The columns of a table in a tree that the root has too, in the root's order. Both have them under one name at any time. */
function inherited(
  message: RelationMessage,
  natives: readonly string[],
  heir: CatalogTable | undefined,
  root: CatalogTable,
): Inherited {
  const numbers = columnNumbers(message, heir);
  const found = message.columns.flatMap((column, cell) => {
    const name = heir === undefined ? column.name : heir.columns.find(({ attnum }) => attnum === numbers[cell])?.name;
    const own = root.columns.find((one) => one.name === name);
    return own === undefined ? [] : [{ column, native: natives[cell] ?? "text", number: own.attnum, cell }];
  });
  const columns = found.toSorted((a, b) => a.number - b.number);
  const key = new Set(keyOf(root)?.columns);
  const numbersOfKey = new Set(root.columns.filter(({ name }) => key.has(name)).map(({ attnum }) => attnum));
  return {
    message: {
      oid: root.oid,
      schema: root.schema,
      table: root.table,
      identity: root.identity,
      columns: columns.map(({ column, number }) => {
        const inKey = root.identity === FULL || (column.inKey && numbersOfKey.has(number));
        return { ...column, inKey };
      }),
    },
    natives: columns.map(({ native }) => native),
    numbers: columns.map(({ number }) => number),
    cells: columns.map(({ cell }) => cell),
  };
}

/**
 * The key that the configuration chooses. Undefined if the message is older than the table's ability to have it: then the
 * table's own key counts until the change has passed.
 */
function chosenKey(
  message: RelationMessage,
  numbers: readonly number[],
  table: CatalogTable | undefined,
  wanted: ChosenKey,
): Key | undefined {
  if (table !== undefined && table.identity !== message.identity) return undefined;
  const found: FoundKey =
    table === undefined ? { kind: "chosen", key: { ...wanted, deferrable: false } } : findKey(table, wanted);
  if (found.kind === "unknown" || found.kind === "unfit") return { columns: [], deferrable: false };
  if (found.kind !== "chosen") return undefined;
  const columns = found.key.columns.map((name) => {
    const number = table?.columns.find((column) => column.name === name)?.attnum;
    return message.columns.find((column) => column.name === name) ?? message.columns[numbers.indexOf(number ?? 0)];
  });
  const names = columns.flatMap((column) =>
    column !== undefined && (message.identity === FULL || column.inKey) ? [column.name] : [],
  );
  return names.length === columns.length ? { ...found.key, columns: names } : undefined;
}

/**
 * The attnum of each column of the message, or a number below zero if it is unknown. A message has its columns in attnum
 * order. Most columns are found by name, unless the order shows that another column has the name now. A column that was
 * renamed or dropped since then lies between its neighbours in attnum order. It is identified if the catalogue has there
 * exactly as many columns of the same types as are missing, and no dropped ones, or these alone.
 */
function columnNumbers(message: RelationMessage, table: CatalogTable | undefined): number[] {
  const named = message.columns.map((c) => table?.columns.find((column) => column.name === c.name)?.attnum ?? 0);
  const isAhead = named.includes(0);
  const numbers = named.map((number, i) =>
    isInOrder(named, i) && (!isAhead || hasRoom(table, number, i)) ? number : 0,
  );
  for (let start = 0; start < numbers.length; start++) {
    if (numbers[start] !== 0) continue;
    let end = start;
    while (end < numbers.length && numbers[end] === 0) end++;
    const found = numbersBetween(
      message.columns.slice(start, end),
      table,
      numbers[start - 1] ?? 0,
      numbers[end] ?? Infinity,
    );
    for (let i = start; i < end; i++) numbers[i] = found?.[i - start] ?? -(i + 1);
  }
  return numbers;
}

/** Whether those with lower numbers, which were there when this one was, have room before it in the message. */
function hasRoom(table: CatalogTable | undefined, number: number, count: number): boolean {
  const lower = table?.columns.filter(({ attnum, generated }) => attnum < number && generated === "") ?? [];
  return lower.length <= count;
}

/** Whether all known numbers before the one at `i` are lower, and all after it are higher. */
function isInOrder(numbers: readonly number[], i: number): boolean {
  const own = numbers[i]!;
  return numbers.every((number, k) => number === 0 || k === i || (k < i ? number < own : number > own));
}

function numbersBetween(
  columns: RelationMessage["columns"],
  table: CatalogTable | undefined,
  low: number,
  high: number,
): number[] | undefined {
  if (table === undefined) return undefined;
  const between = (attnum: number): boolean => attnum > low && attnum < high;
  const live = table.columns.filter((column) => between(column.attnum) && column.generated === "");
  const dropped = table.dropped.filter(between);
  // One that was dropped may be in the message, and a later one not: then as many are no proof.
  if (
    dropped.length === 0 &&
    live.length === columns.length &&
    live.every((column, i) => column.type === columns[i]!.type)
  ) {
    return live.map((column) => column.attnum);
  }
  return live.length === 0 && dropped.length === columns.length ? dropped : undefined;
}

function relationKey(message: RelationMessage, table: CatalogTable | undefined): Key {
  const fromCatalog = table?.identity === message.identity ? keyOf(table) : undefined;
  if (message.identity === FULL)
    return fromCatalog ?? (table && keyOf({ ...table, identity: FULL })) ?? { columns: [], deferrable: false };
  const flagged = message.columns.filter((column) => column.inKey).map((column) => column.name);
  const same =
    fromCatalog?.columns.length === flagged.length && fromCatalog.columns.every((name) => flagged.includes(name));
  return fromCatalog !== undefined && same ? fromCatalog : { columns: flagged, deferrable: false };
}
