import { shapeNote } from "../../../src/core/targets/base-floors.ts";
import { checkpointTexts, parseCheckpoint } from "../../../src/core/checkpoint/checkpoint-text.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { parsePosition } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { rowVersion } from "../../../src/core/model/version.ts";
import {
  createIndex,
  extendIndex,
  extensionOf,
  fieldOfOtherType,
  type Engine,
  findIndices,
  type IndexOptions,
} from "./ddl.ts";
import { droppedError } from "../errors.ts";
import type { WriteFence } from "../fence.ts";
import type { SearchClient } from "../http.ts";
import { dropIndex, indexAfter, moveAlias, nextAliasOf } from "./next-index.ts";
import { absentIndices, reviseIndices } from "./presence.ts";
import { parseIndices, type ProgressDocument, type ProgressRecord } from "../progress.ts";
import { type IndexIdentity, type PreparedIndex, type TableIndex, writtenIndex } from "./tables.ts";

/**
 * Knows the index of each table. If the mapping can take a new shape, the index is extended; otherwise the next index
 * is filled beside the visible one. Invariants: an index is recorded before its first row, and the alias has moved
 * before the table counts as complete.
 */
export class TableIndices {
  readonly #client: SearchClient;
  readonly #engine: Engine;
  readonly #fence: WriteFence;
  readonly #log: Logger;
  #indices: ReadonlyMap<string, TableIndex> = new Map();
  #unfilled = new Set<string>();
  #isFilling = false;

  constructor(client: SearchClient, options: IndexOptions, fence: WriteFence, log: Logger) {
    this.#client = client;
    this.#engine = { client, options };
    this.#fence = fence;
    this.#log = log;
  }

