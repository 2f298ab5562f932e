/**
 * Renders rows of the source as the lines that COPY would print, and compares them with the target's lines as bytes,
 * without creating texts. Layout: chapter "COPY", section "Text Format", of the Postgres manual.
 */
import { NO_TUPLE } from "../../../src/core/model/block.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { EqualRows, RowsInOrder } from "../../../src/core/contracts/comparing.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { CELL_BINARY, CELL_TEXT, CellMap } from "../../../src/core/model/tuple.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { writeText } from "../../../src/core/values/text.ts";

const TAB = 0x09;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const LETTER_N = 0x4e;
/** The character after the backslash for a control character; 0: the character itself is printed. */
const ESCAPES = Uint8Array.from({ length: SPACE }, (_, code) => {
  const at = [0x08, TAB, NEWLINE, 0x0b, 0x0c, 0x0d].indexOf(code);
  return at < 0 ? 0 : "btnvfr".charCodeAt(at);
});

export class CopyLines {
  readonly #lines = new ByteWriter(1024 * 1024);
  readonly #cells = new CellMap();
  readonly #scratch = new ByteWriter(256);
  #starts = new Uint32Array(0);
  #count = 0;
  #keyLength = 0;
  #isEqual = new Uint8Array(0);
  #byteCount = 0;
  #next = 0;
  /** Rows by the bytes of their keys; built when the two sides first get out of step. */
  #byKey: Map<string, number> | null = null;

  /** Starts with these rows; `order`: the columns in the target's order, the key's first. */
  expect(table: TableVersion, { block, rows }: RowsInOrder, order: readonly number[]): void {
    this.#count = rows.length;
    this.#keyLength = table.key.length;
    this.#isEqual = new Uint8Array(rows.length);
    this.#byteCount = 0;
    this.#next = 0;
    this.#byKey = null;
    if (this.#starts.length <= rows.length) this.#starts = new Uint32Array(rows.length + 1);
    this.#lines.reset();
    for (let i = 0; i < rows.length; i++) {
      this.#starts[i] = this.#lines.length;
      const tuple = block.after[rows[i]!]!;
      invariant(tuple !== NO_TUPLE, "only existing rows are compared in order");
      this.#cells.read(block.bytes, tuple);
      for (let k = 0; k < order.length; k++) {
        this.#writeCell(table, block.bytes, order[k]!);
        this.#lines.byte(k === order.length - 1 ? NEWLINE : TAB);
      }
    }
    this.#starts[rows.length] = this.#lines.length;
  }

  /** Compares a line of the target. Lines mostly come in the source's order. */
  meet(line: Buffer): void {
    this.#byteCount += line.length;
    if (this.#next < this.#count && this.#isLine(this.#next, line)) {
      this.#isEqual[this.#next++] = 1;
      return;
    }
    const row = this.#rowOf(line);
    if (row === undefined) return;
    if (this.#isLine(row, line)) this.#isEqual[row] = 1;
    this.#next = row + 1;
  }

  get equal(): EqualRows {
    return { isEqual: this.#isEqual, byteCount: this.#byteCount };
  }

  #isLine(row: number, line: Buffer): boolean {
    const start = this.#starts[row]!;
    const end = this.#starts[row + 1]!;
    return line.length === end - start && line.compare(this.#lines.bytes, start, end) === 0;
  }

  #rowOf(line: Buffer): number | undefined {
    if (this.#byKey === null) {
      this.#byKey = new Map();
      for (let row = 0; row < this.#count; row++)
        this.#byKey.set(this.#keyIn(this.#lines.bytes, this.#starts[row]!, this.#starts[row + 1]!), row);
    }
    return this.#byKey.get(this.#keyIn(line, 0, line.length));
  }

  /** Values contain no tab, so the key ends at the tab, or the line end, after its last column. */
  #keyIn(bytes: Buffer, start: number, end: number): string {
    let at = start;
    for (let left = this.#keyLength; at < end; at++) {
      if ((bytes[at] === TAB || bytes[at] === NEWLINE) && --left === 0) break;
    }
    return bytes.toString("latin1", start, at);
  }

  #writeCell(table: TableVersion, bytes: Uint8Array, ordinal: number): void {
    const kind = this.#cells.kind[ordinal]!;
    const start = this.#cells.start[ordinal]!;
    const length = this.#cells.length[ordinal]!;
    if (kind === CELL_TEXT) this.#writeEscaped(bytes, start, length);
    else if (kind === CELL_BINARY) {
      this.#scratch.reset();
      writeText(this.#scratch, table.columns[ordinal]!.type, kind, bytes, start, length);
      this.#writeEscaped(this.#scratch.bytes, 0, this.#scratch.length);
    } else {
      this.#lines.byte(BACKSLASH);
      this.#lines.byte(LETTER_N);
    }
  }

  #writeEscaped(from: Uint8Array, start: number, length: number): void {
    const out = this.#lines;
    out.reserve(length * 2);
    const to = out.bytes;
    let write = out.length;
    for (let read = start, end = start + length; read < end; read++) {
      const byte = from[read]!;
      const escape = byte === BACKSLASH ? BACKSLASH : byte < SPACE ? ESCAPES[byte]! : 0;
      if (escape === 0) to[write++] = byte;
      else {
        to[write++] = BACKSLASH;
        to[write++] = escape;
      }
    }
    out.length = write;
  }
}
