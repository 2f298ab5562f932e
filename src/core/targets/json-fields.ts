/**
 * Finds the fields of a JSON object in its bytes, so that values can be copied from one document into another exactly
 * as they are written: nothing is parsed, so no number becomes a double.
 */
import { invariant } from "../invariant.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;

/** The positions of the raw values of chosen top-level fields; reused from document to document. */
export class JsonFields {
  readonly #ordinals: ReadonlyMap<string, number>;
  /** Offset of the value of field i, or -1 if the document has no such field. */
  readonly start: Int32Array;
  readonly end: Int32Array;

  constructor(names: readonly string[]) {
    this.#ordinals = new Map(names.map((name, i) => [name, i]));
    this.start = new Int32Array(names.length);
    this.end = new Int32Array(names.length);
  }

  /** Reads the object that begins at `at` (white space before it is allowed); returns the offset after it. */
  read(bytes: Uint8Array, at = 0): number {
    this.start.fill(-1);
    this.end.fill(-1);
    let i = skipSpace(bytes, at);
    invariant(bytes[i] === 0x7b, "a JSON document begins with a brace");
    i = skipSpace(bytes, i + 1);
    while (bytes[i] !== 0x7d) {
      const nameEnd = skipString(bytes, i);
      const ordinal = this.#ordinals.get(nameOf(bytes, i, nameEnd));
      i = skipSpace(bytes, nameEnd);
      invariant(bytes[i] === COLON, "a colon follows a JSON field's name");
      const from = skipSpace(bytes, i + 1);
      i = skipValue(bytes, from);
      if (ordinal !== undefined) {
        this.start[ordinal] = from;
        this.end[ordinal] = i;
      }
      i = skipSpace(bytes, i);
      if (bytes[i] === COMMA) i = skipSpace(bytes, i + 1);
    }
    return i + 1;
  }

  has(ordinal: number): boolean {
    return this.start[ordinal]! >= 0;
  }
}

function nameOf(bytes: Uint8Array, start: number, end: number): string {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start);
  if (view.includes(BACKSLASH)) return String(JSON.parse(view.toString("utf8")));
  return view.toString("utf8", 1, view.length - 1);
}

/** The offset after the string whose opening quote is at `at`. */
export function skipString(bytes: Uint8Array, at: number): number {
  invariant(bytes[at] === QUOTE, "a JSON string begins with a quote");
  let i = at + 1;
  for (; bytes[i] !== QUOTE; i++) {
    invariant(i < bytes.length, "a JSON string ends");
    if (bytes[i] === BACKSLASH) i++;
  }
  return i + 1;
}

/** The offset after the value at `at`. */
export function skipValue(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  if (first === QUOTE) return skipString(bytes, at);
  let i = at;
  if (first === 0x7b || first === 0x5b) {
    let depth = 0;
    do {
      const byte = bytes[i];
      invariant(byte !== undefined, "a JSON value ends");
      if (byte === QUOTE) i = skipString(bytes, i) - 1;
      else if (byte === 0x7b || byte === 0x5b) depth++;
      else if (byte === 0x7d || byte === 0x5d) depth--;
      i++;
    } while (depth > 0);
    return i;
  }
  while (i < bytes.length && !endsScalar(bytes[i]!)) i++;
  invariant(i > at, "a JSON value is not empty");
  return i;
}

function endsScalar(byte: number): boolean {
  return byte === COMMA || byte === 0x7d || byte === 0x5d || byte <= 0x20;
}

function skipSpace(bytes: Uint8Array, at: number): number {
  let i = at;
  while (bytes[i] === 0x20 || bytes[i] === 0x0a || bytes[i] === 0x0d || bytes[i] === 0x09) i++;
  return i;
}
