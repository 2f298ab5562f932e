/**
 * Vectors, in the forms of pgvector. Binary, big-endian: number of dimensions and a zero (16 bits each), then the numbers as
 * float32 or half; of a sparse one (32 bits each) dimensions, count and a zero, then indices from 0, then the numbers.
 *
 *   text     [1,-0.5,3e+10]          sparse   {1:1.5,4:-2}/5, indices from 1
 *   JSON     the same, an array      sparse   {"1":1.5,"4":-2}: the dimensions are not shown
 */
import type { ByteWriter } from "../bytes.ts";
import { CELL_BINARY, readInt32 } from "../model/tuple.ts";
import type { VectorForm } from "../model/types.ts";
import { formatFloat32, readFloat32 } from "./float.ts";

/** Of a vector that is not sparse. */
export const VECTOR_HEADER_BYTES = 4;
const SPARSE_HEADER_BYTES = 12;

const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;
const QUOTE = 0x22;

export type DenseForm = Exclude<VectorForm, "sparse">;

/** The text of a binary cell. */
export function writeVector(out: ByteWriter, form: VectorForm, bytes: Uint8Array, start: number, length: number): void {
  if (form !== "sparse") return writeNumbers(out, form, bytes, start, length);
  const count = readInt32(bytes, start + 4);
  const indices = start + SPARSE_HEADER_BYTES;
  const values = indices + count * 4;
  out.byte(OPEN_BRACE);
  for (let i = 0; i < count; i++) {
    if (i > 0) out.byte(COMMA);
    out.ascii(String(readInt32(bytes, indices + i * 4) + 1));
    out.byte(COLON);
    out.ascii(formatFloat32(readFloat32(bytes, values + i * 4)));
  }
  out.ascii(`}/${readInt32(bytes, start)}`);
}

function writeNumbers(out: ByteWriter, form: DenseForm, bytes: Uint8Array, start: number, length: number): void {
  const count = vectorLength(form, CELL_BINARY, bytes, start, length);
  out.byte(OPEN_BRACKET);
  for (let i = 0; i < count; i++) {
    if (i > 0) out.byte(COMMA);
    out.ascii(formatFloat32(numberAt(form, bytes, start, i)));
  }
  out.byte(CLOSE_BRACKET);
}

export function writeVectorJson(
  out: ByteWriter,
  form: VectorForm,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  const at = out.length;
  if (kind === CELL_BINARY) writeVector(out, form, bytes, start, length);
  else out.copy(bytes, start, length);
  if (form === "sparse") quoteIndices(out, at);
}

/** From the text of a sparse vector that was written at `at`. */
function quoteIndices(out: ByteWriter, at: number): void {
  const text = out.bytes.toString("latin1", at, out.length);
  out.length = at;
  for (const character of text.slice(0, text.lastIndexOf("/"))) {
    const code = character.charCodeAt(0);
    if (code === COLON) out.byte(QUOTE);
    out.byte(code);
    if (code === OPEN_BRACE || code === COMMA) out.byte(QUOTE);
  }
  // An empty one.
  if (out.length === at + 3) {
    out.length = at + 1;
    out.byte(CLOSE_BRACE);
  }
}

/** How many numbers there are. */
export function vectorLength(form: DenseForm, kind: number, bytes: Uint8Array, start: number, length: number): number {
  if (kind === CELL_BINARY) return (length - VECTOR_HEADER_BYTES) / (form === "single" ? 4 : 2);
  let count = 1;
  for (let i = start; i < start + length; i++) if (bytes[i] === COMMA) count++;
  return count;
}

/** The numbers as float32, lowest byte first. */
export function writeFloats(
  out: ByteWriter,
  form: DenseForm,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  const count = vectorLength(form, kind, bytes, start, length);
  out.reserve(count * 4);
  const to = out.bytes;
  let at = out.length;
  if (kind === CELL_BINARY) {
    for (let i = 0; i < count; i++, at += 4) to.writeFloatLE(numberAt(form, bytes, start, i), at);
  } else {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset + start + 1, length - 2).toString("latin1");
    for (const number of text.split(",")) at = to.writeFloatLE(Number(number), at);
  }
  out.length = at;
}

export function numberAt(form: DenseForm, bytes: Uint8Array, start: number, i: number): number {
  const numbers = start + VECTOR_HEADER_BYTES;
  return form === "single" ? readFloat32(bytes, numbers + i * 4) : readHalf(bytes, numbers + i * 2);
}

function readHalf(bytes: Uint8Array, at: number): number {
  const bits = (bytes[at]! << 8) | bytes[at + 1]!;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (fraction + 0x400) * 2 ** (exponent - 25);
  return bits >= 0x8000 ? -magnitude : magnitude;
}
