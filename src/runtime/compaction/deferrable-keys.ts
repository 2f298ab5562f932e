import { type Block, NO_TUPLE, OP_DELETE } from "../../core/model/block.ts";
import { tupleEnd } from "../../core/model/tuple.ts";
import type { TableCompaction } from "./table-compaction.ts";

interface Row {
  readonly block: number;
  readonly row: number;
}

/** The rows that have one key while a transaction runs, besides the row from before the transaction. */
interface KeyRows {
  readonly puts: Row[];
  /** The change that removed the row from before the transaction. */
  removal: Row | null;
}

/**
 * Compacts the changes of tables whose key is checked at commit. Inside a transaction such a key may have two rows, the earlier
 * one and a new one (two rows that swap their keys), so "the last change wins" would delete the wrong one. Therefore a
 * removal cancels the put of this transaction that equals its old row, or else removes the earlier row. Old rows are
 * complete: Postgres publishes updates of such tables only under REPLICA IDENTITY FULL.
 *
 * If the batch holds only a part of a transaction, its changes can't be compacted; their keys are read from the source.
 */
export function compactDeferrable(compact: TableCompaction, cut: ReadonlySet<bigint>): void {
  let keys = new Map<string, KeyRows>();
  let current: bigint | null = null;
  for (const { slice, row } of compact.postponed()) {
    const block = compact.blockAt(slice);
    const commit = block.transactions.commit[block.tx[row]!]!;
    if (commit !== current) {
      writeRows(compact, keys);
      keys = new Map();
      current = commit;
    }
    if (cut.has(commit)) giveUpBoth(compact, slice, row);
    else note(compact, keys, { block: slice, row });
  }
  writeRows(compact, keys);
}

/**
 * For a history: adds the changes of such a table as they are. An update that takes a row away from its key shows the key
 * as left only if no other row of the transaction has it by then. If the last entry of a key may not be the key's row at
 * commit, the key is read from the source.
 */
export function appendDeferrable(compact: TableCompaction, cut: ReadonlySet<bigint>): void {
  let keys = new Map<string, KeyRows>();
  let current: bigint | null = null;
  for (const { slice, row } of compact.postponed()) {
    const block = compact.blockAt(slice);
    const commit = block.transactions.commit[block.tx[row]!]!;
    if (commit !== current) keys = new Map();
    current = commit;
    appendOne(compact, keys, { block: slice, row }, cut.has(commit));
  }
}

function appendOne(compact: TableCompaction, keys: Map<string, KeyRows>, change: Row, isCut: boolean): void {
  const block = compact.blockAt(change.block);
  const before = block.before[change.row]!;
  const isDelete = block.op[change.row] === OP_DELETE;
  if (!isDelete) {
    const whole = compact.completed(change.block, change.row);
    const source = compact.blockAt(whole.block);
    const after = source.after[whole.row]!;
    const stays = before === NO_TUPLE || compact.keys.equal(block.bytes, before, source.bytes, after);
    compact.put(whole.block, whole.row, false);
    const rows = rowsOf(keys, compact, source, after);
    if (stays && before !== NO_TUPLE) leave(rows, compact, change);
    rows.puts.push(whole);
    if (stays) return;
  }
  const rows = rowsOf(keys, compact, block, before);
  const own = leave(rows, compact, change);
  const isTaken = rows.puts.length > 0;
  if (isDelete || !isTaken) compact.remove(change.block, change.row);
  // An entry of the key that is not its row: this delete, or the put that it has just cancelled.
  const isLastOther = isTaken && (isDelete || own === rows.puts.length);
  // The earlier row may still exist. In a part of a transaction it is not known which rows there were.
  const mayStay = own >= 0 && rows.removal === null;
  if (isLastOther || mayStay || isCut) compact.doubtOld(change.block, change.row);
}

/**
 * The change takes its old row away from a key: the put of this transaction that equals it, or else the row from before.
 * Returns which put it was, or -1.
 */
function leave(rows: KeyRows, compact: TableCompaction, change: Row): number {
  const block = compact.blockAt(change.block);
  const before = block.before[change.row]!;
  const own = rows.puts.findIndex((put) => sameTuple(block, before, compact.blockAt(put.block), put.row));
  if (own >= 0) rows.puts.splice(own, 1);
  else rows.removal = change;
  return own;
}

function note(compact: TableCompaction, keys: Map<string, KeyRows>, change: Row): void {
  const block = compact.blockAt(change.block);
  const before = block.before[change.row]!;
  if (before !== NO_TUPLE) leave(rowsOf(keys, compact, block, before), compact, change);
  if (block.op[change.row] !== OP_DELETE) {
    const whole = compact.completed(change.block, change.row);
    const source = compact.blockAt(whole.block);
    const rows = rowsOf(keys, compact, source, source.after[whole.row]!);
    rows.puts.push(whole);
  }
}

function writeRows(compact: TableCompaction, keys: ReadonlyMap<string, KeyRows>): void {
  for (const { puts, removal } of keys.values()) {
    const put = puts.at(-1);
    if (put !== undefined) compact.put(put.block, put.row, false);
    else if (removal !== null) compact.remove(removal.block, removal.row);
  }
}

function giveUpBoth(compact: TableCompaction, slice: number, row: number): void {
  const block = compact.blockAt(slice);
  if (block.before[row] !== NO_TUPLE) compact.giveUpOld(slice, row);
  if (block.after[row] !== NO_TUPLE) compact.giveUpNew(slice, row);
}

function rowsOf(keys: Map<string, KeyRows>, compact: TableCompaction, block: Block, offset: number): KeyRows {
  const key = compact.keys.text(block.bytes, offset);
  let rows = keys.get(key);
  if (rows === undefined) keys.set(key, (rows = { puts: [], removal: null }));
  return rows;
}

function sameTuple(block: Block, offset: number, other: Block, otherRow: number): boolean {
  const otherOffset = other.after[otherRow]!;
  const end = tupleEnd(block.bytes, offset);
  const otherEnd = tupleEnd(other.bytes, otherOffset);
  return Buffer.from(block.bytes.buffer, block.bytes.byteOffset + offset, end - offset).equals(
    other.bytes.subarray(otherOffset, otherEnd),
  );
}
