import { isUtf8 } from "node:buffer";
import { DELETE, isIfHeld, PATCH, type TableWrites } from "../../../src/core/model/batch.ts";
import { type Block, NO_TUPLE } from "../../../src/core/model/block.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { changeOffset, changeOp } from "../../../src/core/targets/history.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { CELL_BINARY, CELL_NULL, CELL_TEXT, CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { writeJsonString } from "../../../src/core/values/json-string.ts";
import { writeText } from "../../../src/core/values/text.ts";
import { CellWriter } from "./cells.ts";
import type { TableLayout, LayoutColumn } from "./layout.ts";
import type { StageFile } from "./stage-file.ts";

/** Rows are passed on in pieces of this size, so that other work of the process gets its turn in between. */
const PIECE_BYTES = 512 * 1024;
const KEPT_BYTES_MAX = 4 * 1024 * 1024;
const COMMA = 0x2c;
const LINE_FEED = 0x0a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const NULL_WORD = Buffer.from("null");

/**
 * The way in which entries are written. An insert is a put whose key should be new, which costs DuckDB two thirds. An
 * update is a patch of the row under the same key, which should exist; it reads nothing. A history has only appends, of
 * all kinds. `touch` takes the keys of all entries, whatever happens to them (touched-keys.ts).
 */
export type Pass = "insert" | "put" | "update" | "patch" | "delete" | "append" | "touch";

/** The entries of one table with the same pass, and how many are staged. */
export interface Staging {
  readonly layout: TableLayout;
  readonly writes: TableWrites;
  readonly pass: Pass;
  readonly entries: readonly number[];
  next: number;
  /** Entries that are left out, because a value in their key does not fit the target's type. */
  readonly unfit: number[];
  /** Whether a staged row has cells that only `_millrace_exact` can hold. */
  needsExact: boolean;
}

export function staging(layout: TableLayout, writes: TableWrites, pass: Pass, entries: readonly number[]): Staging {
  return { layout, writes, pass, entries, next: 0, unfit: [], needsExact: false };
}

/** Renders entries as CSV rows. One per sink; its buffers are reused. */
export class RowStage {
  readonly #out = new ByteWriter(PIECE_BYTES + 64 * 1024);
  readonly #cells = new CellWriter(this.#out, () => this.#spill());
  readonly #exact = new ByteWriter(1024);
  readonly #text = new ByteWriter(1024);
  readonly #map = new CellMap();
  readonly #baseKey = new CellMap();
  #file: StageFile | null = null;
  #tailOf: Block | null = null;
  #tailTx = -1;
  #tail = "";
  #version = "";
  /** Version and commit time of a soft delete. */
  #softTail = "";

  /** Fills the file with the next rows, up to `byteCountMax`. */
  async fill(file: StageFile, work: Staging, byteCountMax: number): Promise<void> {
    file.begin();
    await this.append(file, work, byteCountMax);
  }

  /** The same, after the present content of the file. */
  async append(file: StageFile, work: Staging, byteCountMax: number): Promise<void> {
    this.#file = file;
    this.#cells.traits.hasLineBreak = file.hasLineBreak;
    this.#tailOf = null;
    do {
      this.#out.reset();
      while (work.next < work.entries.length && this.#out.length < PIECE_BYTES) {
        this.#row(file, work, work.entries[work.next++]!);
      }
      await file.append(this.#out.view());
    } while (work.next < work.entries.length && file.byteCount < byteCountMax);
    file.hasLineBreak = this.#cells.traits.hasLineBreak;
    this.#giveBack();
  }

  /** The line of one small row; null if its key does not fit, or the row is not text. */
  line(work: Staging, entry: number): string | null {
    const { writes, pass } = work;
    const block = writes.blocks[writes.block[entry]!]!;
    const row = writes.row[entry]!;
    this.#tailOf = null;
    this.#out.reset();
    this.#useTransaction(block, block.tx[row]!);
    const fits = pass === "delete" ? this.#keyRow(work, block, row, entry) : this.#fullRow(work, block, row, entry);
    const line = this.#out.view();
    return fits && isUtf8(line) ? line.toString() : null;
  }

  #spill(): void {
    this.#file?.appendSync(this.#out.view());
    this.#out.reset();
  }

  #row(file: StageFile, work: Staging, entry: number): void {
    const { writes } = work;
    const block = writes.blocks[writes.block[entry]!]!;
    const row = writes.row[entry]!;
    const staged = file.byteCount;
    const before = this.#out.length;
    this.#useTransaction(block, block.tx[row]!);
    const fits =
      work.pass === "delete" || work.pass === "touch"
        ? this.#keyRow(work, block, row, entry)
        : work.pass === "append"
          ? this.#changeRow(work, block, row, entry)
          : this.#fullRow(work, block, row, entry);
    if (fits) {
      this.#out.byte(LINE_FEED);
      file.rowBytesMax = Math.max(file.rowBytesMax, file.byteCount - staged + this.#out.length - before);
      return;
    }
    // If a part of the row was spilled, so were the rows before it.
    if (file.byteCount > staged) this.#out.reset();
    else this.#out.length = before;
    file.cutTo(file.byteCount > staged ? staged + before : staged);
    // A row that could not be written can't exist, so its delete has nothing to do.
    if (writes.action[entry] !== DELETE) work.unfit.push(entry);
  }

  #keyRow({ layout, pass, writes }: Staging, block: Block, row: number, entry: number): boolean {
    const offset = writes.action[entry] === DELETE ? block.before[row]! : block.after[row]!;
    invariant(offset !== NO_TUPLE, "a change has the tuple of its action");
    this.#map.read(block.bytes, offset);
    if (!this.#keyFields(layout, this.#map, block.bytes)) return false;
    this.#out.ascii(pass === "delete" && layout.form.deletes === "soft" ? this.#softTail : this.#version);
    return true;
  }

  /**
   * A put: cells, version, commit time, exact. A patch: entry, moved and mask before them, the base's key after the
   * cells.
   */
  #fullRow(work: Staging, block: Block, row: number, entry: number): boolean {
    const { layout, writes, pass } = work;
    const map = this.#map;
    const isPatch = pass === "patch" || pass === "update";
    const offset = block.after[row]!;
    invariant(offset !== NO_TUPLE, "a row that is written has a new tuple");
    map.read(block.bytes, offset);
    const moved = writes.moved[entry] === 1;
    if (pass === "patch") this.#patchHead(layout, entry, moved);
    this.#exact.reset();
    if (!this.#cellFields(work, block.bytes, isPatch)) return false;
    if (pass === "patch" && !this.#baseFields(layout, block, row, moved)) return false;
    this.#rowTail();
    return true;
  }

  #rowTail(): void {
    this.#out.ascii(this.#tail);
    if (this.#exact.length === 0) return;
    this.#exact.byte(CLOSE_BRACE);
    this.#cells.quoted(this.#exact.bytes, 0, this.#exact.length);
  }

  /**
   * A change in the form of an append: entry, op, offset, whether it is one only on its base, and mask, cells, the base's key if
   * known, and the tail.
   */
  #changeRow(work: Staging, block: Block, row: number, entry: number): boolean {
    const { layout, writes } = work;
    const out = this.#out;
    const map = this.#map;
    const action = writes.action[entry]!;
    const offset = action === DELETE ? block.before[row]! : block.after[row]!;
    invariant(offset !== NO_TUPLE, "a change has the tuple of its action");
    map.read(block.bytes, offset);
    const isPatch = action === PATCH;
    const held = isIfHeld(writes, entry) ? "t" : "f";
    out.ascii(`${entry},${changeOp(writes, entry)},${changeOffset(block, row)},${held},`);
    if (isPatch) this.#mask(layout);
    out.byte(COMMA);
    this.#exact.reset();
    if (!this.#cellFields(work, block.bytes, isPatch)) return false;
    if (isPatch && writes.fresh[entry] !== 1) {
      if (!this.#baseFields(layout, block, row, writes.moved[entry] === 1)) return false;
    } else {
      for (let k = 0; k < layout.key.length; k++) out.byte(COMMA);
    }
    this.#rowTail();
    return true;
  }

  #mask(layout: TableLayout): void {
    const { kind } = this.#map;
    for (let i = 0; i < layout.columns.length; i++) {
      this.#out.byte(kind[i] === CELL_UNCHANGED ? CELL_UNCHANGED : CELL_TEXT);
    }
  }

  #patchHead(layout: TableLayout, entry: number, moved: boolean): void {
    this.#out.ascii(`${entry},${moved ? "t" : "f"},`);
    this.#mask(layout);
    this.#out.byte(COMMA);
  }

  #baseFields(layout: TableLayout, block: Block, row: number, moved: boolean): boolean {
    if (!moved) return this.#keyFields(layout, this.#map, block.bytes);
    const offset = block.before[row]!;
    invariant(offset !== NO_TUPLE, "a row with another key has an old tuple");
    this.#baseKey.read(block.bytes, offset);
    return this.#keyFields(layout, this.#baseKey, block.bytes);
  }

  /** Writes each field followed by a comma. False if a value of the key does not fit. */
  #cellFields(work: Staging, bytes: Uint8Array, isPatch: boolean): boolean {
    const { columns } = work.layout;
    const { kind, start, length } = this.#map;
    const out = this.#out;
    for (let i = 0; i < columns.length; i++) {
      const column = columns[i]!;
      const cell = kind[i]!;
      if (cell === CELL_TEXT || cell === CELL_BINARY) {
        const fits = this.#cells.write(column.source.type, column.duck, cell, bytes, start[i]!, length[i]!);
        if (!fits) {
          if (column.isKey) return false;
          this.#keepExact(column, cell, bytes, start[i]!, length[i]!);
          work.needsExact = true;
        } else if (isPatch && column.mayNotFit) this.#forgetExact(column);
      } else if (cell === CELL_UNCHANGED) {
        invariant(isPatch && !column.isKey, "only a patch has unchanged cells, and none in its key");
      } else {
        invariant(cell === CELL_NULL, "a cell is null, unchanged, text or binary");
        if (isPatch && column.mayNotFit) this.#forgetExact(column);
      }
      out.byte(COMMA);
    }
    return true;
  }

  #keyFields(layout: TableLayout, map: CellMap, bytes: Uint8Array): boolean {
    for (let k = 0; k < layout.key.length; k++) {
      const column = layout.key[k]!;
      const i = layout.table.key[k]!;
      const cell = map.kind[i]!;
      invariant(cell === CELL_TEXT || cell === CELL_BINARY, "a key has values");
      if (!this.#cells.write(column.source.type, column.duck, cell, bytes, map.start[i]!, map.length[i]!)) return false;
      this.#out.byte(COMMA);
    }
    return true;
  }

  #keepExact(column: LayoutColumn, kind: number, bytes: Uint8Array, start: number, length: number): void {
    this.#exactField(column);
    this.#text.reset();
    writeText(this.#text, column.source.type, kind, bytes, start, length);
    writeJsonString(this.#exact, this.#text.bytes, 0, this.#text.length);
  }

  /** In a patch, null removes the base row's field (RFC 7396). */
  #forgetExact(column: LayoutColumn): void {
    this.#exactField(column);
    this.#exact.copy(NULL_WORD, 0, NULL_WORD.length);
  }

  #exactField({ exactField }: LayoutColumn): void {
    this.#exact.byte(this.#exact.length === 0 ? OPEN_BRACE : COMMA);
    this.#exact.copy(exactField, 0, exactField.length);
  }

  /** Releases buffers that one huge value has enlarged. */
  #giveBack(): void {
    for (const buffer of [this.#out, this.#exact, this.#text]) {
      buffer.reset();
      if (buffer.bytes.length > KEPT_BYTES_MAX) buffer.bytes = Buffer.allocUnsafeSlow(PIECE_BYTES);
    }
    this.#cells.giveBack();
  }

  #useTransaction(block: Block, tx: number): void {
    if (block === this.#tailOf && tx === this.#tailTx) return;
    this.#tailOf = block;
    this.#tailTx = tx;
    this.#version = String(block.transactions.version[tx]!);
    this.#softTail = `${this.#version},${block.transactions.commitTimeUs[tx]!}`;
    this.#tail = `${this.#softTail},`;
  }
}

