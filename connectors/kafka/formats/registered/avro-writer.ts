/**
 * A record in Avro's binary encoding (https://avro.apache.org/docs/1.12.0/specification/#binary-encoding), from the JSON that the
 * format wrote: one set of writers decides what a value is, in every encoding. `avsc` and Confluent's client take objects, so
 * each row would become one.
 */
import { type ByteWriter, withScratch } from "../../../../src/core/bytes.ts";
import { type ConnectSchema, elementOf, isNullFirst, memberName } from "./schemas.ts";

/** Writes the value at the cursor, and steps over it. */
export type AvroWriter = (out: ByteWriter, from: JsonCursor) => void;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const CLOSE_BRACKET = 0x5d;
const CLOSE_BRACE = 0x7d;
const LETTER_N = 0x6e;
const LETTER_T = 0x74;
/** So many characters of a number are exact in a double. */
const SAFE_DIGITS = 15;
const ARRAY_BEGIN = Buffer.from("[");
const STRUCT_END = Buffer.from("}");
/** Twice as much is a safe integer. */
const SAFE_MAX = 2 ** 52;

export function avroWriterOf(schema: ConnectSchema): AvroWriter {
  const write = baseWriterOf(schema);
  if (schema.optional !== true) return write;
  const [nullBranch, valueBranch] = isNullFirst(schema) ? [0, 1] : [1, 0];
  return (out, from) => {
    if (from.takeNull()) return writeLong(out, nullBranch);
    writeLong(out, valueBranch);
    write(out, from);
  };
}

function baseWriterOf(schema: ConnectSchema): AvroWriter {
  switch (schema.type) {
    case "int8":
    case "int16":
    case "int32":
    case "int64":
      return (out, from) => writeLong(out, from.takeInteger());
    case "float":
      return (out, from) => {
        out.reserve(4);
        out.length = out.bytes.writeFloatLE(from.takeNumber(), out.length);
      };
    case "double":
      return (out, from) => {
        out.reserve(8);
        out.length = out.bytes.writeDoubleLE(from.takeNumber(), out.length);
      };
    case "boolean":
      return (out, from) => out.byte(from.takeBoolean() ? 1 : 0);
    case "string":
      return (out, from) => writeBytes(out, from.takeString());
    case "bytes":
      return (out, from) => writeBytes(out, from.takeBase64());
    case "array":
      return arrayWriterOf(elementOf(schema));
    case "struct":
      return structWriterOf(schema);
    default:
      return schema.type satisfies never;
  }
}

function structWriterOf({ fields = [] }: ConnectSchema): AvroWriter {
  const members = fields.map((field, i) => ({
    before: Buffer.from(`${i === 0 ? "{" : ","}${JSON.stringify(memberName(field))}:`),
    write: avroWriterOf(field),
  }));
  return (out, from) => {
    for (const { before, write } of members) {
      from.expect(before);
      write(out, from);
    }
    from.expect(STRUCT_END);
  };
}

/** One block with all elements, then the empty one that ends an array. */
function arrayWriterOf(of: ConnectSchema): AvroWriter {
  const write = avroWriterOf(of);
  return (out, from) => {
    from.expect(ARRAY_BEGIN);
    withScratch((elements) => {
      let count = 0;
      for (; from.hasElement(count === 0); count++) write(elements, from);
      if (count === 0) return;
      writeLong(out, count);
      out.copy(elements.bytes, 0, elements.length);
    });
    writeLong(out, 0);
  };
}

function writeBytes(out: ByteWriter, bytes: Buffer): void {
  writeLong(out, bytes.length);
  out.copy(bytes, 0, bytes.length);
}

/** Zigzag, then seven bits to a byte, the lowest first. */
function writeLong(out: ByteWriter, value: number | bigint): void {
  if (typeof value === "bigint") return writeBigLong(out, value);
  if (Math.abs(value) >= SAFE_MAX) return writeBigLong(out, BigInt(value));
  let left = value < 0 ? -2 * value - 1 : 2 * value;
  out.reserve(10);
  while (left >= 0x80) {
    out.bytes[out.length++] = (left % 0x80) | 0x80;
    left = Math.floor(left / 0x80);
  }
  out.bytes[out.length++] = left;
}

