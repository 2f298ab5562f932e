/**
 * How rows that do not come from the log get their place in it.
 *
 * A SELECT shows rows as of some moment, and the stream shows changes; nothing tells which of the two is older. So
 * Millrace writes two marks into the source's log, reads in between, and lets the stream itself bring the marks back:
 *
 *     the session that reads     mark low ........ SELECT a chunk ........ mark high
 *                                   |                   |                     |
 *     the log           ── a ── b ──L── c ── d ── e ── f ── g ── h ──────────H── i ──>
 *                                   |<──── the window notes the keys ───────>|
 *     the sinks' queues    a, b,      c, d, e, f, g, h,                       chunk, i
 *
 * The chunk was read after L, so it has a and b. It enters the queues at H, behind everything up to h. Of its rows only
 * those stay that no change between the marks has touched: these rows were the same at L, at the SELECT and at H. They
 * get the version of L, so that each later change of the log wins, and at the end of a whole table the sweep removes
 * what has a lower version than the first L: rows that no chunk has shown are gone at the source.
 *
 * What a touched key means depends on who asks:
 * - `ApplyWindow` fills a sink. The sink has the changes themselves, so the chunk's row of a touched key is left out. It
 *   is needed only where the log does not show the whole row: a change that left TOASTed columns alone is completed with
 *   the chunk's row (`partial`), and a row that the log can't show at all (`untold`) is taken from the chunk if the
 *   chunk's snapshot sees the last change of it.
 * - `CompareWindow` says what a sink must hold at H. First come the rows that the source itself has shown: untouched ones,
 *   and those whose last change the snapshot sees. Then come keys that changed later, as the log left them; in a range they
 *   are found while it is compared (`MovedRows`). Keys of which neither tells the state at H are `unsettled`, and are looked up again.
 *
 * What went wrong before this was so:
 * - A transaction may be in the stream and not yet visible to a SELECT (a commit that waits for a synchronous standby).
 *   A chunk counts only if its snapshot sees every transaction that was delivered before L (`not yet visible`).
 * - A TRUNCATE, another shape, or a row without its key between the marks: the noted keys say nothing, and the chunk is
 *   read again (`Spoiled`). So it is if the stream was opened again between the marks, and if H never shows (`lost`).
 * - A chunk that takes minutes under a rare condition notes millions of keys: beyond `LIMITS` the window gives up, aborts
 *   the read, and the next chunk is smaller (`overfull`).
 */
import {
  BEFORE_FULL,
  BEFORE_KEY,
  BEFORE_NONE,
  Block,
  isUntold,
  isUpdate,
  NO_TUPLE,
  OP_DELETE,
  OP_READ,
  OP_TRUNCATE,
} from "../../core/model/block.ts";
import { ByteWriter } from "../../core/bytes.ts";
import { type Clock, nextTurn } from "../../core/clock.ts";
import { hasWholeKey, joinedKey, keyText } from "../../core/model/row-id.ts";
import { isKeyed, type TableVersion } from "../../core/model/schema.ts";
import type { Chunk, KeyText } from "../../core/contracts/row-reads.ts";
import { hasUnchanged, tupleEnd, TupleWriter } from "../../core/model/tuple.ts";
import { mergeTuples } from "../compaction/table-compaction.ts";

/** Why a chunk can't be used and is read again. */
export type Spoiled = "truncated" | "schema changed" | "not yet visible" | "lost" | "without a key" | "overfull";

/** The limit of what a window keeps of the stream: more than a short read meets even on the busiest table. */
const LIMITS = { keyCountMax: 500_000, byteCountMax: 32 * 1024 * 1024 };
const ENTRY_BYTES = 64;

/** One chunk's way into the stream; `T`: what it notes of a key that the stream carries between the marks. */
export abstract class Window<T = unknown> {
  readonly id: string;
  readonly tableId: string;
  readonly #limits: typeof LIMITS;
  readonly #overfull = new AbortController();
  #open = false;
  #spoiled: Spoiled | null = null;
  #lowVersion = 0n;
  #chunk: Filled | null = null;
  #touchedBytes = 0;
  protected readonly touched = new Map<string, T>();

