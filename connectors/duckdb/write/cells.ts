/**
 * Writes cells as CSV fields. Rate to hold: 1M rows/s of 12 columns, so that DuckDB is the limit.
 * Fields that may be an empty string are quoted; an empty field without quotes is null. A value that does not fit the
 * column's type is not written: the caller stores its text in `_millrace_exact`.
 */
import { ByteWriter } from "../../../src/core/bytes.ts";
import { CELL_TEXT } from "../../../src/core/model/tuple.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { writeArrayJsonFromText, type WriteValue } from "../../../src/core/values/json.ts";
import { writeHex } from "../../../src/core/values/byte-strings.ts";
import { writeJsonString } from "../../../src/core/values/json-string.ts";
import { writeBinaryText } from "../../../src/core/values/text.ts";
import { writeDoublingQuotes } from "../../kit/duckdb.ts";
import { fits, isMinusZero, keepOutermostBrackets, writeDate, writeTimestamp } from "./forms.ts";
import type { DuckType, Form } from "../types.ts";
import * as forms from "../types.ts";

const QUOTE = 0x22;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const ZERO = 0x30;
const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;

/** Up to this size a copying loop is faster than searching and copying in bulk. */
const SHORT_BYTES_MAX = 48;
const SCRATCH_BYTES = 1024;
const SLICE_BYTES = 256 * 1024;
/** Larger than a piece of ordinary rows (stage.ts). */
const SPILL_BYTES = 1024 * 1024;
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

/** Properties of the last rows that the CSV reader must know. */
interface CsvTraits {
  /** A line break inside a field: such a file is read by one thread. */
  hasLineBreak: boolean;
}

export class CellWriter {
  readonly out: ByteWriter;
  readonly traits: CsvTraits = { hasLineBreak: false };
  readonly #text = new ByteWriter(SCRATCH_BYTES);
  readonly #list = new ByteWriter(SCRATCH_BYTES);
  #elementForm: Form = forms.PLAIN;
  #elementsFit = true;
  readonly #spill: () => void;

  /** `spill` empties `out` when a large value has filled it, so that memory never holds a value twice. */
  constructor(out: ByteWriter, spill: () => void) {
    this.out = out;
    this.#spill = spill;
  }

  /**
   * Writes the cell; false if its value does not fit. Then it has written nothing; or, for a list, all elements, with
   * null for those that don't fit. A negative zero is written as zero, everywhere: beside one, DuckDB may show the
   * other zeros of a column as negative too.
   */
  write(type: ColumnType, duck: DuckType, kind: number, bytes: Uint8Array, start: number, length: number): boolean {
    const { form } = duck;
    if (kind === CELL_TEXT) return this.#writeText(type, duck, bytes, start, length);
    if (form === forms.PLAIN) {
      writeBinaryText(this.out, type, bytes, start, length);
      return true;
    }
    if (form === forms.FLOAT || form === forms.KEY_FLOAT) {
      const { out } = this;
      const at = out.length;
      writeBinaryText(out, type, bytes, start, length);
      if (!isMinusZero(out.bytes, at, out.length - at)) return true;
      out.length = at;
      out.byte(ZERO);
      return form === forms.KEY_FLOAT;
    }
    if (form === forms.HEX) {
      this.out.byte(QUOTE);
      for (let at = 0; at < length; at += SLICE_BYTES) {
        writeHex(this.out, bytes, start + at, Math.min(SLICE_BYTES, length - at));
        this.#spillWhenFull();
      }
      this.out.byte(QUOTE);
      return true;
    }
    const text = this.#text;
    text.reset();
    writeBinaryText(text, type, bytes, start, length);
    return this.#writeText(type, duck, text.bytes, 0, text.length);
  }

