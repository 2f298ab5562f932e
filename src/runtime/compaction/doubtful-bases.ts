import { DELETE, PATCH, type TableWrites } from "../../core/model/batch.ts";
import { keyText } from "../../core/model/row-id.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { SnapshotStore } from "../../core/contracts/state-store.ts";

/** The key of the row that a PATCH takes its unchanged cells from. */
export function baseKey(writes: TableWrites, entry: number): KeyText {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const offset = writes.moved[entry] === 1 ? block.before[row]! : block.after[row]!;
  return keyText(writes.table, block.bytes, offset);
}

/**
 * The PATCH entries whose base the sink may hold in an older state than the log: the row was refused, its key waits for a
 * lookup, or a resync reads its whole table. Cells taken from such a base may be wrong, so the entries' own keys must be
 * read from the source too. In the last two cases a row that keeps its key needs no listing, because it is read anyway.
 */
export async function doubtfulBases(
  sink: string,
  writes: TableWrites,
  letters: { readonly waitingOf: (tableId: string) => Promise<ReadonlySet<string>> },
  snapshots: Pick<SnapshotStore, "list" | "listed">,
): Promise<readonly number[]> {
  if (writes.patchCount === 0) return [];
  const waiting = await letters.waitingOf(writes.table.id);
  const doubtful: number[] = [];
  const moved: number[] = [];
  for (let i = 0; i < writes.count; i++) {
    if (writes.action[i] !== PATCH) continue;
    if (waiting.size > 0 && waiting.has(JSON.stringify(baseKey(writes, i)))) doubtful.push(i);
    else if (writes.moved[i] === 1) moved.push(i);
  }
  if (moved.length === 0) return doubtful;
  const { id } = writes.table;
  const open = await snapshots.list();
  if (open.some((r) => r.sink === sink && r.tableId === id && r.scope.kind !== "where")) return [...doubtful, ...moved];
  const keys = moved.map((entry) => baseKey(writes, entry));
  const listed = await snapshots.listed(sink, id, keys);
  return [...doubtful, ...moved.filter((_, i) => listed.has(i))];
}

/**
 * For a stream, whose entries are every change: the PATCH entries that build on what `entries` leave of their rows, batch by
 * batch, and those of `entries` that are PATCH entries themselves. Ascending.
 */
export function withFollowers(writes: TableWrites, entries: readonly number[]): readonly number[] {
  if (writes.patchCount === 0 || entries.length === 0) return [];
  const given = new Set(entries);
  const doubted = new Set<string>();
  const found: number[] = [];
  for (let i = Math.min(...entries); i < writes.count; i++) {
    const isPatch = writes.action[i] === PATCH;
    const own = JSON.stringify(ownKey(writes, i));
    if (given.has(i) || (isPatch && doubted.has(JSON.stringify(baseKey(writes, i))))) {
      doubted.add(own);
      if (isPatch) found.push(i);
    } else doubted.delete(own);
  }
  return found;
}

function ownKey({ table, blocks, block, row, action }: TableWrites, entry: number): KeyText {
  const { bytes, before, after } = blocks[block[entry]!]!;
  return keyText(table, bytes, (action[entry] === DELETE ? before : after)[row[entry]!]!);
}