  /** `id`: the one in its marks; windows of several tables may share it. */
  constructor(id: string, tableId: string, limits = LIMITS) {
    this.id = id;
    this.tableId = tableId;
    this.#limits = limits;
  }

  /** Aborted when the stream has brought more than a window keeps: the chunk is useless. */
  get overfull(): AbortSignal {
    return this.#overfull.signal;
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** Version of the rows of this chunk. */
  get lowVersion(): bigint {
    return this.#lowVersion;
  }

  low(version: bigint): void {
    this.#open = true;
    this.#lowVersion = version;
  }

  spoil(why: Spoiled): void {
    this.#spoiled ??= why;
    this.touched.clear();
  }

  /** The chunk, just read between the marks. `keys`: the keys of a key lookup. */
  fill(table: TableVersion, chunk: Chunk, keys: readonly KeyText[] | null, nowMs: number): void {
    this.#chunk = { chunk, table, keys, nowMs };
  }

  /** Notes rows `from`..`to` of a block that the stream carries while the window is open. */
  touch(block: Block, from: number, to: number): void {
    if (!block.tables.some(({ id }) => id === this.tableId)) return;
    for (let row = from; row < to && this.#spoiled === null; row++) {
      const table = block.tables[block.table[row]!]!;
      if (table.id !== this.tableId) continue;
      if (block.op[row] === OP_TRUNCATE) this.spoil("truncated");
      else if (!hasKeys(table, block, row)) this.spoil("without a key");
      else this.#touchRow(block, row, table);
    }
  }

  #touchRow(block: Block, row: number, table: TableVersion): void {
    const after = block.after[row]!;
    const before = block.before[row]!;
    const oldKey = before === NO_TUPLE ? null : keyOf(table, block.bytes, before);
    const newKey = after === NO_TUPLE ? null : keyOf(table, block.bytes, after);
    this.noteChange(block, row, table, oldKey, newKey);
  }

  /** `oldKey`, `newKey`: the keys of the row before and after the change; null if there is no such row. */
  protected abstract noteChange(
    block: Block,
    row: number,
    table: TableVersion,
    oldKey: string | null,
    newKey: string | null,
  ): void;