/** Groups entries by the columns that they leave unchanged, as a mask of `layout.columns`. */
export function byUnchanged(
  layout: TableLayout,
  writes: TableWrites,
  entries: readonly number[],
): Map<string, number[]> {
  const map = new CellMap();
  return Map.groupBy(entries, (entry) => {
    const block = writes.blocks[writes.block[entry]!]!;
    map.read(block.bytes, block.after[writes.row[entry]!]!);
    let mask = "";
    for (let i = 0; i < layout.columns.length; i++) mask += map.kind[i] === CELL_UNCHANGED ? "u" : "t";
    return mask;
  });
}

/**
 * Groups entries by pass; those in `without` are left out. `inPlace`: whether an existing row can't be a deleted one.
 */
export function partition(
  writes: TableWrites,
  without: ReadonlySet<number>,
  trust: boolean,
  inPlace: boolean,
): Record<Exclude<Pass, "append" | "touch">, number[]> {
  const result: Record<Exclude<Pass, "append" | "touch">, number[]> = {
    insert: [],
    put: [],
    update: [],
    patch: [],
    delete: [],
  };
  for (let i = 0; i < writes.count; i++) {
    if (without.has(i)) continue;
    const action = writes.action[i]!;
    if (action === DELETE) result.delete.push(i);
    else if (action === PATCH) (trust && inPlace && writes.moved[i] === 0 ? result.update : result.patch).push(i);
    else if (trust && writes.fresh[i] === 1) result.insert.push(i);
    else result.put.push(i);
  }
  return result;
}