function writeBigLong(out: ByteWriter, value: bigint): void {
  let left = BigInt.asUintN(64, value < 0n ? ~(value << 1n) : value << 1n);
  out.reserve(10);
  while (left >= 0x80n) {
    out.bytes[out.length++] = Number(left & 0x7fn) | 0x80;
    left >>= 7n;
  }
  out.bytes[out.length++] = Number(left);
}

/**
 * Reads JSON that the formats of this folder wrote: without blanks, and members in the order of their schema. It checks what it
 * steps over, so that a format that changes is found by its first record.
 */
export class JsonCursor {
  bytes: Buffer = Buffer.alloc(0);
  at = 0;
  /** Where the text that was read last lies in `bytes`. */
  start = 0;
  end = 0;

  begin(bytes: Buffer): void {
    this.bytes = bytes;
    this.at = 0;
  }

  /** Steps over the same bytes as these. */
  expect(token: Buffer): void {
    const end = this.at + token.length;
    if (token.compare(this.bytes, this.at, end) !== 0)
      throw new Error(`a record is not what its schema says: it lacks ${token.toString()}`);
    this.at = end;
  }

  /** Steps over `null`; false if the value is another. */
  takeNull(): boolean {
    if (this.bytes[this.at] !== LETTER_N) return false;
    this.at += 4;
    return true;
  }

  takeBoolean(): boolean {
    const is = this.bytes[this.at] === LETTER_T;
    this.at += is ? 4 : 5;
    return is;
  }

  /** An array's elements, behind its opening bracket. False: it has ended. */
  hasElement(isFirst: boolean): boolean {
    if (this.bytes[this.at] === CLOSE_BRACKET) {
      this.at++;
      return false;
    }
    if (!isFirst) this.at++;
    return true;
  }

  takeInteger(): number | bigint {
    this.#bare();
    const text = this.bytes.toString("latin1", this.start, this.end);
    return text.length <= SAFE_DIGITS ? Number(text) : BigInt(text);
  }

  /** Numbers that JSON lacks are strings: "NaN", "Infinity", "-Infinity". */
  takeNumber(): number {
    if (this.bytes[this.at] === QUOTE) this.#quoted();
    else this.#bare();
    return Number(this.bytes.toString("latin1", this.start, this.end));
  }

  /** A string's bytes as UTF-8: a part of `bytes` where nothing is escaped in it. */
  takeString(): Buffer {
    if (this.#quoted()) return this.bytes.subarray(this.start, this.end);
    const text: unknown = JSON.parse(this.bytes.toString("utf8", this.start - 1, this.end + 1));
    return Buffer.from(String(text));
  }

  takeBase64(): Buffer {
    this.#quoted();
    return Buffer.from(this.bytes.toString("latin1", this.start, this.end), "base64");
  }

  /** Up to what ends a number. */
  #bare(): void {
    this.start = this.at;
    while (this.at < this.bytes.length && !isEnd(this.bytes[this.at]!)) this.at++;
    this.end = this.at;
  }

  /** True: nothing in it is escaped. */
  #quoted(): boolean {
    const { bytes } = this;
    let isPlain = true;
    let at = this.at + 1;
    for (; bytes[at] !== QUOTE; at++) {
      if (at >= bytes.length) throw new Error("a string of the record does not end");
      if (bytes[at] === BACKSLASH) {
        isPlain = false;
        at++;
      }
    }
    this.start = this.at + 1;
    this.end = at;
    this.at = at + 1;
    return isPlain;
  }
}

function isEnd(byte: number): boolean {
  return byte === COMMA || byte === CLOSE_BRACKET || byte === CLOSE_BRACE;
}