  /** `byteCount`: what is kept with the key. */
  protected note(key: string, touched: T, byteCount = 0): void {
    const { size } = this.touched;
    this.touched.set(key, touched);
    this.#touchedBytes += byteCount;
    if (this.touched.size > size) this.#touchedBytes += key.length + ENTRY_BYTES;
    const { keyCountMax, byteCountMax } = this.#limits;
    if (this.touched.size <= keyCountMax && this.#touchedBytes < byteCountMax) return;
    this.spoil("overfull");
    this.#overfull.abort();
  }

  /** At the high watermark: the rows to use, or why not. The caller releases the block; null if nothing is left. */
  close(allSeen: (sees: (xid: number) => boolean) => boolean): WindowRows | Spoiled {
    const filled = this.#chunk;
    if (filled === null) return "not yet visible";
    this.#chunk = null;
    const { chunk } = filled;
    if (!this.#open) this.spoil("not yet visible");
    if (this.#spoiled === null && !allSeen(chunk.sees)) this.#spoiled = "not yet visible";
    if (this.#spoiled !== null) {
      chunk.block?.release();
      return this.#spoiled;
    }
    if (chunk.block !== null) {
      chunk.block.transactions.version[0] = this.#lowVersion;
      if (this.touched.size === 0 && filled.keys === null) return { block: chunk.block, toldCount: chunk.block.count };
    }
    const rows = this.select(filled);
    chunk.block?.release();
    return rows;
  }

  protected abstract select(filled: Filled): WindowRows;

  /** Drops a chunk whose high watermark never came. */
  discard(): void {
    this.#chunk?.chunk.block?.release();
    this.#chunk = null;
  }
}

/**
 * What the stream carried for one key. `partial`: all its changes left some columns alone, and the sink may lack the row's
 * other values. The chunk's row has those columns, so the two together make the whole row.
 */
type Touched =
  | { readonly kind: "superseded" }
  | { readonly kind: "partial"; readonly tuple: Uint8Array; readonly version: bigint; readonly commitTimeUs: bigint }
  | Untold;

/**
 * Only the source can show the row. If the chunk's snapshot sees the key's last change, the chunk has the row as of that
 * change. So even a row that changes all the time is resolved in the end.
 */
interface Untold {
  readonly kind: "untold";
  readonly xid: number;
  readonly version: bigint;
  readonly commitTimeUs: bigint;
}

const SUPERSEDED: Touched = { kind: "superseded" };

/** Rows for sinks that get the stream too. */
export class ApplyWindow extends Window<Touched> {
  protected noteChange(block: Block, row: number, _: TableVersion, oldKey: string | null, newKey: string | null): void {
    if (newKey !== null && isUntold(block.op[row]!)) {
      if (oldKey !== null) this.note(oldKey, SUPERSEDED);
      this.note(newKey, untold(block, row));
      return;
    }
    // Under a key that a row has just taken, the chunk may show the row that had the key before. A full old row completes
    // the new one.
    const stays = oldKey === null || (oldKey === newKey && block.beforeKind[row] !== BEFORE_FULL);
    if (newKey !== null && stays && isUpdate(block.op[row]!)) {
      const later = laterUpdate(block, row, this.touched.get(newKey));
      this.note(newKey, later, later.kind === "partial" ? later.tuple.length : 0);
      return;
    }
    if (oldKey !== null) this.note(oldKey, SUPERSEDED);
    if (newKey !== null) this.note(newKey, SUPERSEDED);
  }

  protected select(filled: Filled): WindowRows {
    const { table, keys } = filled;
    const { block: chunk, sees } = filled.chunk;
    const rows = new ChunkRows(table, chunk);
    const found = new Set<string>();
    const lowTimeUs = timeOf(filled);
    const bytes = chunk?.bytes ?? new Uint8Array();
    for (const offset of chunk?.after.subarray(0, chunk.count) ?? []) {
      const key = keyOf(table, bytes, offset);
      found.add(key);
      const touched = this.touched.get(key);
      if (touched === undefined) rows.copy(bytes, offset, this.lowVersion, lowTimeUs);
      else if (touched.kind === "partial") {
        rows.merge(touched.tuple, bytes, offset, touched.version, touched.commitTimeUs);
      } else if (touched.kind === "untold" && isTold(touched.xid, sees)) {
        rows.copy(bytes, offset, touched.version, touched.commitTimeUs);
      }
    }
    for (const key of keys ?? []) {
      const text = joinedKey(key);
      if (found.has(text)) continue;
      const touched = this.touched.get(text);
      if (touched === undefined) rows.remove(key, this.lowVersion, lowTimeUs);
      else if (touched.kind === "untold" && isTold(touched.xid, sees))
        rows.remove(key, touched.version, touched.commitTimeUs);
    }
    return rows.finish();
  }
}

/** Exactly what a sink must hold at the high watermark. Of a key it notes the transaction of its last change. */
export class CompareWindow extends Window<number> {
  readonly #images = new KeyImages();
  readonly #unsettled: KeyText[] = [];
  #moved: MovedRows | null = null;

  /** Keys of the chunk, or listed ones, whose state at the high watermark is unknown. */
  get unsettled(): readonly KeyText[] {
    return this.#moved?.unsettled ?? this.#unsettled;
  }

  protected noteChange(
    block: Block,
    row: number,
    table: TableVersion,
    oldKey: string | null,
    newKey: string | null,
  ): void {
    const xid = block.transactions.xid[block.tx[row]!]!;
    if (oldKey !== null) this.note(oldKey, xid);
    if (newKey !== null) this.note(newKey, xid);
    this.#images.note(block, row, table, oldKey, newKey);
  }

  protected select(filled: Filled): WindowRows {
    const { table, keys } = filled;
    const { block: chunk } = filled.chunk;
    if (keys === null) {
      const moved = (this.#moved = new MovedRows(this.touched, this.#images, filled));
      return { block: chunk?.retain() ?? null, toldCount: chunk?.count ?? 0, moved };
    }
    const rows = new ChunkRows(table, chunk);
    const found = new Map<string, number>();
    const moved: (readonly [key: KeyText, text: string])[] = [];
    const timeUs = timeOf(filled);
    const bytes = chunk?.bytes ?? new Uint8Array();
    for (const offset of chunk?.after.subarray(0, chunk.count) ?? []) {
      const text = keyOf(table, bytes, offset);
      found.set(text, offset);
      if (hasMoved(this.touched, text, filled)) moved.push([keyText(table, bytes, offset), text]);
      else rows.copy(bytes, offset, this.lowVersion, timeUs);
    }
    for (const key of keys) {
      const text = joinedKey(key);
      if (found.has(text)) continue;
      if (hasMoved(this.touched, text, filled)) moved.push([key, text]);
      else rows.remove(key, this.lowVersion, timeUs);
    }
    const toldCount = rows.count;
    for (const [key, text] of moved) {
      const image = this.#images.of(text);
      if (rows.take(image, bytes, found.get(text), this.lowVersion, timeUs)) continue;
      if (image.kind === "gone") rows.remove(key, this.lowVersion, timeUs);
      else this.#unsettled.push(key);
    }
    return { ...rows.finish(), toldCount };
  }
}

/** Whether the row changed later than the chunk shows. `touched`: by key, the transaction of its last change. */
function hasMoved(touched: ReadonlyMap<string, number>, text: string, { chunk: { sees } }: Filled): boolean {
  const xid = touched.get(text);
  return xid !== undefined && !isTold(xid, sees);
}

/** The stream waits for the process while these are looked at. */
const ROWS_PER_TURN = 256;

/**
 * The rows of a compared range that changed later than the chunk shows. They are found piece by piece, while the range is
 * compared: at the high watermark the stream would wait for a look at each row.
 */
export class MovedRows {
  readonly #touched: ReadonlyMap<string, number>;
  readonly #images: KeyImages;
  readonly #filled: Filled;
  readonly #met = new Map<string, { readonly key: KeyText; readonly offset: number }>();
  #unsettled: readonly KeyText[] = [];

  constructor(touched: ReadonlyMap<string, number>, images: KeyImages, filled: Filled) {
    this.#touched = touched;
    this.#images = images;
    this.#filled = filled;
  }

  /** Keys whose state at the high watermark is unknown; after `byLog`. */
  get unsettled(): readonly KeyText[] {
    return this.#unsettled;
  }

  /** Those of rows `from`..`to` of the chunk. */
  async among({ bytes, after }: Block, from: number, to: number, clock: Clock): Promise<ReadonlySet<number>> {
    const { table } = this.#filled;
    const found = new Set<number>();
    for (let row = from; row < to; row++) {
      if (row > from && (row - from) % ROWS_PER_TURN === 0) await nextTurn(clock);
      const offset = after[row]!;
      const key = keyText(table, bytes, offset);
      const text = joinedKey(key);
      if (!hasMoved(this.#touched, text, this.#filled)) continue;
      this.#met.set(text, { key, offset });
      found.add(row);
    }
    return found;
  }

  /** As the log left them, after all rows of the chunk were asked for. The caller releases the block; null: there are none. */
  byLog({ bytes, transactions }: Block): Block | null {
    const rows = new ChunkRows(this.#filled.table, null);
    const unsettled: KeyText[] = [];
    const [version, timeUs] = [transactions.version[0]!, transactions.commitTimeUs[0]!];
    // In a range, a row that is gone is no row: its key shows whether the sink still has it.
    for (const [text, { key, offset }] of this.#met)
      if (!rows.take(this.#images.of(text), bytes, offset, version, timeUs)) unsettled.push(key);
    this.#unsettled = unsettled;
    return rows.finish().block;
  }
}

interface Filled {
  readonly chunk: Chunk;
  readonly table: TableVersion;
  readonly keys: readonly KeyText[] | null;
  /** When it was read. */
  readonly nowMs: number;
}

/** The first `toldCount` rows are as the source showed them, the others as the log left them. */
export interface WindowRows {
  readonly block: Block | null;
  readonly toldCount: number;
  /** Finds rows of the block that changed later than the source showed: they are compared as the log left them. Default: none changed. */
  readonly moved?: MovedRows;
}

function timeOf({ chunk, nowMs }: Filled): bigint {
  return chunk.block === null ? BigInt(Math.floor(nowMs)) * 1000n : chunk.block.transactions.commitTimeUs[0]!;
}

function hasKeys(table: TableVersion, { bytes, before, after }: Block, row: number): boolean {
  if (table.unenforcedKey !== true) return isKeyed(table);
  const tuples = [before[row]!, after[row]!].filter((offset) => offset !== NO_TUPLE);
  return tuples.every((offset) => hasWholeKey(table, bytes, offset));
}

function untold(block: Block, row: number): Untold {
  const tx = block.tx[row]!;
  const { xid, version, commitTimeUs } = block.transactions;
  return { kind: "untold", xid: xid[tx]!, version: version[tx]!, commitTimeUs: commitTimeUs[tx]! };
}

/** A transaction that changes a row has seen the row's earlier changes: seeing the last one is seeing all. */
function isTold(xid: number, sees: (xid: number) => boolean): boolean {
  return xid !== 0 && sees(xid);
}

function laterUpdate(block: Block, row: number, earlier: Touched | undefined): Touched {
  const { bytes } = block;
  const after = block.after[row]!;
  if (!hasUnchanged(bytes, after)) return SUPERSEDED;
  if (earlier?.kind === "superseded") return SUPERSEDED;
  if (earlier?.kind === "untold") return untold(block, row);
  const out = new ByteWriter(256);
  if (earlier === undefined) out.copy(bytes, after, tupleEnd(bytes, after) - after);
  else if (!mergeTuples(out, bytes, after, earlier.tuple, 0)) return SUPERSEDED;
  const tx = block.tx[row]!;
  const { version, commitTimeUs } = block.transactions;
  return { kind: "partial", tuple: out.view(), version: version[tx]!, commitTimeUs: commitTimeUs[tx]! };
}

/** Small, because chunks of small tables have few rows, and there may be thousands of tables. */
const BYTES_MIN = 1024;
const ROWS_MIN = 16;

/** Rows of a chunk that are left to apply, in their own block. */
class ChunkRows {
  readonly #table: TableVersion;
  readonly #out: ByteWriter;
  readonly #tuples: TupleWriter;
  readonly #block: Block;
  readonly #txOf = new Map<bigint, number>();

  /** `chunk`: what was read. */
  constructor(table: TableVersion, chunk: Block | null) {
    this.#table = table;
    this.#out = new ByteWriter(Math.max(BYTES_MIN, chunk?.byteCount ?? 0));
    this.#tuples = new TupleWriter(this.#out);
    this.#block = new Block(this.#out.bytes, Math.max(ROWS_MIN, chunk?.count ?? 0));
    this.#block.tables.push(table);
  }

  copy(bytes: Uint8Array, offset: number, version: bigint, timeUs: bigint): void {
    const at = this.#out.length;
    this.#out.copy(bytes, offset, tupleEnd(bytes, offset) - offset);
    this.#block.append(OP_READ, 0, at, NO_TUPLE, BEFORE_NONE, this.#tx(version, timeUs), 0);
  }

  merge(tuple: Uint8Array, bytes: Uint8Array, offset: number, version: bigint, timeUs: bigint): void {
    const at = this.#out.length;
    mergeTuples(this.#out, tuple, 0, bytes, offset);
    this.#block.append(OP_READ, 0, at, NO_TUPLE, BEFORE_NONE, this.#tx(version, timeUs), 0);
  }

  remove(key: KeyText, version: bigint, timeUs: bigint): void {
    const { columns, key: keyOrdinals } = this.#table;
    const at = this.#tuples.begin(columns.length);
    for (let ordinal = 0; ordinal < columns.length; ordinal++) {
      const part = keyOrdinals.indexOf(ordinal);
      if (part < 0) {
        this.#tuples.null();
      } else {
        const text = Buffer.from(key[part]!, "utf8");
        this.#tuples.text(text, 0, text.length);
      }
    }
    this.#block.append(OP_DELETE, 0, NO_TUPLE, at, BEFORE_KEY, this.#tx(version, timeUs), 0);
  }

  /** False: what the log left does not tell the row. `offset`: where the chunk has it. */
  take(image: KeyImage, bytes: Uint8Array, offset: number | undefined, version: bigint, timeUs: bigint): boolean {
    if (image.kind === "row") this.copy(image.tuple, 0, version, timeUs);
    else if (image.kind === "partial" && offset !== undefined) this.merge(image.tuple, bytes, offset, version, timeUs);
    else return false;
    return true;
  }

  get count(): number {
    return this.#block.count;
  }

  finish(): WindowRows {
    this.#block.bytes = this.#out.bytes;
    this.#block.byteCount = this.#out.length;
    const { count } = this.#block;
    return { block: count === 0 ? null : this.#block, toldCount: count };
  }

  #tx(version: bigint, timeUs: bigint): number {
    let tx = this.#txOf.get(version);
    if (tx === undefined) this.#txOf.set(version, (tx = this.#block.transactions.add(0n, version, timeUs, 0)));
    return tx;
  }
}

function keyOf(table: TableVersion, bytes: Uint8Array, offset: number): string {
  return joinedKey(keyText(table, bytes, offset));
}

/** What the log leaves under a key. `partial`: cells that no change touched are as they were before the first change. */
type KeyImage =
  | { readonly kind: "row" | "partial"; readonly tuple: Uint8Array }
  /** `untold`: the log does not show it. */
  | { readonly kind: "gone" | "untold" };

/** The limit for all keys of one window together; further keys are untold. */
const BYTES_MAX = 4 * 1024 * 1024;

const GONE: KeyImage = { kind: "gone" };
const UNTOLD: KeyImage = { kind: "untold" };

/** What the changes between two watermarks make of each key, as far as the log shows it. */
class KeyImages {
  readonly #images = new Map<string, KeyImage>();
  #byteCount = 0;

  of(key: string): KeyImage {
    return this.#images.get(key) ?? UNTOLD;
  }

  /** `oldKey`, `newKey`: the keys of the row before and after the change; null if there is no such row. */
  note(block: Block, row: number, table: TableVersion, oldKey: string | null, newKey: string | null): void {
    // Two rows may have this key for a moment, and the log does not show which of them stays.
    const isOrdered = !table.deferrableKey && table.unenforcedKey !== true;
    // The row has just taken this key, so its unchanged cells come from its former key.
    const isOwn = oldKey === null || oldKey === newKey;
    const earlier = isOwn && newKey !== null ? this.#images.get(newKey) : UNTOLD;
    if (oldKey !== null) this.#images.set(oldKey, isOrdered ? GONE : UNTOLD);
    if (newKey !== null) this.#images.set(newKey, isOrdered ? this.#after(block, row, earlier) : UNTOLD);
  }

  #after(block: Block, row: number, earlier: KeyImage | undefined): KeyImage {
    const { bytes } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    if (isUntold(block.op[row]!) || this.#byteCount > BYTES_MAX) return UNTOLD;
    const out = new ByteWriter(256);
    let isPartial = hasUnchanged(bytes, after);
    if (!isPartial) out.copy(bytes, after, tupleEnd(bytes, after) - after);
    else if (before !== NO_TUPLE && block.beforeKind[row] === BEFORE_FULL)
      isPartial = mergeTuples(out, bytes, after, bytes, before);
    else if (earlier === undefined) out.copy(bytes, after, tupleEnd(bytes, after) - after);
    else if ("tuple" in earlier) isPartial = mergeTuples(out, bytes, after, earlier.tuple, 0);
    else return UNTOLD;
    const tuple = out.view();
    this.#byteCount += out.bytes.length;
    return { kind: isPartial ? "partial" : "row", tuple };
  }
}
