import { DELETE, isIfHeld, PATCH, someOf, type TableWrites } from "../../core/model/batch.ts";
import { NO_TUPLE } from "../../core/model/block.ts";
import { invariant } from "../../core/invariant.ts";
import { keyShape, keyText } from "../../core/model/row-id.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { SnapshotStore, StateStore } from "../../core/contracts/state-store.ts";
import { baseKey, type DeadLetterBox, locate } from "./dead-letters.ts";
import type { SinkPosition } from "./sink-position.ts";
import type { SinkTableAnswers } from "./sink-tables.ts";
import type { UntoldKey } from "../compaction/table-compaction.ts";

interface IncompleteKeysParts {
  readonly sink: Pick<Sink, "name" | "form">;
  readonly state: Pick<StateStore, "snapshots">;
  readonly deadLetters: DeadLetterBox;
  readonly position: SinkPosition;
  readonly tables: SinkTableAnswers;
  /** Copies that may count as complete again without being read. */
  readonly carried: { has(tableId: string): boolean };
}

const NONE: ReadonlySet<number> = new Set();

/** Durably lists keys whose rows one sink can't complete from its input. A key lookup reads them from the source later. */
export class IncompleteKeys {
  readonly #parts: IncompleteKeysParts;

  constructor(parts: IncompleteKeysParts) {
    this.#parts = parts;
  }

  async list(untold: readonly UntoldKey[]): Promise<void> {
    const { sink, state, tables, position } = this.#parts;
    const byTable = Map.groupBy(untold, (key) => key.table);
    for (const [table, keys] of byTable) {
      // Listed keys of a void table that the sink does not hold are removed: each time, its batch would be repeated without end.
      // Those of one that is going to be read would be most of it during a first fill under load.
      if (!position.holds(table.id) && (tables.isVoid(table.id) || this.#isReadLater(table.id))) continue;
      const texts = keys.map((key) => keyText(table, key.bytes, key.offset));
      await state.snapshots.addKeys(sink.name, table.id, texts, keyShape(table));
    }
    tables.keysListed();
  }

  /** Invariant: if a copy may count as complete again without being read, the keys that it lacks are listed. */
  #isReadLater(tableId: string): boolean {
    return !this.#parts.carried.has(tableId) && this.#parts.tables.willRead(tableId);
  }

  async listEntries(writes: TableWrites, entries: readonly number[]): Promise<void> {
    await this.list(entries.map((entry) => ({ table: writes.table, ...tupleOf(writes, entry) })));
  }

  /** Lists entries whose base row in the sink may be older than the state that the batch builds on. */
  async listDoubtful(tables: readonly TableWrites[]): Promise<void> {
    const { sink, deadLetters, state } = this.#parts;
    for (const writes of tables) {
      const doubtful = await doubtfulBases(sink.name, writes, deadLetters, state.snapshots);
      const all = sink.form === "stream" ? withFollowers(writes, doubtful) : doubtful;
      if (all.length > 0) await this.listEntries(writes, all);
    }
  }

  /**
   * A change takes what it leaves out only from a row that holds its key's last change. Where the sink's row need not be that
   * one, a history, which keeps for ever what it takes, takes nothing (`fresh`). What would be wrong then is left out, and its
   * key is listed: in a history an entry that counts only if the row is there (`isIfHeld`), in a mirror one on a row that was
   * refused. A mirror's other rows are read anyway. Invariant: before the keys of the batch itself are listed.
   */
  async withoutUnsure(tables: readonly TableWrites[], signal: AbortSignal): Promise<readonly TableWrites[]> {
    const { form } = this.#parts.sink;
    if (form !== "history" && form !== "mirror") return tables;
    const kept: TableWrites[] = [];
    let isSame = true;
    for (const writes of tables) {
      const unsure = form === "history" ? await this.#unsure(writes, signal) : await this.#onRefused(writes);
      isSame &&= unsure.size === 0;
      const leftOut = [...unsure].filter((entry) => form === "mirror" || isIfHeld(writes, entry));
      if (leftOut.length > 0) await this.listEntries(writes, leftOut);
      const sure = unsure.size === 0 ? writes : withoutBases(writes, unsure, new Set(leftOut));
      if (sure.count > 0) kept.push(sure);
    }
    // What was prepared for this list is for no other.
    return isSame ? tables : kept;
  }

  async #onRefused(writes: TableWrites): Promise<ReadonlySet<number>> {
    if (writes.patchCount === 0) return NONE;
    const lacked = await this.#parts.deadLetters.lackedOf(writes.table.id);
    if (lacked.size === 0) return NONE;
    return new Set(basedEntries(writes).filter((entry) => lacked.has(JSON.stringify(baseKey(writes, entry)))));
  }

