/**
 * Blocks under rules. A block without a ruled table is passed on unchanged. Otherwise a new block is made: ruled rows are
 * written again, and the bytes of the other rows are copied in one piece.
 */
import {
  BEFORE_DOUBTED,
  BEFORE_FULL,
  BEFORE_KEY,
  BEFORE_NONE,
  Block,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_KEPT,
  OP_READ,
  OP_TRUNCATE,
  OP_UNTOLD,
  OP_UPDATE,
} from "../core/model/block.ts";
import { ByteWriter } from "../core/bytes.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { TupleWriter } from "../core/model/tuple-writer.ts";
import type { KeyText } from "../core/contracts/row-reads.ts";
import { keyText, writeRowId } from "../core/model/row-id.ts";
import { CELL_UNCHANGED, CellMap, hasUnchanged, tupleEnd } from "../core/model/tuple.ts";
import { type ChangeAt, FilterMemory, type OpenRead, type Sees } from "./filter-memory.ts";
import type { Masker } from "./masks.ts";
import type { RuledShape } from "./rule-book.ts";
import { ConditionRow } from "./where/values.ts";
import { type Condition, TRUE, type Truth, UNTOLD } from "./where/condition.ts";

/** A table under rules: the source's version and the ruled one. */
export interface RuledTable {
  readonly source: TableVersion;
  readonly ruled: TableVersion;
  readonly plan: RuledShape;
}

/** Where a row of a block that was made here comes from. */
export interface Origin {
  readonly block: Block;
  readonly rows: Uint32Array;
}

/** Where a block comes from: the log, or a read whose snapshot saw what `sees` says. */
export type BlockOrigin = "log" | { readonly sees: Sees; readonly read: OpenRead };

/** Changes whose filter needs a value that they leave out. */
export interface FilterQuestion {
  readonly table: RuledTable;
  readonly rows: {
    readonly id: string;
    /** The row's id before the change. */
    readonly recalledAs: string;
    readonly key: KeyText;
    readonly at: ChangeAt;
    readonly truths: string;
    readonly leftOut: readonly number[];
    /** The transaction of its last change in the block. */
    writer: number;
    /** A later change of the block tells the value, or the row goes. */
    isOver: boolean;
  }[];
}

/** Of a table in a block. */
const ASKED_ROWS_MAX = 1_000;
const FREE_COUNT_MAX = 4;
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

export class RuledBlocks {
  readonly #masker: Masker;
  readonly #tableOf: (source: TableVersion) => RuledTable | undefined;
  readonly #origins = new WeakMap<Block, Origin>();
  readonly #free: ByteWriter[] = [];
  readonly #cells = new CellMap();
  readonly #olderCells = new CellMap();
  readonly #row = new ConditionRow();
  readonly #id = new ByteWriter(64);
  readonly memory = new FilterMemory();
  /** What the condition said of the row before its present change. */
  #was: Truth = UNTOLD;

  /** `tableOf`: the ruled table for a version at the source. */
  constructor(masker: Masker, tableOf: (source: TableVersion) => RuledTable | undefined) {
    this.#masker = masker;
    this.#tableOf = tableOf;
  }

