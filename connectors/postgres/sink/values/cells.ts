/**
 * Converts a cell of the source into a field of the target. Bind's binary parameters and the fields of COPY BINARY have
 * the same layout (length, then bytes), so one writer serves both.
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_TEXT, readInt32 } from "../../../../src/core/model/tuple.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { copyVisible } from "./nul.ts";
import { writeInt32 } from "../wire/frames.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import { type DenseForm, numberAt, vectorLength, writeVector } from "../../../../src/core/values/vector.ts";

/** How to make a cell a binary field of its column. */
export const BINARY_AS_IS = 0;
/** json: without the version byte at the start of a jsonb. */
const BINARY_JSON = 1;
/** jsonb: with that byte. */
const BINARY_JSONB = 2;
/** Array: its element type's oid is the source's, which is wrong here (enum, domain). */
const BINARY_ARRAY = 3;
/** Text that may hold NUL, which Postgres does not allow. */
const BINARY_TEXT = 4;
/** The same, of a key. */
export const BINARY_KEY_TEXT = 5;

/** real[] from a vector, of either form. */
export const BINARY_FLOATS = 6;
/** The text of a vector. */
const BINARY_VECTOR = 7;

/** Only the server can parse this text: the row must be sent in text form. */
export const TEXT_TO_PARSE = 0;
/** The text's bytes are the binary form. */
export const TEXT_AS_IS = 1;
const TEXT_JSONB = 2;

const JSONB_VERSION = 1;
const ELEMENT_OID_OFFSET = 8;

/** The forms of the columns of one table. */
export interface CellForms {
  readonly binary: Uint8Array;
  readonly text: Uint8Array;
  /** Oid of the element type in the target, if the column is a `BINARY_ARRAY`. */
  readonly elementOid: Uint32Array;
  readonly types: readonly ColumnType[];
}

/** A column's type in the target's catalogue. */
export interface CatalogType {
  readonly name: string;
  readonly elementOid: number;
}

const TEXTUAL = new Set(["text", "varchar", "bpchar", "name"]);

const NO_ARRAYS = new Uint32Array(0);

export function cellForms({ columns, key, dialect }: TableVersion, catalog: readonly CatalogType[]): CellForms {
  const types: readonly ColumnType[] = columns.map((column) => column.type);
  const hasArrays = catalog.some(({ elementOid }) => elementOid !== 0);
  return {
    binary: Uint8Array.from(catalog, (type, i) => {
      // Labels of an enum and a set are texts, too.
      if (dialect === "mysql" && TEXTUAL.has(type.name)) return key.includes(i) ? BINARY_KEY_TEXT : BINARY_TEXT;
      if (types[i]?.kind === "vector" && TEXTUAL.has(type.name)) return BINARY_VECTOR;
      if (types[i]?.kind === "vector" && type.name === "_float4") return BINARY_FLOATS;
      if (type.elementOid !== 0 && type.name.startsWith("_")) return BINARY_ARRAY;
      return type.name === "json" ? BINARY_JSON : type.name === "jsonb" ? BINARY_JSONB : BINARY_AS_IS;
    }),
    text: Uint8Array.from(catalog, (type, i) => {
      if (TEXTUAL.has(type.name) || (type.name === "json" && types[i]?.kind === "json")) return TEXT_AS_IS;
      return type.name === "jsonb" ? TEXT_JSONB : TEXT_TO_PARSE;
    }),
    elementOid: hasArrays ? Uint32Array.from(catalog, ({ elementOid }) => elementOid) : NO_ARRAYS,
    types,
  };
}

/** Writes one cell as a field with its length. False, and writes nothing, if only the server can parse it. */
export function writeField(
  out: ByteWriter,
  forms: CellForms,
  column: number,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): boolean {
  if (kind === CELL_BINARY) {
    const form = forms.binary[column]!;
    if (form === BINARY_AS_IS) copyField(out, bytes, start, length);
    else if (isHiding(form)) copyText(out, forms, column, bytes, start, length);
    else if (form === BINARY_FLOATS || form === BINARY_VECTOR)
      writeVectorField(out, form, forms.types[column]!, bytes, start, length);
    else writeAdapted(out, form, forms.elementOid[column]!, bytes, start, length);
    return true;
  }
  if (kind === CELL_TEXT) {
    const form = forms.text[column]!;
    if (form === TEXT_TO_PARSE) return false;
    if (form === TEXT_AS_IS) copyText(out, forms, column, bytes, start, length);
    else writeJsonb(out, bytes, start, length);
    return true;
  }
  writeNull(out);
  return true;
}

