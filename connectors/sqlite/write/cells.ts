import { isUtf8 } from "node:buffer";
import type { SQLInputValue } from "node:sqlite";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { CELL_TEXT, readInt32 } from "../../../src/core/model/tuple.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { readFloat32, readFloat64 } from "../../../src/core/values/float.ts";
import { isSafeInt64, readBigInt64, readSafeInt64 } from "../../../src/core/values/integer.ts";
import { writeJson } from "../../../src/core/values/json.ts";
import { jsonPrefixLength, writeBinaryText } from "../../../src/core/values/text.ts";
import { packedMoment, packedUuid } from "../packed.ts";
import type { Form } from "../types.ts";
import * as forms from "../types.ts";

const TRUE = 0x74; // t
const MINUS = 0x2d;
const ZERO = 0x30;
/** Numbers of so many digits are exact. */
const SAFE_DIGITS = 15;
const HEX_PREFIX_BYTES = 2;
const INTEGER_MAX = 2n ** 63n - 1n;
/** What decoding puts in the place of bytes that are no UTF-8. A text may have it itself. */
const REPLACEMENT = "\ufffd";
const KEPT_BYTES_MAX = 1024 * 1024;

/** A text that the file can't have: why, as `its text …`. */
export class UnfitText extends Error {}

/** Makes what a statement binds of cells. A text that is no value of its type stays text: the STRICT table refuses the row. */
export class CellValues {
  readonly #out = new ByteWriter(1024);
  /** A view with the methods of a Buffer over the bytes of the block at hand. */
  #view: Buffer = Buffer.alloc(0);
  #viewed: Uint8Array = this.#view;

  over(bytes: Uint8Array): void {
    if (bytes === this.#viewed) return;
    this.#viewed = bytes;
    this.#view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Keeps no block alive. */
  release(): void {
    this.over(NOTHING);
    if (this.#out.bytes.length > KEPT_BYTES_MAX) this.#out.bytes = Buffer.allocUnsafeSlow(1024);
  }

  /** A cell of the bytes given last, neither null nor unchanged. */
  read(form: Form, type: ColumnType, kind: number, start: number, length: number): SQLInputValue {
    const bytes = this.#view;
    switch (form) {
      case forms.BOOL:
        return (kind === CELL_TEXT ? bytes[start] === TRUE : bytes[start] !== 0) ? 1 : 0;
      case forms.INTEGER:
        return kind === CELL_TEXT ? this.#integer(start, length) : binaryInteger(bytes, start, length);
      case forms.UNSIGNED:
        return unsigned(this.#latin1(start, length));
      case forms.FLOAT:
        return this.#float(type, kind, start, length);
      case forms.TEXT:
        if (kind === CELL_TEXT || type.kind === "text" || type.kind === "enum") return this.#utf8(start, length);
        this.#out.reset();
        writeBinaryText(this.#out, type, bytes, start, length);
        return textOf(this.#out.bytes, 0, this.#out.length);
      case forms.JSON_TEXT: {
        const skipped = kind === CELL_TEXT ? 0 : jsonPrefixLength(bytes, start, length);
        return this.#utf8(start + skipped, length - skipped);
      }
      case forms.MOMENT:
        this.#out.reset();
        writeJson(this.#out, type, kind, bytes, start, length);
        // Without the quotes.
        return this.#out.bytes.toString("latin1", 1, this.#out.length - 1);
      case forms.PACKED_MOMENT:
        this.#out.reset();
        writeJson(this.#out, type, kind, bytes, start, length);
        // Without the quotes.
        return (
          packedMoment(type, this.#out.bytes, 1, this.#out.length - 2) ??
          this.#out.bytes.toString("latin1", 1, this.#out.length - 1)
        );
      case forms.PACKED_UUID:
        if (kind !== CELL_TEXT) return bytes.subarray(start, start + length);
        return packedUuid(bytes, start, length) ?? this.#latin1(start, length);
      case forms.BYTES:
        if (kind !== CELL_TEXT) return bytes.subarray(start, start + length);
        return Buffer.from(this.#latin1(start + HEX_PREFIX_BYTES, length - HEX_PREFIX_BYTES), "hex");
      case forms.ARRAY:
        this.#out.reset();
        writeJson(this.#out, type, kind, bytes, start, length);
        return textOf(this.#out.bytes, 0, this.#out.length);
      default:
        return form satisfies never;
    }
  }

  #utf8(start: number, length: number): string {
    return textOf(this.#view, start, start + length);
  }

  #latin1(start: number, length: number): string {
    return this.#view.toString("latin1", start, start + length);
  }

  #integer(start: number, length: number): SQLInputValue {
    const bytes = this.#view;
    const isNegative = bytes[start] === MINUS;
    let at = isNegative ? start + 1 : start;
    const end = start + length;
    if (end - at > SAFE_DIGITS) return wide(this.#latin1(start, length));
    let value = 0;
    for (; at < end; at++) {
      const digit = bytes[at]! - ZERO;
      if (digit < 0 || digit > 9) return this.#utf8(start, length);
      value = value * 10 + digit;
    }
    return isNegative ? -value : value;
  }

  /** SQLite makes null of NaN, which so is text. */
  #float(type: ColumnType, kind: number, start: number, length: number): SQLInputValue {
    const is32 = type.kind === "float" && type.bits === 32;
    if (kind !== CELL_TEXT) {
      const value = is32 ? readFloat32(this.#view, start) : readFloat64(this.#view, start);
      return Number.isNaN(value) ? "NaN" : value;
    }
    const text = this.#latin1(start, length);
    const value = is32 ? Math.fround(Number(text)) : Number(text);
    return Number.isNaN(value) ? text : value;
  }
}

function textOf(bytes: Buffer, start: number, end: number): string {
  const text = bytes.toString("utf8", start, end);
  if (text.includes(REPLACEMENT) && !isUtf8(bytes.subarray(start, end)))
    throw new UnfitText("is no UTF-8: SQLite would get another one");
  return text;
}

const NOTHING: Buffer = Buffer.alloc(0);

function binaryInteger(bytes: Uint8Array, start: number, length: number): number | bigint {
  if (length === 8) return isSafeInt64(bytes, start) ? readSafeInt64(bytes, start) : readBigInt64(bytes, start);
  return length === 4 ? readInt32(bytes, start) : ((bytes[start]! << 24) >> 16) | bytes[start + 1]!;
}

function wide(text: string): SQLInputValue {
  return /^-?\d+$/.test(text) ? BigInt(text) : text;
}

function unsigned(text: string): SQLInputValue {
  if (!/^\d+$/.test(text)) return text;
  const value = BigInt(text);
  return value > INTEGER_MAX ? text : value;
}