  #writeText(type: ColumnType, duck: DuckType, bytes: Uint8Array, start: number, length: number): boolean {
    const { out } = this;
    const { form } = duck;
    if (!fits(form, bytes, start, length)) {
      if (form === forms.FLOAT) out.byte(ZERO);
      return false;
    }
    switch (form) {
      case forms.PLAIN:
      case forms.FLOAT:
      case forms.DECIMAL:
        out.copy(bytes, start, length);
        return true;
      case forms.KEY_FLOAT:
        if (isMinusZero(bytes, start, length)) out.byte(ZERO);
        else out.copy(bytes, start, length);
        return true;
      case forms.DATE:
        writeDate(out, bytes, start, length);
        return true;
      case forms.TIMESTAMP:
      case forms.INSTANT:
        writeTimestamp(out, bytes, start, length);
        return true;
      case forms.TEXT:
      case forms.JSON_TEXT:
        this.quoted(bytes, start, length);
        return true;
      case forms.HEX:
        out.byte(QUOTE);
        for (let at = 2; at < length; at += SLICE_BYTES) {
          out.copy(bytes, start + at, Math.min(SLICE_BYTES, length - at));
          this.#spillWhenFull();
        }
        out.byte(QUOTE);
        return true;
      case forms.LIST:
        return this.#writeList(type, duck, bytes, start, length);
      default:
        return form satisfies never;
    }
  }

  /** Releases buffers that one huge value has enlarged. */
  giveBack(): void {
    for (const buffer of [this.#text, this.#list]) {
      if (buffer.bytes.length > KEPT_BYTES_MAX) buffer.bytes = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
      buffer.reset();
    }
  }

  /** A field in quotes, with doubled quotes inside. */
  quoted(bytes: Uint8Array, start: number, length: number): void {
    const { out } = this;
    out.reserve(2 * Math.min(length, SHORT_BYTES_MAX) + 2);
    if (length > SHORT_BYTES_MAX) return this.#quotedInBulk(bytes, start, length);
    const to = out.bytes;
    let at = out.length;
    to[at++] = QUOTE;
    for (let i = start, end = start + length; i < end; i++) {
      const byte = bytes[i]!;
      if (byte === QUOTE) to[at++] = QUOTE;
      else if (byte === LINE_FEED || byte === CARRIAGE_RETURN) this.traits.hasLineBreak = true;
      to[at++] = byte;
    }
    to[at++] = QUOTE;
    out.length = at;
  }

  #quotedInBulk(bytes: Uint8Array, start: number, length: number): void {
    const { out } = this;
    const view = Buffer.from(bytes.buffer, bytes.byteOffset + start, length);
    if (view.includes(LINE_FEED) || view.includes(CARRIAGE_RETURN)) this.traits.hasLineBreak = true;
    out.byte(QUOTE);
    for (let at = 0; at < length; at += SLICE_BYTES) {
      writeDoublingQuotes(out, view.subarray(at, at + SLICE_BYTES));
      this.#spillWhenFull();
    }
    out.byte(QUOTE);
  }

  #spillWhenFull(): void {
    if (this.out.length >= SPILL_BYTES) this.#spill();
  }

  #writeList(type: ColumnType, duck: DuckType, bytes: Uint8Array, start: number, length: number): boolean {
    const list = this.#list;
    list.reset();
    this.#elementForm = duck.element;
    this.#elementsFit = true;
    if (type.kind === "vector") {
      writeElementsOfVector(list, type, bytes, start, length, this.#writeElement);
      this.quoted(list.bytes, 0, list.length);
      return this.#elementsFit;
    }
    if (type.kind !== "array") throw new TypeError("a list is made of an array or a vector");
    writeArrayJsonFromText(list, type.of, bytes, start, length, this.#writeElement);
    const nested = bytes[start] === OPEN_BRACKET || (length > 1 && bytes[start + 1] === OPEN_BRACE);
    if (nested) keepOutermostBrackets(list);
    this.quoted(list.bytes, 0, list.length);
    return this.#elementsFit && !nested;
  }

  /** Elements are JSON strings; the SELECT converts them into values. Always from text. */
  readonly #writeElement = (
    out: ByteWriter,
    _type: ColumnType,
    _kind: number,
    bytes: Uint8Array,
    start: number,
    length: number,
  ): void => {
    const form = this.#elementForm;
    if (!fits(form, bytes, start, length)) {
      this.#elementsFit = false;
      return out.ascii(form === forms.FLOAT ? '"0"' : "null");
    }
    if (form === forms.HEX) return writeJsonString(out, bytes, start + 2, length - 2);
    if (form !== forms.DATE && form !== forms.TIMESTAMP && form !== forms.INSTANT)
      return writeJsonString(out, bytes, start, length);
    out.byte(QUOTE);
    if (form === forms.DATE) writeDate(out, bytes, start, length);
    else writeTimestamp(out, bytes, start, length);
    return out.byte(QUOTE);
  };
}

/** Of its text: `[1,-0.5]`. */
function writeElementsOfVector(
  out: ByteWriter,
  type: ColumnType,
  bytes: Uint8Array,
  start: number,
  length: number,
  writeElement: WriteValue,
): void {
  const end = start + length - 1;
  out.byte(OPEN_BRACKET);
  for (let from = start + 1; from < end;) {
    let to = from;
    while (to < end && bytes[to] !== COMMA) to++;
    writeElement(out, type, CELL_TEXT, bytes, from, to - from);
    if (to < end) out.byte(COMMA);
    from = to + 1;
  }
  out.byte(CLOSE_BRACKET);
}
