/**
 * Blocks under rules. A block without a ruled table is passed on unchanged. Otherwise a new block is made: ruled rows are
 * written again, and the bytes of the other rows are copied in one piece.
 */
import {
  BEFORE_DOUBTED,
  BEFORE_FULL,
  BEFORE_KEY,
  BEFORE_NONE,
  type Block,
  isUpdate,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_IF_HELD,
  OP_KEPT,
  OP_READ,
  OP_TRUNCATE,
  OP_UNTOLD,
  OP_UPDATE,
} from "../core/model/block.ts";
import { ByteWriter } from "../core/bytes.ts";
import type { TableVersion } from "../core/model/schema.ts";
import type { KeyText } from "../core/contracts/row-reads.ts";
import { keyText, writeRowId } from "../core/model/row-id.ts";
import { CELL_UNCHANGED, CellMap, hasUnchanged, tupleEnd } from "../core/model/tuple.ts";
import { BlockCopy } from "./block-copy.ts";
import { Doubts } from "./doubts.ts";
import { type ChangeAt, FilterMemory, type OpenRead, type Sees } from "./filter-memory.ts";
import type { ComputedColumn } from "./computed/computed-columns.ts";
import type { Masker } from "./masks.ts";
import type { RuledShape } from "./ruled-shape.ts";
import { ConditionRow } from "./where/values.ts";
import { type Condition, mayBeLong, TRUE, type Truth, UNTOLD } from "./where/condition.ts";

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

/** A read of which a block comes; `sees`: what its snapshot saw. */
interface ReadOrigin {
  readonly sees: Sees;
  readonly read: OpenRead;
}

/** A row whose changes in a block leave out values that are needed: by the filter, by a function, or by sinks that it is new to. */
interface LeftOutRow {
  readonly id: string;
  readonly key: KeyText;
  /** Before its first change. */
  readonly recalledAs: string;
  readonly at: ChangeAt;
  /** What the filter's parts say of that change alone; null: the filter knows enough. */
  readonly truths: string | null;
  /** Ordinals of what the filter or a function needs. */
  readonly needed: readonly number[];
  /** Ordinals of all that its changes leave out. */
  leftOut: readonly number[];
  /** Its changes in the block. */
  readonly changes: number[];
  /** The transaction of the last one. */
  writer: number;
  /** A later change of the block tells what is needed, or the row goes. */
  isOver: boolean;
}

interface Asking {
  readonly table: RuledTable;
  readonly doubts: Doubts;
  readonly byId: Map<string, LeftOutRow>;
  /** What the filter's parts say of rows behind their last change so far; null: the row is gone. */
  readonly told: Map<string, string | null>;
}

/** Rows of a table to be read at the source. */
interface LeftOutQuestion {
  readonly table: RuledTable;
  readonly rows: readonly LeftOutRow[];
}

/** The row of a change as it was read. */
interface Completion {
  readonly tuple: Uint8Array;
  /** Ordinals of the values that are those of the change. */
  readonly leftOut: readonly number[];
}

/** What was read at the source for one block of the log. It is no part of the block, which sources fill again. */
export class Answers {
  /** Of the stream. */
  readonly doubts: Doubts;
  /** By row of the block. */
  readonly completions = new Map<number, Completion>();
  /** What the filter's parts say of rows by their ids, in a stream that is behind: the memory has what later changes said. */
  readonly truths = new Map<RuledTable, Map<string, string>>();

  constructor(doubts = new Doubts()) {
    this.doubts = doubts;
  }

  know(table: RuledTable, id: string, truths: string): void {
    const found = this.truths.get(table) ?? new Map<string, string>();
    this.truths.set(table, found.set(id, truths));
  }
}

