/**
 * Writes values in RowBinary. A value that does not fit the column's type is not written: the caller stores its text in
 * `_millrace_exact`.
 */
import { ByteWriter } from "../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_TEXT } from "../../../src/core/model/tuple.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { writeArrayJsonFromText, writeJson } from "../../../src/core/values/json.ts";
import { readFloat32, readFloat64 } from "../../../src/core/values/float.ts";
import { jsonPrefixLength, writeBinaryText } from "../../../src/core/values/text.ts";
import { vectorLength, writeFloats } from "../../../src/core/values/vector.ts";
import type { Form } from "../types.ts";
import { writeDateBinary, writeDateText, writeTimestampBinary, writeTimestampText } from "./calendar.ts";
import { writeDecimalText, writeIntegerBinary, writeIntegerText } from "./numbers.ts";

const LETTER_T = 0x74;
const OPEN_BRACKET = 0x5b;
const DASH = 0x2d;
const SCRATCH_BYTES = 1024;
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

const HEX_VALUE = new Uint8Array(256);
for (let i = 0; i < 16; i++) {
  HEX_VALUE["0123456789abcdef".charCodeAt(i)] = i;
  HEX_VALUE["0123456789ABCDEF".charCodeAt(i)] = i;
}

const number = new DataView(new ArrayBuffer(8));

export class CellWriter {
  readonly out: ByteWriter;
  readonly #text = new ByteWriter(SCRATCH_BYTES);
  readonly #json = new ByteWriter(SCRATCH_BYTES);

  constructor(out: ByteWriter) {
    this.out = out;
  }

  /** False if the value does not fit: then nothing is written. `kind` is CELL_TEXT or CELL_BINARY. */
  write(form: Form, type: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number): boolean {
    const { out } = this;
    const isText = kind === CELL_TEXT;
    switch (form.kind) {
      case "bool":
        out.byte((isText ? bytes[start] === LETTER_T : bytes[start] !== 0) ? 1 : 0);
        return true;
      case "int":
        if (isText) writeIntegerText(out, bytes, start, length, form.byteCount);
        else writeIntegerBinary(out, bytes, start, length, form.byteCount);
        return true;
      case "float":
        this.#writeFloat(form.byteCount, isText, bytes, start, length);
        return true;
      case "decimal": {
        const text = this.#textOf(type, kind, bytes, start, length);
        return writeDecimalText(out, text.bytes, text.start, text.length, form);
      }
      case "text": {
        const text = this.#textOf(type, kind, bytes, start, length);
        this.string(text.bytes, text.start, text.length);
        return true;
      }
      case "json": {
        const skipped = isText ? 0 : jsonPrefixLength(bytes, start, length);
        this.string(bytes, start + skipped, length - skipped);
        return true;
      }
      case "array":
        return this.#writeArray(type, kind, bytes, start, length);
      case "vector":
        this.#writeVector(type, kind, bytes, start, length);
        return true;
      case "bytes":
        if (isText) this.#writeHex(bytes, start + 2, length - 2);
        else this.string(bytes, start, length);
        return true;
      case "date":
        return isText ? writeDateText(out, bytes, start, length) : writeDateBinary(out, bytes, start);
      case "timestamp":
        return isText ? writeTimestampText(out, bytes, start, length) : writeTimestampBinary(out, bytes, start);
      case "uuid":
        this.#writeUuid(isText, bytes, start);
        return true;
      default:
        return form satisfies never;
    }
  }

  /** Its length as a varint, and the bytes. */
  string(bytes: Uint8Array, start: number, length: number): void {
    writeLength(this.out, length);
    this.out.copy(bytes, start, length);
  }

  /** Releases buffers that one huge value has enlarged. */
  giveBack(): void {
    for (const buffer of [this.#text, this.#json]) {
      if (buffer.bytes.length > KEPT_BYTES_MAX) buffer.bytes = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
      buffer.reset();
    }
  }

  #textOf(type: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number) {
    if (kind === CELL_TEXT || type.kind === "text" || type.kind === "enum") return { bytes, start, length };
    const text = this.#text;
    text.reset();
    writeBinaryText(text, type, bytes, start, length);
    return { bytes: text.bytes, start: 0, length: text.length };
  }

  #writeFloat(byteCount: 4 | 8, isText: boolean, bytes: Uint8Array, start: number, length: number): void {
    const { out } = this;
    out.reserve(byteCount);
    const value = isText
      ? Number(Buffer.from(bytes.buffer, bytes.byteOffset + start, length).toString("latin1"))
      : byteCount === 8
        ? readFloat64(bytes, start)
        : readFloat32(bytes, start);
    if (byteCount === 8) number.setFloat64(0, value, true);
    else number.setFloat32(0, value, true);
    for (let i = 0; i < byteCount; i++) out.bytes[out.length++] = number.getUint8(i);
  }

  /** JSON does not show lower bounds other than 1. */
  #writeArray(type: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number): boolean {
    if (type.kind !== "array") throw new TypeError("only an array is written as one");
    const text = this.#textOf(type, kind, bytes, start, length);
    if (text.bytes[text.start] === OPEN_BRACKET) return false;
    const json = this.#json;
    json.reset();
    writeArrayJsonFromText(json, type.of, text.bytes, text.start, text.length, writeJson);
    this.string(json.bytes, 0, json.length);
    return true;
  }

  #writeVector(type: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number): void {
    if (type.kind !== "vector" || type.form === "sparse") throw new TypeError("only a dense vector is written as one");
    const { out } = this;
    writeLength(out, vectorLength(type.form, kind, bytes, start, length));
    writeFloats(out, type.form, kind, bytes, start, length);
  }

  #writeHex(bytes: Uint8Array, start: number, length: number): void {
    const { out } = this;
    const count = length / 2;
    writeLength(out, count);
    out.reserve(count);
    const to = out.bytes;
    let at = out.length;
    for (let i = start, end = start + length; i < end; i += 2) {
      to[at++] = (HEX_VALUE[bytes[i]!]! << 4) | HEX_VALUE[bytes[i + 1]!]!;
    }
    out.length = at;
  }

  /** Two halves, each with its lowest byte first. */
  #writeUuid(isText: boolean, bytes: Uint8Array, start: number): void {
    const { out } = this;
    out.reserve(16);
    const at = out.length;
    for (let i = 0, from = start; i < 16; i++) {
      if (isText && bytes[from] === DASH) from++;
      const byte = isText ? (HEX_VALUE[bytes[from]!]! << 4) | HEX_VALUE[bytes[from + 1]!]! : bytes[from]!;
      out.bytes[at + (i < 8 ? 7 - i : 23 - i)] = byte;
      from += isText ? 2 : 1;
    }
    out.length += 16;
  }
}

export function writeLength(out: ByteWriter, length: number): void {
  out.reserve(10);
  let rest = length;
  while (rest >= 0x80) {
    out.bytes[out.length++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  out.bytes[out.length++] = rest;
}

export function isValue(kind: number): boolean {
  return kind === CELL_TEXT || kind === CELL_BINARY;
}
