import type { ByteWriter } from "../bytes.ts";
import { type CellMap, CELL_BINARY, CELL_FAILED, CELL_NULL, CELL_TEXT, CELL_UNCHANGED } from "./tuple.ts";

/** Writes tuples in the layout of tuple.ts: `begin`, then exactly the announced number of cells. */
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