/** For the rows of a block together. Sinks get the others later, as they are read then. */
const COMPLETED_BYTES_MAX = 16 * 1024 * 1024;
/** What is written of a row: its new tuple, the same completed, its whole old tuple, or the key of that. */
const NEW = 0;
const COMPLETED = 1;
const OLD = 2;
const KEY_ONLY = 3;
type TuplePart = typeof NEW | typeof COMPLETED | typeof OLD | typeof KEY_ONLY;

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
  readonly #memories = new WeakMap<RuledTable, string>();
  /** For the block that is written again now. */
  #answers = new Answers();
  /** What the condition said of the row before its present change. */
  #was: Truth = UNTOLD;

  /** `tableOf`: the ruled table for a version at the source. */
  constructor(masker: Masker, tableOf: (source: TableVersion) => RuledTable | undefined) {
    this.#masker = masker;
    this.#tableOf = tableOf;
  }

  /** Of the log. Takes over the caller's reference; the caller gets one for the result. */
  apply(block: Block, answers = new Answers()): Block {
    const { until } = block;
    this.#answers = answers;
    const made = this.#made(block, null);
    this.memory.streamedUntil(until);
    return made;
  }

  /** The same for rows that were read. */
  applyRead(block: Block, from: ReadOrigin): Block {
    this.#answers = new Answers();
    return this.#made(block, from);
  }

  #made(block: Block, from: ReadOrigin | null): Block {
    const tables = block.tables.map((table) => this.#tableOf(table));
    return tables.every((table) => table === undefined) ? block : this.#rewritten(block, tables, from);
  }

  /** Rows with changes in this block that leave out what is needed and is not remembered. */
  asked(block: Block, doubts = new Doubts()): readonly LeftOutQuestion[] {
    const found: LeftOutQuestion[] = [];
    for (const [t, version] of block.tables.entries()) {
      const table = this.#tableOf(version);
      if (table === undefined || !mayLeaveOut(table) || !hasPartial(block, t)) continue;
      const asking: Asking = { table, doubts, byId: new Map(), told: new Map() };
      for (let row = 0; row < block.count; row++) if (block.table[row] === t) this.#ask(block, row, asking);
      const open = openWriter(block);
      const rows = [...asking.byId.values()].filter(({ isOver, writer }) => !isOver && writer !== open);
      if (rows.length > 0) found.push({ table, rows });
    }
    return found;
  }

  #ask(block: Block, row: number, asking: Asking): void {
    const { bytes } = block;
    const { table, doubts, byId, told } = asking;
    const { source } = table;
    const after = block.after[row]!;
    const before = block.before[row]!;
    if (block.op[row] === OP_TRUNCATE) for (const one of byId.values()) one.isOver = true;
    const oldId = before === NO_TUPLE ? null : this.#idOf(source, bytes, before);
    const id = after === NO_TUPLE ? null : this.#idOf(source, bytes, after);
    const isPartial = isPartialAt(block, row);
    const { kind } = this.#cells;
    const leftOut = isPartial ? source.columns.flatMap((_, c) => (kind[c] === CELL_UNCHANGED ? [c] : [])) : [];
    const filter = id === null ? null : this.#filterLacks(block, row, asking, id, oldId ?? id);
    if (oldId !== null && oldId !== id) {
      told.set(oldId, null);
      const left = byId.get(oldId);
      if (left !== undefined) left.isOver = true;
    }
    if (id === null) return;
    const at = changeAt(block, row);
    const known = byId.get(id);
    if (known !== undefined) {
      known.writer = at.xid;
      known.isOver ||= oldId !== null || !known.needed.every((ordinal) => leftOut.includes(ordinal));
      known.leftOut = known.leftOut.filter((ordinal) => leftOut.includes(ordinal));
      known.changes.push(row);
      return;
    }
    if (!isPartial) return;
    const inputs = this.#lacksInputs(bytes, after, BEFORE_NONE, table.plan)
      ? table.plan.computed.flatMap((one) => one.inputs.map(({ ordinal }) => ordinal))
      : null;
    if (inputs === null && filter === null && !doubts.has(source.id, oldId ?? id)) return;
    const needed = [...(inputs ?? []), ...(filter?.needed ?? [])].filter((ordinal) => leftOut.includes(ordinal));
    const of = { id, key: keyText(source, bytes, after), recalledAs: oldId ?? id, at, truths: filter?.truths ?? null };
    byId.set(id, { ...of, needed, leftOut, changes: [row], writer: at.xid, isOver: false });
  }

  /**
   * What the filter needs of a change that leaves values out; null: nothing. Where it lets a row in, only sinks need them
   * (`truths` is null).
   */
  #filterLacks(
    block: Block,
    row: number,
    { table, told }: Asking,
    id: string,
    recalledAs: string,
  ): Pick<LeftOutRow, "truths" | "needed"> | null {
    const { condition } = table.plan;
    if (condition === null) return null;
    const { bytes } = block;
    const at = changeAt(block, row);
    const isRemembered = remembers(table);
    const isFull = block.before[row]! !== NO_TUPLE && block.beforeKind[row] === BEFORE_FULL;
    this.#row.set(bytes, block.after[row]!, isFull ? block.before[row]! : -1);
    const alone = condition.parts(this.#row);
    let earlier = told.get(recalledAs);
    if (earlier === undefined && isRemembered)
      earlier = this.memory.recall(table.source.id, this.#memoryOf(table), recalledAs, at);
    if (earlier != null) this.#row.remember(earlier);
    told.set(id, condition.parts(this.#row));
    if (!isPartialAt(block, row)) return null;
    const is = condition.evaluate(this.#row);
    if (is === UNTOLD) {
      const needed = condition.longColumns.filter((ordinal) => this.#row.isLeftOut(ordinal));
      return isRemembered && needed.length > 0 ? { truths: alone, needed } : null;
    }
    if (is !== TRUE) return null;
    this.#was = UNTOLD;
    this.#lookBack(condition, earlier ?? null);
    const was = this.#was === UNTOLD ? this.#wasAsLogged(block, row, table, condition) : this.#was;
    return was === TRUE || was === UNTOLD ? null : { truths: null, needed: [] };
  }

  /**
   * `read`: these rows of a question about a block as they are now. Those that nobody wrote since have the values that their
   * changes left out.
   */
  answer(
    answers: Answers,
    table: RuledTable,
    rows: readonly LeftOutRow[],
    read: Block | null,
    writers: readonly (number | null)[],
  ): void {
    const { source, plan } = table;
    const byId = new Map(rows.flatMap((row, i) => (writers[i] === row.writer ? [[row.id, row]] : [])));
    const { completions } = answers;
    let byteCount = 0;
    for (const { tuple } of new Set(completions.values())) byteCount += tuple.length;
    for (let row = 0; row < (read?.count ?? 0); row++) {
      const { bytes, after } = read!;
      const offset = after[row]!;
      const one = byId.get(this.#idOf(source, bytes, offset));
      if (one === undefined) continue;
      if (one.truths !== null) {
        this.#row.set(bytes, offset, -1);
        // What the change itself tells may have been otherwise before it.
        const now = Array.from(plan.condition!.parts(this.#row), (digit, i) => {
          return one.truths![i] === String(UNTOLD) ? digit : String(UNTOLD);
        });
        const truths = now.join("");
        if (this.memory.isNews(one.at))
          this.memory.know(source.id, this.#memoryOf(table), one.recalledAs, truths, one.at);
        else answers.know(table, one.recalledAs, truths);
      }
      const end = tupleEnd(bytes, offset);
      if ((byteCount += end - offset) > COMPLETED_BYTES_MAX) continue;
      // A copy: `slice` of a buffer is none, and the bytes of the read go back to their writer.
      const completion = { tuple: Buffer.from(bytes.subarray(offset, end)), leftOut: one.leftOut };
      for (const change of one.changes) completions.set(change, completion);
    }
  }

  /** Undefined for a block that was passed on unchanged. */
  origin(block: Block): Origin | undefined {
    return this.#origins.get(block);
  }

  #rewritten(block: Block, tables: readonly (RuledTable | undefined)[], from: ReadOrigin | null): Block {
    const out = this.#free.pop() ?? new ByteWriter();
    out.reset();
    const copy = new BlockCopy(block, tables, out, () => {
      if (this.#free.length < FREE_COUNT_MAX && out.bytes.length <= KEPT_BYTES_MAX) this.#free.push(out);
      // Invariant 9: the source's memory for the block is released together with the new block.
      block.release();
    });
    let next = 0;
    for (let row = 0; row < block.count; row++) {
      for (; block.messages[next]?.at === row; next++) copy.message(next);
      const table = tables[block.table[row]!];
      if (table === undefined) copy.asItIs(row);
      else if (table.ruled.ruled?.fault == null) this.#ruledRow(copy, block, row, table, from);
      else this.memory.forgetTable(table.source.id);
    }
    for (; next < block.messages.length; next++) copy.message(next);
    const made = copy.finish();
    this.#origins.set(made, { block, rows: copy.origins() });
    return made;
  }

  #ruledRow(copy: BlockCopy, block: Block, row: number, table: RuledTable, from: ReadOrigin | null): void {
    const op = block.op[row]!;
    const after = block.after[row]!;
    const { condition } = table.plan;
    if (condition === null) return this.#whole(copy, block, row, op, table);
    const is = this.#truth(block, row, table, from);
    if (op === OP_TRUNCATE) return this.#whole(copy, block, row, op, table);
    if (op === OP_CREATE || op === OP_READ) {
      // Otherwise this row was never in a sink.
      if (is === TRUE) this.#whole(copy, block, row, op, table);
      return;
    }
    if (this.#was === UNTOLD) this.#was = this.#wasAsLogged(block, row, table, condition);
    if (after === NO_TUPLE || (is !== TRUE && is !== UNTOLD)) this.#left(copy, block, row, table);
    else this.#stays(copy, block, row, table, is === TRUE);
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
  #left(copy: BlockCopy, block: Block, row: number, table: RuledTable): void {
    const before = block.before[row]!;
    const isKnown = this.#was === TRUE;
    this.#told(block, row, table, this.#was !== UNTOLD);
    if (isKnown && before !== NO_TUPLE) {
      const kind = block.beforeKind[row]!;
      copy.add(row, OP_DELETE, NO_TUPLE, this.#oldTuple(copy, block.bytes, before, kind, table), kind);
    } else if (isKnown || this.#was === UNTOLD) {
      const key = this.#key(copy, block.bytes, before === NO_TUPLE ? block.after[row]! : before, table, false);
      copy.add(row, OP_DELETE, NO_TUPLE, key, isKnown ? BEFORE_KEY : BEFORE_DOUBTED);
    }
  }

  /** An update after which the row is wanted, or (not `isTold`) may be. Invariant: it does not show a row that was not. */
  #stays(copy: BlockCopy, block: Block, row: number, table: RuledTable, isTold: boolean): void {
    const { bytes } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const was = this.#was;
    const isShown = before === NO_TUPLE || was === TRUE;
    const completion = was === TRUE ? undefined : this.#completionOf(block, row);
    if (isShown && isTold && completion === undefined)
      return this.#whole(copy, block, row, was === TRUE ? OP_KEPT : OP_UPDATE, table);
    const isFull = !isShown && block.beforeKind[row] === BEFORE_FULL;
    if (was === UNTOLD && !isShown)
      copy.add(row, OP_DELETE, NO_TUPLE, this.#key(copy, bytes, before, table, false), BEFORE_DOUBTED);
    if (isTold && (isFull || completion !== undefined || !hasUnchanged(bytes, after))) {
      const full = completion !== undefined ? 0 : isFull ? before : NO_TUPLE;
      const entered = this.#tuple(copy, bytes, after, table, COMPLETED, full, completion);
      copy.add(row, OP_UPDATE, entered, NO_TUPLE, BEFORE_NONE);
      this.#told(block, row, table, true);
    } else if (!isTold && this.#staysIfHeld(block, row, table)) {
      const entire = this.#tuple(copy, bytes, after, table, NEW, NO_TUPLE);
      copy.add(row, OP_IF_HELD, entire, NO_TUPLE, BEFORE_NONE);
      this.#told(block, row, table, false);
    } else {
      const beforeKind = block.beforeKind[row]!;
      const old = isShown && before !== NO_TUPLE ? this.#oldTuple(copy, bytes, before, beforeKind, table) : NO_TUPLE;
      const kind = old === NO_TUPLE ? BEFORE_NONE : block.beforeKind[row]!;
      copy.add(row, OP_UNTOLD, this.#key(copy, bytes, after, table, true), old, kind);
      this.#told(block, row, table, false);
    }
  }

  /** Whether a row is wanted behind this change if a sink has it: then the filter let it through before. */
  #staysIfHeld({ op, bytes, before, after }: Block, row: number, table: RuledTable): boolean {
    const { condition, computed } = table.plan;
    if (!isUpdate(op[row]!) || before[row] !== NO_TUPLE || this.#was !== UNTOLD || computed.length > 0) return false;
    if (!remembers(table) || !this.memory.isSteady(table.source)) return false;
    this.#row.set(bytes, after[row]!, -1);
    return condition!.staysTrue(this.#row);
  }

  /** Whether a change leaves out values of a row of which a change before was not told. */
  #isDoubted({ bytes, before, after, op, beforeKind }: Block, row: number, { source }: RuledTable): boolean {
    if (!isUpdate(op[row]!) || beforeKind[row] === BEFORE_FULL || !this.#answers.doubts.in(source.id)) return false;
    const old = before[row]!;
    const id = this.#idOf(source, bytes, old === NO_TUPLE ? after[row]! : old);
    return this.#answers.doubts.has(source.id, id) && hasUnchanged(bytes, after[row]!);
  }

  #told({ bytes, before, after, transactions, tx }: Block, row: number, table: RuledTable, isTold: boolean): void {
    const { id } = table.source;
    const { doubts } = this.#answers;
    if (isTold ? !doubts.in(id) : !mayLeaveOut(table)) return;
    const ids = [before[row]!, after[row]!].flatMap((at) =>
      at === NO_TUPLE ? [] : [this.#idOf(table.source, bytes, at)],
    );
    for (const one of ids) doubts.delete(id, one);
    if (!isTold) doubts.add(id, ids.at(-1)!, transactions.commit[tx[row]!]!);
  }

  /** The row with all that its change leaves out, or all that these columns are made from, where it was read. */
  #completionOf(block: Block, row: number, of?: readonly ComputedColumn[]): Uint8Array | undefined {
    const found = this.#answers.completions.get(row);
    if (found === undefined) return undefined;
    this.#cells.read(block.bytes, block.after[row]!);
    for (let c = 0; c < this.#cells.count; c++) {
      if (this.#cells.kind[c] !== CELL_UNCHANGED || found.leftOut.includes(c)) continue;
      if (of?.every(({ inputs }) => inputs.every(({ ordinal }) => ordinal !== c)) !== true) return undefined;
    }
    return found.tuple;
  }

  /** What the condition says of the row after the change; sets `#was`. */
  #truth(block: Block, row: number, table: RuledTable, from: ReadOrigin | null): Truth {
    this.#was = UNTOLD;
    const condition = table.plan.condition!;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const isFull = before !== NO_TUPLE && block.beforeKind[row] === BEFORE_FULL;
    if (after !== NO_TUPLE) this.#row.set(block.bytes, after, isFull ? before : -1);
    const truth = after === NO_TUPLE ? UNTOLD : condition.evaluate(this.#row);
    if (block.op[row] === OP_UNTOLD) {
      this.#forget(block, row, table);
      return truth === TRUE ? UNTOLD : truth;
    }
    return remembers(table) ? this.#remembering(block, row, table, condition, from, truth) : truth;
  }

  #remembering(
    block: Block,
    row: number,
    table: RuledTable,
    condition: Condition,
    from: ReadOrigin | null,
    truth: Truth,
  ): Truth {
    const { source } = table;
    const { bytes, op } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const { memory } = this;
    const memoryOf = this.#memoryOf(table);
    if (op[row] === OP_TRUNCATE) {
      if (from === null && memory.isNews(changeAt(block, row))) memory.forgetTable(source.id);
      return truth;
    }
    if (from !== null) {
      if (after === NO_TUPLE) return truth;
      const id = this.#idOf(source, bytes, after);
      const truths = condition.parts(this.#row);
      if (!from.read.isVoid && !from.read.told.has(id)) memory.tellRead(source.id, memoryOf, id, truths, from.sees);
      return truth;
    }
    const at = changeAt(block, row);
    const answers = this.#answers.truths.get(table);
    const oldId = before === NO_TUPLE ? null : this.#idOf(source, bytes, before);
    if (after === NO_TUPLE) {
      if (oldId === null) return truth;
      this.#lookBack(condition, memory.recall(source.id, memoryOf, oldId, at) ?? answers?.get(oldId) ?? null);
      answers?.delete(oldId);
      memory.tell(source.id, memoryOf, oldId, null, at);
      return truth;
    }
    const id = this.#idOf(source, bytes, after);
    let is = truth;
    const earlier = memory.recall(source.id, memoryOf, oldId ?? id, at) ?? answers?.get(oldId ?? id) ?? null;
    if (earlier !== null && hasUnchanged(bytes, after)) {
      this.#row.remember(earlier);
      is = condition.evaluate(this.#row);
    }
    const truths = condition.parts(this.#row);
    if (oldId !== null && oldId !== id) memory.tell(source.id, memoryOf, oldId, null, at);
    memory.tell(source.id, memoryOf, id, truths, at);
    answers?.delete(oldId ?? id);
    answers?.set(id, truths);
    this.#lookBack(condition, earlier);
    return is;
  }

  /** The log has the key alone: the daemon that wrote it could not tell more. */
  #forget(block: Block, row: number, table: RuledTable): void {
    const { source } = table;
    for (const tuple of [block.before[row]!, block.after[row]!]) {
      if (tuple === NO_TUPLE) continue;
      const id = this.#idOf(source, block.bytes, tuple);
      this.#answers.truths.get(table)?.delete(id);
      this.memory.tell(source.id, this.#memoryOf(table), id, null, changeAt(block, row));
    }
  }

  /** What is remembered holds as long as it is the same table, the filter reads the same columns, and rows have the same key. */
  #memoryOf(table: RuledTable): string {
    let text = this.#memories.get(table);
    if (text === undefined) {
      const { relation, columns, key } = table.source;
      const named = [table.plan.condition!.ordinals, key].map((ordinals) =>
        ordinals.map((ordinal) => [columns[ordinal]!.identity, columns[ordinal]!.native]),
      );
      this.#memories.set(table, (text = JSON.stringify([relation, ...named])));
    }
    return text;
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

  #whole(copy: BlockCopy, block: Block, row: number, op: number, table: RuledTable): void {
    const { bytes } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const kind = block.beforeKind[row]!;
    const { computed } = table.plan;
    const isDoubted = this.#isDoubted(block, row, table);
    const isRead = isDoubted || computed.length > 0;
    const completion = isRead ? this.#completionOf(block, row, isDoubted ? undefined : computed) : undefined;
    const lacks = isDoubted || (after !== NO_TUPLE && this.#lacksInputs(bytes, after, kind, table.plan));
    const older = before === NO_TUPLE ? NO_TUPLE : this.#oldTuple(copy, bytes, before, kind, table);
    if (lacks && completion === undefined) {
      copy.add(row, OP_UNTOLD, this.#key(copy, bytes, after, table, true), older, kind);
      return this.#told(block, row, table, false);
    }
    const full = completion !== undefined ? 0 : kind === BEFORE_FULL ? before : NO_TUPLE;
    const part = isDoubted ? COMPLETED : NEW;
    const newer = after === NO_TUPLE ? NO_TUPLE : this.#tuple(copy, bytes, after, table, part, full, completion);
    copy.add(row, op, newer, older, kind);
    this.#told(block, row, table, true);
  }

  /** A change that leaves out some of what a function needs, and has the rest: only the source has all of it. */
  #lacksInputs(bytes: Uint8Array, after: number, beforeKind: number, { computed }: RuledShape): boolean {
    if (beforeKind === BEFORE_FULL || computed.every(({ inputs }) => inputs.length < 2)) return false;
    this.#cells.read(bytes, after);
    for (const column of computed) if (column.leavesOutSome(this.#cells)) return true;
    return false;
  }

  /** The key alone has no values that a function could get. */
  #oldTuple(copy: BlockCopy, bytes: Uint8Array, before: number, beforeKind: number, table: RuledTable): number {
    return this.#tuple(copy, bytes, before, table, beforeKind === BEFORE_FULL ? OLD : KEY_ONLY, NO_TUPLE);
  }

  /**
   * `full`: a whole tuple of the row that has what this one leaves out: its old one, or one in `fullBytes`. Only COMPLETED takes
   * other cells than those of inputs from it.
   */
  #tuple(
    { tuples }: BlockCopy,
    bytes: Uint8Array,
    offset: number,
    { source, plan }: RuledTable,
    part: TuplePart,
    full: number,
    fullBytes = bytes,
  ): number {
    const newest = this.#cells;
    newest.read(bytes, offset);
    const older = full === NO_TUPLE ? null : this.#olderCells;
    older?.read(fullBytes, full);
    const completes = older !== null && part === COMPLETED;
    const at = tuples.begin(plan.cells.length);
    for (const { ordinal, mask, asText, computed } of plan.cells) {
      if (ordinal === null) {
        if (computed === null || part === KEY_ONLY) tuples.null();
        else computed.write(tuples, this.#masker, bytes, newest, fullBytes, older, part === OLD);
        continue;
      }
      const isLeftOut = completes && newest.kind[ordinal] === CELL_UNCHANGED;
      const cells = isLeftOut ? older : newest;
      const from = isLeftOut ? fullBytes : bytes;
      if (asText) this.#masker.asText(tuples, source.columns[ordinal]!.type, from, cells, ordinal);
      else if (mask === null) tuples.copyCell(from, cells, ordinal);
      else this.#masker.write(tuples, mask, source.columns[ordinal]!.type, from, cells, ordinal);
    }
    return at;
  }

  /** A tuple with the key alone. */
  #key({ tuples }: BlockCopy, bytes: Uint8Array, offset: number, table: RuledTable, othersUnchanged: boolean): number {
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

/** The transaction that goes on in the next block, where a later change may tell a value. */
function openWriter({ transactions: { xid, count }, until }: Block): number | undefined {
  return until.index > 0 ? xid[count - 1] : undefined;
}

/** Whether the log tells changes by a key that one row alone has at any moment. */
function hasFirmKey({ dialect, key, deferrableKey, unenforcedKey }: TableVersion): boolean {
  return dialect === "postgres" && key.length > 0 && !deferrableKey && unenforcedKey !== true;
}

/** An update that leaves values out. */
function isPartialAt({ op, beforeKind, bytes, after }: Block, row: number): boolean {
  return isUpdate(op[row]!) && beforeKind[row] !== BEFORE_FULL && hasUnchanged(bytes, after[row]!);
}

function hasPartial(block: Block, table: number): boolean {
  for (let row = 0; row < block.count; row++) if (block.table[row] === table && isPartialAt(block, row)) return true;
  return false;
}

/** Whether changes may leave out values, and rows can be read under their keys as one change left them. */
function mayLeaveOut({ source, ruled, plan }: RuledTable): boolean {
  if (!hasFirmKey(source) || ruled.ruled?.fault != null) return false;
  return (plan.condition !== null || plan.computed.length > 0) && source.columns.some(({ type }) => mayBeLong(type));
}

/**
 * Where changes do not tell all that the filter needs, of the row or of the one before. Where two rows may have one key for a
 * moment, nothing is remembered.
 */
function remembers({ source, ruled, plan }: RuledTable): boolean {
  return hasFirmKey(source) && plan.condition !== null && ruled.ruled?.filteredByKey !== true;
}

function changeAt({ transactions, tx, index }: Block, row: number): ChangeAt {
  const of = tx[row]!;
  return { version: transactions.version[of]!, index: index[row]!, xid: transactions.xid[of]! };
}
