/** Renders the rows of one table in RowBinary. Rate to hold: 500k rows/s of 12 columns, so that ClickHouse is the limit. */
import { ByteWriter } from "../../../src/core/bytes.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { type Block, NO_TUPLE } from "../../../src/core/model/block.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { writeJsonString, writeJsonText } from "../../../src/core/values/json-string.ts";
import { writeText } from "../../../src/core/values/text.ts";
import type { LayoutColumn, TableLayout } from "../tables/layout.ts";
import type { ClickhouseType } from "../types.ts";
import { CellWriter, isValue, writeLength } from "./cells.ts";
import { writeBigInteger } from "./numbers.ts";
import type { StoredRow } from "./stored-rows.ts";

const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const NOT_NULL = 0;
const NULL = 1;
/** The length of what can't be nullable. */
const EMPTY = 0;
const VERSION_BYTES = 8;
const TIME_BYTES = 8;

export class RowWriter {
  readonly out = new ByteWriter();
  readonly #cells = new CellWriter(this.out);
  readonly #map = new CellMap();
  readonly #exact = new ByteWriter(1024);
  readonly #text = new ByteWriter(1024);
  readonly #stamp = new ByteWriter(VERSION_BYTES + TIME_BYTES);
  #stampOf: Block | null = null;
  #stampTx = -1;

  /**
   * The cells of the tuple at `offset`; those that it leaves unchanged are taken from `base`, or null if they are
   * unknown. False if a value of the key does not fit: then nothing is written.
   */
  cells(layout: TableLayout, bytes: Uint8Array, offset: number, base: StoredRow | null, isUnknown = false): boolean {
    invariant(offset !== NO_TUPLE, "a row that is written has a new tuple");
    const { columns } = layout;
    const { out } = this;
    const before = out.length;
    this.#map.read(bytes, offset);
    this.#exact.reset();
    for (let i = 0; i < columns.length; i++) {
      const column = columns[i]!;
      const cell = this.#map.kind[i]!;
      if (isValue(cell)) {
        if (!this.#value(column, cell, bytes, this.#map.start[i]!, this.#map.length[i]!)) {
          out.length = before;
          return false;
        }
      } else if (cell === CELL_NULL) {
        invariant(!column.isKey, "a key has values");
        out.byte(nullOf(column.type));
      } else if (isUnknown) {
        out.byte(nullOf(column.type));
      } else {
        invariant(cell === CELL_UNCHANGED && base !== null, "unchanged cells come from a stored row");
        this.#stored(column, base, i);
      }
    }
    return true;
  }

  storedCells(layout: TableLayout, base: StoredRow): void {
    this.#exact.reset();
    for (const [i, column] of layout.columns.entries()) this.#stored(column, base, i);
  }

  /** The cells of the key from the tuple at `offset`, and nulls. False as with `cells`. */
  keyCells(layout: TableLayout, bytes: Uint8Array, offset: number): boolean {
    invariant(offset !== NO_TUPLE, "a delete has an old tuple");
    const { out } = this;
    const before = out.length;
    this.#map.read(bytes, offset);
    this.#exact.reset();
    for (const [i, column] of layout.columns.entries()) {
      if (!column.isKey) out.byte(nullOf(column.type));
      else if (!this.#value(column, this.#map.kind[i]!, bytes, this.#map.start[i]!, this.#map.length[i]!)) {
        out.length = before;
        return false;
      }
    }
    return true;
  }

  /** The key's values, in the order of the key, as they are stored; null: one of them does not fit. */
  keyOf(layout: TableLayout, bytes: Uint8Array, offset: number): string | null {
    const { out } = this;
    const before = out.length;
    this.#map.read(bytes, offset);
    try {
      for (const [k, column] of layout.key.entries()) {
        const i = layout.table.key[k]!;
        if (!this.#value(column, this.#map.kind[i]!, bytes, this.#map.start[i]!, this.#map.length[i]!)) return null;
      }
      return out.bytes.toString("latin1", before, out.length);
    } finally {
      out.length = before;
    }
  }

  /** The row's version and commit time. */
  stamp(block: Block, row: number): void {
    const tx = block.tx[row]!;
    if (block !== this.#stampOf || tx !== this.#stampTx) {
      this.#stampOf = block;
      this.#stampTx = tx;
      this.#stamp.reset();
      writeBigInteger(this.#stamp, block.transactions.version[tx]!, VERSION_BYTES);
      writeBigInteger(this.#stamp, block.transactions.commitTimeUs[tx]!, TIME_BYTES);
    }
    this.out.copy(this.#stamp.bytes, 0, this.#stamp.length);
  }

  /** The texts of the row's values that do not fit. */
  exact(): void {
    if (this.#exact.length > 0) this.#exact.byte(CLOSE_BRACE);
    this.#cells.string(this.#exact.bytes, 0, this.#exact.length);
  }

  string(text: string): void {
    const bytes = Buffer.from(text);
    writeLength(this.out, bytes.length);
    this.out.copy(bytes, 0, bytes.length);
  }

  /** The rows written so far; the writer goes on with an empty buffer. */
  take(): Buffer {
    const taken = Buffer.from(this.out.view());
    this.out.reset();
    return taken;
  }

  /** Releases buffers that one huge value has enlarged. The next batch may bring other blocks. */
  giveBack(): void {
    this.#stampOf = null;
    this.#cells.giveBack();
    for (const buffer of [this.out, this.#exact, this.#text]) {
      buffer.reset();
      if (buffer.bytes.length > KEPT_BYTES_MAX) buffer.bytes = Buffer.allocUnsafeSlow(64 * 1024);
    }
  }

  #value(column: LayoutColumn, kind: number, bytes: Uint8Array, start: number, length: number): boolean {
    const { source, type, isKey } = column;
    const { out } = this;
    if (type.isNullable) out.byte(NOT_NULL);
    const at = out.length;
    if (this.#cells.write(type.form, source.type, kind, bytes, start, length)) {
      if (isKey && type.form.kind === "float") withoutSignOfZero(out.bytes, at, out.length);
      return true;
    }
    if (isKey) return false;
    out.bytes[out.length - 1] = NULL;
    this.#text.reset();
    writeText(this.#text, source.type, kind, bytes, start, length);
    this.#exactField(column);
    writeJsonString(this.#exact, this.#text.bytes, 0, this.#text.length);
    return true;
  }

  #stored(column: LayoutColumn, base: StoredRow, i: number): void {
    this.out.copy(base.bytes, base.start[i]!, base.start[i + 1]! - base.start[i]!);
    const text = column.type.mayNotFit ? base.exact?.get(column.name) : undefined;
    if (text === undefined) return;
    this.#exactField(column);
    writeJsonText(this.#exact, text);
  }

  #exactField({ name }: LayoutColumn): void {
    this.#exact.byte(this.#exact.length === 0 ? OPEN_BRACE : COMMA);
    writeJsonText(this.#exact, name);
    this.#exact.byte(COLON);
  }
}

function nullOf({ isNullable }: ClickhouseType): number {
  return isNullable ? NULL : EMPTY;
}

/**
 * The zeros of both signs are one key at the source. ClickHouse takes them for one where it sorts and merges, and for two where
 * it groups and looks keys up. Little endian: the sign is in the last byte.
 */
function withoutSignOfZero(bytes: Uint8Array, start: number, end: number): void {
  if (bytes[end - 1] !== 0x80) return;
  for (let i = start; i < end - 1; i++) if (bytes[i] !== 0) return;
  bytes[end - 1] = 0;
}

const KEPT_BYTES_MAX = 4 * 1024 * 1024;
