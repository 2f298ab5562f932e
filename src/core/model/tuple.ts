import { invariant } from "../invariant.ts";
import type { ByteWriter } from "../bytes.ts";
import type { TableVersion } from "./schema.ts";

/**
 * Rows as bytes. A tuple has the layout of Postgres' TupleData (protocol-logicalrep-message-formats in its manual), so
 * that rows of the WAL are used without copying; all other sources write the same layout:
 *
 *   Int16 cell count, then per cell a kind byte; for text, binary and failed cells an Int32 length and that many bytes.
 *
 * Text cells contain UTF-8 in Postgres' output form with DateStyle ISO, IntervalStyle postgres, bytea_output hex,
 * extra_float_digits 3 and TimeZone UTC. Binary cells contain Postgres' send form (big-endian; times in microseconds
 * since 2000-01-01) and occur only for types with `hasBinaryForm`; an integer of 8 or 24 bits, or an unsigned one, has
 * the form of the next wider type of Postgres.
 */
export const CELL_NULL = 0x6e; // 'n'
/** The log did not carry the value because the change did not touch it (TOAST). Never write it as null. */
export const CELL_UNCHANGED = 0x75; // 'u'
export const CELL_TEXT = 0x74; // 't'
export const CELL_BINARY = 0x62; // 'b'
/**
 * A computed column has no value, because its function failed; the cell's text says how. The row goes to no sink: it is a dead
 * letter (runtime/compaction). Only columns that are `computed` have such cells.
 */
export const CELL_FAILED = 0x66; // 'f'

/** V8 keeps vectors of up to 64 bytes in its own heap, where they cost next to nothing. */
const CELLS_MIN = 16;

/** The positions of the cells of one tuple; reused from row to row. */
export class CellMap {
  kind = new Uint8Array(CELLS_MIN);
  start = new Uint32Array(CELLS_MIN);
  length = new Uint32Array(CELLS_MIN);
  count = 0;

  /**
   * Reads the tuple at `offset` and returns the offset after it. Throws if it does not lie within `bytes`: then a source has
   * sent bytes that are damaged.
   */
  read(bytes: Uint8Array, offset: number): number {
    const count = (bytes[offset]! << 8) | bytes[offset + 1]!;
    if (count > this.kind.length) this.#grow(count);
    this.count = count;
    let at = offset + 2;
    let signs = 0;
    for (let i = 0; i < count; i++) {
      const kind = bytes[at++]!;
      this.kind[i] = kind;
      if (kind === CELL_TEXT || kind === CELL_BINARY || kind === CELL_FAILED) {
        const length = readInt32(bytes, at);
        this.start[i] = at + 4;
        this.length[i] = length;
        signs |= length;
        at += 4 + length;
      } else {
        this.start[i] = at;
        this.length[i] = 0;
      }
    }
    // A place that is none has no cells.
    invariant(signs >= 0 && (at <= bytes.length || count === 0), "a tuple lies within its bytes");
    return at;
  }

  #grow(count: number): void {
    this.kind = new Uint8Array(count);
    this.start = new Uint32Array(count);
    this.length = new Uint32Array(count);
  }
}

/** The offset after the tuple at `offset`; sets no state. */
export function tupleEnd(bytes: Uint8Array, offset: number): number {
  let count = (bytes[offset]! << 8) | bytes[offset + 1]!;
  let at = offset + 2;
  while (count-- > 0) {
    const kind = bytes[at++]!;
    if (kind === CELL_TEXT || kind === CELL_BINARY || kind === CELL_FAILED) at += 4 + readInt32(bytes, at);
  }
  return at;
}

export function hasUnchanged(bytes: Uint8Array, offset: number): boolean {
  let count = (bytes[offset]! << 8) | bytes[offset + 1]!;
  let at = offset + 2;
  while (count-- > 0) {
    const kind = bytes[at++]!;
    if (kind === CELL_UNCHANGED) return true;
    if (kind === CELL_TEXT || kind === CELL_BINARY || kind === CELL_FAILED) at += 4 + readInt32(bytes, at);
  }
  return false;
}

export function readInt32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

/** Writes tuples in the layout above: `begin`, then exactly the announced number of cells. */
export class TupleWriter {
  readonly out: ByteWriter;

  constructor(out: ByteWriter) {
    this.out = out;
  }

  /** Begins a tuple and returns its offset in `out`. */
  begin(cellCount: number): number {
    const { out } = this;
    out.reserve(2);
    const at = out.length;
    out.bytes[at] = cellCount >> 8;
    out.bytes[at + 1] = cellCount;
    out.length = at + 2;
    return at;
  }

  null(): void {
    this.out.byte(CELL_NULL);
  }

  unchanged(): void {
    this.out.byte(CELL_UNCHANGED);
  }

  text(bytes: Uint8Array, start: number, length: number): void {
    this.#value(CELL_TEXT, bytes, start, length);
  }

  binary(bytes: Uint8Array, start: number, length: number): void {
    this.#value(CELL_BINARY, bytes, start, length);
  }

  failed(bytes: Uint8Array, start: number, length: number): void {
    this.#value(CELL_FAILED, bytes, start, length);
  }

  /** Copies cell `i` of the tuple that `cells` maps, whatever its kind. `bytes` must not be the buffer of `out`. */
  copyCell(bytes: Uint8Array, cells: CellMap, i: number): void {
    const kind = cells.kind[i]!;
    if (kind === CELL_TEXT || kind === CELL_BINARY || kind === CELL_FAILED)
      this.#value(kind, bytes, cells.start[i]!, cells.length[i]!);
    else this.out.byte(kind);
  }

  #value(kind: number, bytes: Uint8Array, start: number, length: number): void {
    const { out } = this;
    out.reserve(5 + length);
    const to = out.bytes;
    const at = out.length;
    to[at] = kind;
    to[at + 1] = length >>> 24;
    to[at + 2] = length >>> 16;
    to[at + 3] = length >>> 8;
    to[at + 4] = length;
    out.length = at + 5;
    out.copy(bytes, start, length);
  }
}

/**
 * A cell without a value, and with the reason: the function of a computed column, or of a document, has failed, or the document is
 * too large.
 */
export interface FailedCell {
  /** The column that the function makes; null: it makes the whole row. */
  readonly column: string | null;
  /** Which function failed, how and where, or what else is wrong; without values. */
  readonly how: string;
}

const cells = new CellMap();

/** Whether rows of the table may have such a cell. */
export function isComputed({ columns }: Pick<TableVersion, "columns">): boolean {
  return columns.some(({ computed }) => computed !== undefined);
}

/** The first one of the tuple at `offset`. */
export function failedCell({ columns }: TableVersion, bytes: Uint8Array, offset: number): FailedCell | null {
  cells.read(bytes, offset);
  for (let i = 0; i < cells.count; i++) {
    if (cells.kind[i] !== CELL_FAILED) continue;
    const start = cells.start[i]!;
    const how = Buffer.from(bytes.subarray(start, start + cells.length[i]!)).toString("utf8");
    const { name, computed } = columns[i]!;
    return { column: computed === "row" ? null : name, how };
  }
  return null;
}