  /** Entries that would take values from a row of the sink that may be another one than the log's. */
  async #unsure(writes: TableWrites, signal: AbortSignal): Promise<ReadonlySet<number>> {
    const based = writes.patchCount === 0 ? [] : basedEntries(writes).filter((entry) => writes.fresh[entry] !== 1);
    if (based.length === 0) return NONE;
    const { tables, position } = this.#parts;
    const isCurrent = await tables.isCurrent(writes.table, position.tables, signal);
    const isOwed = !isCurrent && tables.areReadUnasked;
    if (isOwed || (await this.#isRead(writes.table.id))) return new Set(based);
    const waiting = await this.#waiting(writes, based);
    // Where nothing is read unasked, the history has what the log brought, and any other row may be one that the filter let through.
    return isCurrent ? waiting : new Set([...waiting, ...based.filter((entry) => isIfHeld(writes, entry))]);
  }

  /** Those whose base waits to be read, or was refused. */
  async #waiting(writes: TableWrites, entries: readonly number[]): Promise<ReadonlySet<number>> {
    const { sink, state, deadLetters } = this.#parts;
    const { id } = writes.table;
    const lacked = await deadLetters.lackedOf(id);
    const isListed = (await state.snapshots.keys([sink.name], [id], 1)).length > 0;
    if (lacked.size === 0 && !isListed) return NONE;
    const keys = entries.map((entry) => baseKey(writes, entry));
    const listed = await state.snapshots.listed(sink.name, id, keys);
    return new Set(entries.filter((_, i) => listed.has(i) || lacked.has(JSON.stringify(keys[i]))));
  }

  /** Whether the table waits to be read or compared, or a part of it is left to be. */
  async #isRead(tableId: string): Promise<boolean> {
    const { sink, state } = this.#parts;
    const open = await state.snapshots.unfinished(sink.name, tableId);
    return open.some(({ scope }) => scope.kind !== "where");
  }

  /** Lists what builds on an entry that the target refuses: a stream passes on what follows it in the batch. */
  async listAfter(writes: TableWrites, refused: number): Promise<void> {
    if (this.#parts.sink.form !== "stream") return;
    const followers = withFollowers(writes, [refused]).filter((entry) => entry !== refused);
    if (followers.length > 0) await this.listEntries(writes, followers);
  }
}

/** Those that take values from a row of the sink, unless the batch has them. */
function basedEntries({ action, count }: TableWrites): readonly number[] {
  return Array.from({ length: count }, (_, i) => i).filter((i) => action[i] === PATCH);
}

/** Of `entries`, those that are not left out take nothing from the row that the sink has. */
function withoutBases(writes: TableWrites, entries: ReadonlySet<number>, leftOut: ReadonlySet<number>): TableWrites {
  const kept = Array.from({ length: writes.count }, (_, i) => i).filter((i) => !leftOut.has(i));
  const some = someOf(writes, kept);
  for (const [at, i] of kept.entries()) if (entries.has(i)) some.fresh[at] = 1;
  return some;
}

/** The tuple whose key names entry `entry`. */
function tupleOf(writes: TableWrites, entry: number): { readonly bytes: Uint8Array; readonly offset: number } {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const offset = writes.action[entry] === DELETE ? block.before[row]! : block.after[row]!;
  invariant(offset !== NO_TUPLE, `entry ${entry} has the tuple of its action`);
  return { bytes: block.bytes, offset };
}

/**
 * The PATCH entries whose base the sink may hold in an older state than the log: the row was refused, its key waits for a
 * lookup, or a resync reads its whole table. Cells taken from such a base may be wrong, so the entries' own keys must be
 * read from the source too. In the last two cases a row that keeps its key needs no listing, because it is read anyway.
 */
async function doubtfulBases(
  sink: string,
  writes: TableWrites,
  letters: DeadLetterBox,
  snapshots: Pick<SnapshotStore, "unfinished" | "listed">,
): Promise<readonly number[]> {
  if (writes.patchCount === 0) return [];
  const lacked = await letters.lackedOf(writes.table.id);
  const doubtful: number[] = [];
  const moved: number[] = [];
  for (let i = 0; i < writes.count; i++) {
    if (writes.action[i] !== PATCH) continue;
    if (lacked.size > 0 && lacked.has(JSON.stringify(baseKey(writes, i)))) doubtful.push(i);
    else if (writes.moved[i] === 1) moved.push(i);
  }
  if (moved.length === 0) return doubtful;
  const { id } = writes.table;
  const open = await snapshots.unfinished(sink, id);
  if (open.some(({ scope }) => scope.kind !== "where")) return [...doubtful, ...moved];
  const keys = moved.map((entry) => baseKey(writes, entry));
  const listed = await snapshots.listed(sink, id, keys);
  return [...doubtful, ...moved.filter((_, i) => listed.has(i))];
}

/**
 * For a stream, whose entries are every change: the PATCH entries that build on what `entries` leave of their rows, batch by
 * batch, and those of `entries` that are PATCH entries themselves. Ascending.
 */
function withFollowers(writes: TableWrites, entries: readonly number[]): readonly number[] {
  if (writes.patchCount === 0 || entries.length === 0) return [];
  const given = new Set(entries);
  const doubted = new Set<string>();
  const found: number[] = [];
  for (let i = Math.min(...entries); i < writes.count; i++) {
    const isPatch = writes.action[i] === PATCH;
    const own = JSON.stringify(locate(writes, i).key);
    if (given.has(i) || (isPatch && doubted.has(JSON.stringify(baseKey(writes, i))))) {
      doubted.add(own);
      if (isPatch) found.push(i);
    } else doubted.delete(own);
  }
  return found;
}