  /** Takes over the caller's reference; the caller gets one for the result. */
  apply(block: Block, from: BlockOrigin): Block {
    const { until } = block;
    const tables = block.tables.map((table) => this.#tableOf(table));
    const made = tables.every((table) => table === undefined) ? block : this.#rewritten(block, tables, from);
    if (from === "log") this.memory.streamedUntil(until);
    return made;
  }

  /** Changes of this block whose filter needs a value that they leave out, and that is not remembered. */
  asked(block: Block): readonly FilterQuestion[] {
    const found: FilterQuestion[] = [];
    const rowIds = new Map<string, FilterQuestion["rows"][number]>();
    for (const [t, version] of block.tables.entries()) {
      const table = this.#tableOf(version);
      if (table === undefined || !mayLeaveOut(table) || table.ruled.ruled?.fault != null) continue;
      const asked: FilterQuestion = { table, rows: [] };
      rowIds.clear();
      for (let row = 0; row < block.count; row++) if (block.table[row] === t) this.#ask(block, row, asked, rowIds);
      // Of a transaction that goes on in the next block, a later change may tell it.
      const { xid, count } = block.transactions;
      const open = block.until.index > 0 ? xid[count - 1] : undefined;
      for (const one of asked.rows) one.isOver ||= one.writer === open;
      if (asked.rows.length > 0) found.push(asked);
    }
    return found;
  }

  #ask(
    block: Block,
    row: number,
    { table, rows }: FilterQuestion,
    rowIds: Map<string, FilterQuestion["rows"][number]>,
  ): void {
    const { bytes, op } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const { source, plan } = table;
    const oldId = before === NO_TUPLE ? null : this.#idOf(source, bytes, before);
    const id = after === NO_TUPLE ? null : this.#idOf(source, bytes, after);
    if (op[row] === OP_TRUNCATE) for (const one of rowIds.values()) one.isOver = true;
    const known = id === null ? undefined : rowIds.get(id);
    if (oldId !== null && oldId !== id && rowIds.has(oldId)) rowIds.get(oldId)!.isOver = true;
    if (id === null || op[row] !== OP_UPDATE || block.beforeKind[row] === BEFORE_FULL) {
      if (known !== undefined) known.isOver = true;
      return;
    }
    this.#cells.read(bytes, after);
    const leftOut = plan.condition!.longColumns.filter((c) => this.#cells.kind[c] === CELL_UNCHANGED);
    const at = changeAt(block, row);
    if (known !== undefined) {
      known.writer = at.xid;
      if (!known.leftOut.every((c) => leftOut.includes(c)) || oldId !== null) known.isOver = true;
      return;
    }
    if (leftOut.length === 0 || rows.length >= ASKED_ROWS_MAX) return;
    if (!this.memory.isNews(at)) return;
    this.#row.set(bytes, after, -1);
    const truths = plan.condition!.parts(this.#row);
    const earlier = this.memory.recall(source.id, plan, oldId ?? id, at);
    if (earlier !== null) this.#row.remember(earlier);
    if (plan.condition!.evaluate(this.#row) !== UNTOLD) return;
    const key = keyText(source, bytes, after);
    const one = { id, recalledAs: oldId ?? id, key, at, truths, leftOut, writer: at.xid, isOver: false };
    rows.push(one);
    rowIds.set(id, one);
  }

  /** `block`: the rows as they are now. Those that nobody wrote since have the values that their changes left out. */
  answer({ table, rows }: FilterQuestion, block: Block | null, writers: readonly (number | null)[]): void {
    const { source, plan } = table;
    const byId = new Map(rows.map((row, i) => [row.id, writers[i] === row.writer && !row.isOver ? row : undefined]));
    for (let row = 0; row < (block?.count ?? 0); row++) {
      const { bytes, after } = block!;
      const one = byId.get(this.#idOf(source, bytes, after[row]!));
      if (one === undefined) continue;
      this.#row.set(bytes, after[row]!, -1);
      const now = plan.condition!.parts(this.#row);
      // What the change itself tells may have been otherwise before it.
      const truths = Array.from(now, (digit, i) => (one.truths[i] === String(UNTOLD) ? digit : String(UNTOLD))).join(
        "",
      );
      this.memory.know(source.id, plan, one.recalledAs, truths, one.at);
    }
  }

  /** Undefined for a block that was passed on unchanged. */
  origin(block: Block): Origin | undefined {
    return this.#origins.get(block);
  }

  #rewritten(block: Block, tables: readonly (RuledTable | undefined)[], from: BlockOrigin): Block {
    const out = this.#free.pop() ?? new ByteWriter();
    out.reset();
    const { shift } = copyOthers(out, block, tables);
    const making = new Making(block, out, () => {
      if (this.#free.length < FREE_COUNT_MAX && out.bytes.length <= KEPT_BYTES_MAX) this.#free.push(out);
      // Invariant 9: the source's memory for the block is released together with the new block.
      block.release();
    });
    let next = 0;
    for (let row = 0; row < block.count; row++) {
      for (; block.messages[next]?.at === row; next++) making.message(next);
      const table = tables[block.table[row]!];
      if (table === undefined) making.asItIs(row, shift);
      else if (table.ruled.ruled?.fault == null) this.#ruledRow(making, block, row, table, from);
      else this.memory.forgetTable(table.source.id);
    }
    for (; next < block.messages.length; next++) making.message(next);
    const made = making.finish(tables);
    this.#origins.set(made, { block, rows: making.origins() });
    return made;
  }

  #ruledRow(making: Making, block: Block, row: number, table: RuledTable, from: BlockOrigin): void {
    const op = block.op[row]!;
    const after = block.after[row]!;
    const { condition } = table.plan;
    if (condition === null) return this.#whole(making, block, row, op, table);
    const is = this.#truth(block, row, table, from);
    if (op === OP_TRUNCATE) return this.#whole(making, block, row, op, table);
    if (op === OP_CREATE || op === OP_READ) {
      // Otherwise this row was never in a sink.
      if (is === TRUE) this.#whole(making, block, row, op, table);
      return;
    }
    if (this.#was === UNTOLD) this.#was = this.#wasAsLogged(block, row, table, condition);
    if (after === NO_TUPLE || (is !== TRUE && is !== UNTOLD)) this.#left(making, block, row, table);
    else this.#stays(making, block, row, table, is === TRUE);
  }

  /** What the condition says of the old row: of the whole one, or as far as its key tells. */
  #wasAsLogged(
    { bytes, before, beforeKind, after }: Block,
    row: number,
    table: RuledTable,
    condition: Condition,
  ): Truth {
    const old = before[row]!;
    if (old !== NO_TUPLE && beforeKind[row] === BEFORE_FULL) this.#row.set(bytes, old, -1);
    else this.#row.setKey(bytes, old === NO_TUPLE ? after[row]! : old, table.source.key);
    return condition.evaluate(this.#row);
  }

  /** The row is gone, or not wanted any more. */
  #left(making: Making, block: Block, row: number, table: RuledTable): void {
    const before = block.before[row]!;
    const isKnown = this.#was === TRUE;
    if (isKnown && before !== NO_TUPLE) {
      making.add(row, OP_DELETE, NO_TUPLE, this.#tuple(making, block.bytes, before, table), block.beforeKind[row]!);
    } else if (isKnown || this.#was === UNTOLD) {
      const key = this.#key(making, block.bytes, before === NO_TUPLE ? block.after[row]! : before, table, false);
      making.add(row, OP_DELETE, NO_TUPLE, key, isKnown ? BEFORE_KEY : BEFORE_DOUBTED);
    }
  }

  /** An update after which the row is wanted, or (not `isTold`) may be. Invariant: it does not show a row that was not. */
  #stays(making: Making, block: Block, row: number, table: RuledTable, isTold: boolean): void {
    const { bytes } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const was = this.#was;
    const isShown = before === NO_TUPLE || was === TRUE;
    if (isShown && isTold) return this.#whole(making, block, row, was === TRUE ? OP_KEPT : OP_UPDATE, table);
    const isFull = !isShown && block.beforeKind[row] === BEFORE_FULL;
    if (was === UNTOLD && !isShown)
      making.add(row, OP_DELETE, NO_TUPLE, this.#key(making, bytes, before, table, false), BEFORE_DOUBTED);
    if (isTold && (isFull || !hasUnchanged(bytes, after))) {
      const entered = this.#tuple(making, bytes, after, table, isFull ? before : NO_TUPLE);
      making.add(row, OP_UPDATE, entered, NO_TUPLE, BEFORE_NONE);
    } else {
      const old = isShown && before !== NO_TUPLE ? this.#tuple(making, bytes, before, table) : NO_TUPLE;
      const kind = old === NO_TUPLE ? BEFORE_NONE : block.beforeKind[row]!;
      making.add(row, OP_UNTOLD, this.#key(making, bytes, after, table, true), old, kind);
    }
  }

  /** What the condition says of the row after the change; sets `#was`. */
  #truth(block: Block, row: number, table: RuledTable, from: BlockOrigin): Truth {
    this.#was = UNTOLD;
    const condition = table.plan.condition!;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const isFull = before !== NO_TUPLE && block.beforeKind[row] === BEFORE_FULL;
    if (after !== NO_TUPLE) this.#row.set(block.bytes, after, isFull ? before : -1);
    const truth = after === NO_TUPLE ? UNTOLD : condition.evaluate(this.#row);
    return remembers(table) ? this.#remembering(block, row, table, table.plan, from, truth) : truth;
  }

  #remembering(
    block: Block,
    row: number,
    { source }: RuledTable,
    plan: RuledShape,
    from: BlockOrigin,
    truth: Truth,
  ): Truth {
    const condition = plan.condition!;
    const { bytes, op } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const { memory } = this;
    if (op[row] === OP_TRUNCATE) {
      if (from === "log" && memory.isNews(changeAt(block, row))) memory.forgetTable(source.id);
      return truth;
    }
    if (from !== "log") {
      if (after === NO_TUPLE) return truth;
      const id = this.#idOf(source, bytes, after);
      const truths = condition.parts(this.#row);
      if (!from.read.told.has(id)) memory.tellRead(source.id, plan, id, truths, from.sees);
      return truth;
    }
    const at = changeAt(block, row);
    const oldId = before === NO_TUPLE ? null : this.#idOf(source, bytes, before);
    if (after === NO_TUPLE) {
      if (oldId === null) return truth;
      this.#lookBack(condition, memory.recall(source.id, plan, oldId, at));
      memory.tell(source.id, plan, oldId, null, at);
      return truth;
    }
    const id = this.#idOf(source, bytes, after);
    let is = truth;
    const earlier = memory.recall(source.id, plan, oldId ?? id, at);
    if (earlier !== null && hasUnchanged(bytes, after)) {
      this.#row.remember(earlier);
      is = condition.evaluate(this.#row);
    }
    const truths = condition.parts(this.#row);
    if (oldId !== null && oldId !== id) memory.tell(source.id, plan, oldId, null, at);
    memory.tell(source.id, plan, id, truths, at);
    this.#lookBack(condition, earlier);
    return is;
  }

  #lookBack(condition: Condition, earlier: string | null): void {
    if (earlier === null) return;
    this.#row.goBack(earlier);
    this.#was = condition.evaluate(this.#row);
  }

  #idOf(table: TableVersion, bytes: Uint8Array, offset: number): string {
    this.#cells.read(bytes, offset);
    this.#id.reset();
    writeRowId(this.#id, table, bytes, this.#cells);
    return this.#id.view().toString("latin1");
  }

  #whole(making: Making, block: Block, row: number, op: number, table: RuledTable): void {
    const after = block.after[row]!;
    const before = block.before[row]!;
    const newer = after === NO_TUPLE ? NO_TUPLE : this.#tuple(making, block.bytes, after, table);
    const older = before === NO_TUPLE ? NO_TUPLE : this.#tuple(making, block.bytes, before, table);
    making.add(row, op, newer, older, block.beforeKind[row]!);
  }

  /** `older`: of the row's whole old tuple, which completes this one. */
  #tuple(
    { tuples }: Making,
    bytes: Uint8Array,
    offset: number,
    { source, plan }: RuledTable,
    older = NO_TUPLE,
  ): number {
    const newest = this.#cells;
    newest.read(bytes, offset);
    if (older !== NO_TUPLE) this.#olderCells.read(bytes, older);
    const at = tuples.begin(plan.cells.length);
    for (const { ordinal, mask, asText } of plan.cells) {
      const isLeftOut = older !== NO_TUPLE && ordinal !== null && newest.kind[ordinal] === CELL_UNCHANGED;
      const cells = isLeftOut ? this.#olderCells : newest;
      if (ordinal === null) tuples.null();
      else if (asText) this.#masker.asText(tuples, source.columns[ordinal]!.type, bytes, cells, ordinal);
      else if (mask === null) tuples.copyCell(bytes, cells, ordinal);
      else this.#masker.write(tuples, mask, source.columns[ordinal]!.type, bytes, cells, ordinal);
    }
    return at;
  }

  /** A tuple with the key alone. */
  #key({ tuples }: Making, bytes: Uint8Array, offset: number, table: RuledTable, othersUnchanged: boolean): number {
    const cells = this.#cells;
    cells.read(bytes, offset);
    const { key } = table.source;
    const at = tuples.begin(table.plan.cells.length);
    for (const { ordinal } of table.plan.cells) {
      if (ordinal !== null && key.includes(ordinal)) tuples.copyCell(bytes, cells, ordinal);
      else if (othersUnchanged) tuples.unchanged();
      else tuples.null();
    }
    return at;
  }
}

/** Whether changes may leave out what the filter needs. Where two rows may have one key for a moment, nothing is remembered. */
function mayLeaveOut(table: RuledTable): boolean {
  return remembers(table) && table.plan.condition!.longColumns.length > 0;
}

/** Where changes do not tell all that the filter needs, of the row or of the one before. */
function remembers({ source, ruled, plan }: RuledTable): boolean {
  const { dialect, key, deferrableKey, unenforcedKey } = source;
  if (dialect !== "postgres" || key.length === 0 || deferrableKey || unenforcedKey === true) return false;
  return plan.condition !== null && ruled.ruled?.filteredByKey !== true;
}

function changeAt({ transactions, tx, index }: Block, row: number): ChangeAt {
  const of = tx[row]!;
  return { version: transactions.version[of]!, index: index[row]!, xid: transactions.xid[of]! };
}

/** Builds a new block from a block of the source. */
class Making {
  readonly tuples: TupleWriter;
  readonly #from: Block;
  readonly #made: Block;
  #origins: Uint32Array;

  constructor(from: Block, out: ByteWriter, onRelease: () => void) {
    this.#from = from;
    this.tuples = new TupleWriter(out);
    this.#made = new Block(out.bytes, Math.max(64, from.count), onRelease);
    this.#origins = new Uint32Array(Math.max(64, from.count));
  }

  add(row: number, op: number, after: number, before: number, beforeKind: number): void {
    const { table, tx, index } = this.#from;
    const made = this.#made;
    if (made.count === this.#origins.length) {
      const larger = new Uint32Array(made.count * 2);
      larger.set(this.#origins);
      this.#origins = larger;
    }
    this.#origins[made.count] = row;
    made.append(op, table[row]!, after, before, beforeKind, tx[row]!, index[row]!);
  }

  /** A row of a table without rules; its bytes were copied. */
  asItIs(row: number, shift: number): void {
    const { op, after, before, beforeKind } = this.#from;
    const newer = after[row]!;
    const older = before[row]!;
    this.add(
      row,
      op[row]!,
      newer === NO_TUPLE ? NO_TUPLE : newer - shift,
      older === NO_TUPLE ? NO_TUPLE : older - shift,
      beforeKind[row]!,
    );
  }

  message(ordinal: number): void {
    this.#made.messages.push({ ...this.#from.messages[ordinal]!, at: this.#made.count });
  }

  origins(): Uint32Array {
    return this.#origins;
  }

  finish(tables: readonly (RuledTable | undefined)[]): Block {
    const from = this.#from;
    const made = this.#made;
    const { out } = this.tuples;
    // Only the written part: after it is whatever the memory held before.
    made.bytes = out.view();
    made.byteCount = from.byteCount + out.length;
    made.until = from.until;
    made.tables.push(...from.tables.map((table, i) => tables[i]?.ruled ?? table));
    const { commit, version, commitTimeUs, xid, count } = from.transactions;
    for (let t = 0; t < count; t++) made.transactions.add(commit[t]!, version[t]!, commitTimeUs[t]!, xid[t]!);
    made.transactions.origins.push(...from.transactions.origins);
    for (const { row, recordPosition } of from.truncates) {
      const at = this.#origins.subarray(0, made.count).indexOf(row);
      if (at >= 0) made.truncates.push({ row: at, recordPosition });
    }
    return made;
  }
}

/** Copies the range of bytes with the rows without rules. `shift`: how much smaller their offsets become. */
function copyOthers(
  out: ByteWriter,
  block: Block,
  tables: readonly (RuledTable | undefined)[],
): { readonly shift: number } {
  const { table, after, before, count } = block;
  let first = NO_TUPLE;
  let last = -1;
  for (let row = 0; row < count; row++) {
    if (tables[table[row]!] !== undefined) continue;
    const newer = after[row]!;
    const older = before[row]!;
    // NO_TUPLE is above every offset.
    first = Math.min(first, newer, older);
    if (newer !== NO_TUPLE && newer > last) last = newer;
    if (older !== NO_TUPLE && older > last) last = older;
  }
  if (last < 0) return { shift: 0 };
  out.copy(block.bytes, first, tupleEnd(block.bytes, last) - first);
  return { shift: first };
}
