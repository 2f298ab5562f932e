/** The replacement of a masked value. Values with equal text get equal masks, whatever their wire form. */
import { createHmac } from "node:crypto";
import { ByteWriter } from "../core/bytes.ts";
import { invariant } from "../core/invariant.ts";
import type { Column, Mask } from "../core/model/schema.ts";
import {
  CELL_BINARY,
  CELL_FAILED,
  CELL_NULL,
  CELL_UNCHANGED,
  type CellMap,
  type TupleWriter,
} from "../core/model/tuple.ts";
import type { ColumnType } from "../core/model/types.ts";
import { writeText } from "../core/values/text.ts";

const REDACTED = Buffer.from("[redacted]");
const STARS = Buffer.from("****");
/** `partial` keeps a quarter of the characters, but at most this many. */
const KEPT_CHARACTERS_MAX = 4;

/** The column as sinks see it with its mask. */
export function maskedColumn(column: Column, mask: Mask): Column {
  if (mask === "null") return { ...column, nullable: true };
  return { ...column, type: { kind: "text" }, native: "text" };
}

/** Writes masked cells. One per table; its buffer is reused. */
export class Masker {
  readonly #key: string | null;
  readonly #text = new ByteWriter(256);

  constructor(key: string | null) {
    this.#key = key;
  }

  /** Writes cell `i` of a row, masked. */
  write(out: TupleWriter, mask: Mask, type: ColumnType, bytes: Uint8Array, cells: CellMap, i: number): void {
    const kind = cells.kind[i]!;
    if (mask === "null" || kind === CELL_NULL) return out.null();
    if (kind === CELL_UNCHANGED || kind === CELL_FAILED) return out.copyCell(bytes, cells, i);
    const masked = this.#masked(mask, type, kind, bytes, cells.start[i]!, cells.length[i]!);
    // Text looks the same in both forms; a row that came as binary stays binary.
    if (kind === CELL_BINARY) out.binary(masked, 0, masked.length);
    else out.text(masked, 0, masked.length);
  }

  /** The masked value of cell `i`, which is none of those that the log left out; null: it has none. */
  text(mask: Mask, type: ColumnType, bytes: Uint8Array, cells: CellMap, i: number): string | null {
    const kind = cells.kind[i]!;
    if (mask === "null" || kind === CELL_NULL) return null;
    return Buffer.from(this.#masked(mask, type, kind, bytes, cells.start[i]!, cells.length[i]!)).toString("utf8");
  }

  /** Writes cell `i` of a row as the text of its value. */
  asText(out: TupleWriter, type: ColumnType, bytes: Uint8Array, cells: CellMap, i: number): void {
    const kind = cells.kind[i]!;
    if (kind === CELL_NULL || kind === CELL_UNCHANGED || kind === CELL_FAILED) return out.copyCell(bytes, cells, i);
    const text = this.#text;
    text.reset();
    writeText(text, type, kind, bytes, cells.start[i]!, cells.length[i]!);
    out.text(text.bytes, 0, text.length);
  }

  #masked(
    mask: Exclude<Mask, "null">,
    type: ColumnType,
    kind: number,
    bytes: Uint8Array,
    start: number,
    length: number,
  ): Uint8Array {
    if (mask === "redact") return REDACTED;
    const text = this.#text;
    text.reset();
    writeText(text, type, kind, bytes, start, length);
    return mask === "hash" ? this.#hash(text.view()) : lastCharacters(text);
  }

  #hash(value: Buffer): Buffer {
    invariant(this.#key !== null, "a rule that hashes has a key");
    return Buffer.from(createHmac("sha256", this.#key).update(value).digest("hex"), "latin1");
  }
}

function lastCharacters(text: ByteWriter): Buffer {
  const bytes = text.view();
  let count = 0;
  for (const byte of bytes) if (!continues(byte)) count++;
  const kept = Math.min(KEPT_CHARACTERS_MAX, count >> 2);
  let from = bytes.length;
  for (let left = kept; left > 0; left--)
    do from--;
    while (continues(bytes[from]!));
  return Buffer.concat([STARS, bytes.subarray(from)]);
}

/** A byte of UTF-8 that does not begin a character. */
function continues(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}
