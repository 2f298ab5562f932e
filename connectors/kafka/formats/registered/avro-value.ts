/**
 * A record in Avro's binary encoding (https://avro.apache.org/docs/1.12.0/specification/#binary-encoding), from the JSON that the
 * format wrote: one set of writers decides what a value is, in every encoding.
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { withScratch } from "../../../../src/core/values/scratch.ts";
import { isNullFirst } from "./avro-schema.ts";
import { type ConnectSchema, elementOf, memberName } from "./connect-schema.ts";
import type { JsonCursor } from "./json-cursor.ts";

/** Writes the value at the cursor, and steps over it. */
export type AvroWriter = (out: ByteWriter, from: JsonCursor) => void;

const OPEN_BRACKET = Buffer.from("[");
const CLOSE_BRACE = Buffer.from("}");
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
    from.expect(CLOSE_BRACE);
  };
}

/** One block with all elements, then the empty one that ends an array. */
function arrayWriterOf(of: ConnectSchema): AvroWriter {
  const write = avroWriterOf(of);
  return (out, from) => {
    from.expect(OPEN_BRACKET);
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