/** Whether the text may hold what Postgres does not allow. */
export function isHiding(form: number): boolean {
  return form === BINARY_TEXT || form === BINARY_KEY_TEXT;
}

export function writeNull(out: ByteWriter): void {
  out.reserve(4);
  writeInt32(out.bytes, out.length, -1);
  out.length += 4;
}

export function copyField(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  out.reserve(4 + length);
  writeInt32(out.bytes, out.length, length);
  out.length += 4;
  out.copy(bytes, start, length);
}

/** A field of text. */
export function copyText(
  out: ByteWriter,
  { binary }: CellForms,
  column: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  const form = binary[column]!;
  if (form === BINARY_FLOATS) return copyFloatsText(out, bytes, start, length);
  if (!isHiding(form)) return copyField(out, bytes, start, length);
  out.reserve(4);
  const at = out.length;
  out.length += 4;
  copyVisible(out, bytes, start, length, form === BINARY_KEY_TEXT);
  writeInt32(out.bytes, at, out.length - at - 4);
}

const ARRAY_HEADER_BYTES = 20;
const FLOAT32_OID = 700;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

function writeVectorField(
  out: ByteWriter,
  form: number,
  type: ColumnType,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  invariant(type.kind === "vector", "only a vector is written as one");
  out.reserve(4);
  const at = out.length;
  out.length += 4;
  if (form === BINARY_VECTOR) writeVector(out, type.form, bytes, start, length);
  else if (type.form !== "sparse") writeFloatArray(out, type.form, bytes, start, length);
  writeInt32(out.bytes, at, out.length - at - 4);
}

function writeFloatArray(out: ByteWriter, form: DenseForm, bytes: Uint8Array, start: number, length: number): void {
  const count = vectorLength(form, CELL_BINARY, bytes, start, length);
  out.reserve(ARRAY_HEADER_BYTES + count * 8);
  const to = out.bytes;
  [1, 0, FLOAT32_OID, count, 1].forEach((value, i) => writeInt32(to, out.length + i * 4, value));
  let at = out.length + ARRAY_HEADER_BYTES;
  for (let i = 0; i < count; i++, at += 8) {
    writeInt32(to, at, 4);
    to.writeFloatBE(numberAt(form, bytes, start, i), at + 4);
  }
  out.length = at;
}

/** The text of a vector as that of an array. */
function copyFloatsText(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  copyField(out, bytes, start, length);
  asArrayText(out, length);
}

/** The text of a vector that was written last becomes that of an array. */
export function asArrayText(out: ByteWriter, length: number): void {
  out.bytes[out.length - length] = OPEN_BRACE;
  out.bytes[out.length - 1] = CLOSE_BRACE;
}

function writeAdapted(
  out: ByteWriter,
  form: number,
  elementOid: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  const versioned = form !== BINARY_ARRAY && length > 0 && bytes[start] === JSONB_VERSION;
  if (form === BINARY_JSON && versioned) copyField(out, bytes, start + 1, length - 1);
  else if (form === BINARY_JSONB && !versioned) writeJsonb(out, bytes, start, length);
  else copyField(out, bytes, start, length);
  if (form === BINARY_ARRAY) writeInt32(out.bytes, out.length - length + ELEMENT_OID_OFFSET, elementOid);
}

function writeJsonb(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  out.reserve(5 + length);
  writeInt32(out.bytes, out.length, length + 1);
  out.bytes[out.length + 4] = JSONB_VERSION;
  out.length += 5;
  out.copy(bytes, start, length);
}

/** The offset after a cell whose kind byte has been read. */
export function cellEnd(kind: number, bytes: Uint8Array, at: number): number {
  return kind === CELL_TEXT || kind === CELL_BINARY ? at + 4 + readInt32(bytes, at) : at;
}