  /**
   * A table whose index was dropped or replaced while no daemon ran is no longer complete. This is stored with the
   * lease, before a new index can replace the old one in the record.
   */
  async revise(held: ProgressRecord, signal: AbortSignal): Promise<ProgressRecord> {
    const { indices, lost, unfilled } = await reviseIndices(this.#client, parseIndices(held.indices), signal);
    this.#adopt(indices);
    this.#unfilled = new Set(unfilled);
    if (lost.size + unfilled.size > 0) {
      const tables = [...lost, ...unfilled];
      this.#log.warn({ tables }, "indices were dropped or replaced: their tables are read again");
    }
    const content = parseCheckpoint(held.tables, held.bond);
    const tables = Object.entries(content.tables).filter(([id]) => !lost.has(id) && !unfilled.has(id));
    const left = checkpointTexts({ ...content, tables: Object.fromEntries(tables) });
    return { ...held, ...left, indices: textOf(indices) };
  }

  /** False if the table has no index, or has lost the one that was being filled. */
  holds(tableId: string): boolean {
    return this.#indices.has(tableId) && !this.#unfilled.has(tableId);
  }

  /** The index to which the table's rows are written. */
  written(tableId: string): IndexIdentity | undefined {
    const table = this.#indices.get(tableId);
    return table === undefined ? undefined : writtenIndex(table);
  }

  /** Drops the table's indices, including the visible one; `prepare` creates another. */
  async remove(tableId: string, document: ProgressDocument, signal: AbortSignal): Promise<void> {
    const table = this.#indices.get(tableId);
    if (table === undefined) return;
    for (const identity of [table, ...(table.next === undefined ? [] : [table.next])]) {
      await dropIndex(this.#client, identity, signal);
    }
    const indices = new Map(this.#indices);
    indices.delete(tableId);
    await document.write({ indices: textOf(indices) }, signal);
    this.#adopt(indices);
  }

  /** Prepares an index for rows of this version, and returns it. */
  async prepare(
    alias: string,
    table: TableVersion,
    document: ProgressDocument,
    signal: AbortSignal,
  ): Promise<PreparedIndex> {
    // Invariant: a process that has lost its lease creates and drops no index.
    await document.compare(signal);
    const known = this.#indices.get(table.id);
    const nextAlias = nextAliasOf(alias);
    const { current, next } = await findIndices(this.#engine, table, { alias, nextAlias }, signal);
    if (known !== undefined && current?.uuid !== known.uuid) throw droppedError(alias);
    const filling = known?.next === undefined || this.#unfilled.has(table.id) ? null : next;
    if (known?.next !== undefined && !this.#unfilled.has(table.id) && filling?.uuid !== known.next.uuid) {
      throw droppedError(nextAlias);
    }
    const target = filling ?? current;
    if (next !== null && (filling === null || fieldOfOtherType(filling, table) !== null)) {
      // Created but never recorded, so it has no rows; or begun for a shape that the table no longer has.
      await dropIndex(this.#client, next, signal);
    }
    if (target !== null && fieldOfOtherType(target, table) === null) {
      const note = shapeNote(target.note, table, versionAt(document.record));
      const extension = extensionOf(target, table, note);
      if (extension !== null) {
        const [entered] = (await this.#fence.enter([target], signal)).aliases;
        await document.compare(signal);
        await extendIndex(this.#engine, table, { alias: entered!, extension }, signal);
      }
      const recorded = { ...identityOf(current ?? target), next: filling === null ? undefined : identityOf(filling) };
      await this.#record(table.id, recorded, document, signal);
      return { index: writtenIndex(recorded), note };
    }
    const made = { writeAlias: this.#fence.newAlias(), note: shapeNote(null, table, 0n) };
    const wanted =
      current === null
        ? { ...made, index: indexAfter(alias, next), alias, isHidden: false }
        : { ...made, index: indexAfter(alias, current, next), alias: nextAlias, isHidden: true };
    const index = identityOf(await createIndex(this.#engine, table, wanted, signal));
    this.#fence.made(index.uuid, made.writeAlias);
    failpoint("elasticsearch.index-made", table);
    await this.#record(table.id, current === null ? index : { ...identityOf(current), next: index }, document, signal);
    if (current !== null) {
      this.#log.info({ table: table.id, index: index.index }, "a type changed: the table is read into a new index");
    }
    return { index, note: made.note };
  }

  /** Whether the visible index takes rows of this version. */
  async takes(alias: string, table: TableVersion, signal: AbortSignal): Promise<boolean> {
    const known = this.#indices.get(table.id);
    if (known === undefined || known.next !== undefined) return false;
    const { current, next } = await findIndices(this.#engine, table, { alias, nextAlias: nextAliasOf(alias) }, signal);
    return current?.uuid === known.uuid && next === null && fieldOfOtherType(current, table) === null;
  }

  /** From here on the indices are known by their UUIDs, also after a restart. */
  async #record(tableId: string, table: TableIndex, document: ProgressDocument, signal: AbortSignal): Promise<void> {
    const indices = new Map(this.#indices).set(tableId, table);
    if (textOf(indices) !== textOf(this.#indices)) await document.write({ indices: textOf(indices) }, signal);
    this.#unfilled.delete(tableId);
    this.#adopt(indices);
  }

  /**
   * Moves the aliases of the tables that become complete with this step. Returns what to store with the step's
   * progress; null if no alias moved. Idempotent until then.
   */
  async complete(tables: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Moved | null> {
    if (!this.#isFilling) return null;
    const moved: [string, TableIndex][] = [];
    for (const [id, table] of this.#indices) {
      const { next } = table;
      if (next === undefined || tables[id] === undefined) continue;
      moved.push([id, await moveAlias(this.#engine, { id }, { ...table, next }, signal)]);
    }
    if (moved.length === 0) return null;
    const indices = new Map([...this.#indices, ...moved]);
    return { text: textOf(indices), stored: () => this.#adopt(indices) };
  }

  /** Throws if an index of ours does not exist. */
  async expectPresent(signal: AbortSignal): Promise<void> {
    const [absent] = await absentIndices(this.#client, this.all(), signal);
    if (absent !== undefined) throw droppedError(absent.alias);
  }

  /** Without those that are known to be gone; they stay recorded until others replace them. */
  all(): IndexIdentity[] {
    const isThere = (id: string, { next }: TableIndex): boolean => next !== undefined && !this.#unfilled.has(id);
    return [...this.#indices].flatMap(([id, table]) => (isThere(id, table) ? [table, table.next!] : [table]));
  }

  #adopt(indices: ReadonlyMap<string, TableIndex>): void {
    this.#indices = indices;
    this.#isFilling = [...indices.values()].some(({ next }) => next !== undefined);
  }
}

export interface Moved {
  readonly text: string;
  /** Call this when `text` is stored. */
  readonly stored: () => void;
}

function identityOf({ alias, index, uuid }: IndexIdentity): IndexIdentity {
  return { alias, index, uuid };
}

function textOf(indices: ReadonlyMap<string, TableIndex>): string {
  return JSON.stringify(Object.fromEntries(indices));
}

/** Rows of a shape that begins now have this version or a higher one. */
function versionAt({ position }: ProgressRecord): bigint {
  if (position === "") return 0n;
  const { epoch, commit } = parsePosition(position);
  return rowVersion(epoch, commit);
}
