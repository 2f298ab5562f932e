/**
 * A change as a line of CSV, for DuckDB, which makes Parquet of it: each cell's text in quotes, nothing for a null, then
 * Millrace's own columns. A cell has Postgres' text form; an array has its JSON form. `parquet-sql.ts` reads it.
 */
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { CELL_NULL, CELL_TEXT, CELL_UNCHANGED } from "../../../src/core/model/tuple.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { writeJson } from "../../../src/core/values/json.ts";
import { writeBinaryText } from "../../../src/core/values/text.ts";
import type { OfTransaction, Row, RowWriter } from "./row-text.ts";

const COMMA = 0x2c;
const LINE_FEED = 0x0a;
const QUOTE = 0x22;
/** Up to this size a copying loop is faster than searching and copying in bulk. */
const SHORT_BYTES_MAX = 48;
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

export class CsvRows implements RowWriter {
  readonly text = "csv";
  #scratch = new ByteWriter(1024);

  row(out: ByteWriter, { table, bytes, cells, op, offset, isKeyOnly }: Row, of: OfTransaction): void {
    const { columns, key } = table;
    let unchanged = 0;
    for (let c = 0; c < columns.length; c++) {
      const kind = cells.kind[c]!;
      if (kind === CELL_UNCHANGED) unchanged++;
      else if (kind !== CELL_NULL && (!isKeyOnly || key.includes(c))) {
        this.#cell(out, columns[c]!.type, kind, bytes, cells.start[c]!, cells.length[c]!);
      }
      out.byte(COMMA);
    }
    const names = unchanged === 0 || isKeyOnly ? null : columns.filter((_, c) => cells.kind[c] === CELL_UNCHANGED);
    this.#tail(out, op, offset, of, names === null ? "" : JSON.stringify(names.map(({ name }) => name)));
    if (this.#scratch.bytes.length > KEPT_BYTES_MAX) this.#scratch = new ByteWriter(1024);
  }

  mark(out: ByteWriter, { columns }: TableVersion, op: "t" | "s", offset: number, of: OfTransaction): void {
    out.ascii(",".repeat(columns.length));
    this.#tail(out, op, offset, of, "");
  }

  #cell(out: ByteWriter, type: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number): void {
    if (kind === CELL_TEXT && type.kind !== "array") return quoted(out, bytes, start, length);
    const scratch = this.#scratch;
    scratch.reset();
    if (type.kind === "array") writeJson(scratch, type, kind, bytes, start, length);
    else writeBinaryText(scratch, type, bytes, start, length);
    return quoted(out, scratch.bytes, 0, scratch.length);
  }

  #tail(out: ByteWriter, op: string, offset: number, of: OfTransaction, unchanged: string): void {
    out.ascii(`${op},${of.version},${offset},${of.commitTimeUs},`);
    this.#text(out, of.id);
    out.byte(COMMA);
    this.#text(out, unchanged);
    out.byte(LINE_FEED);
  }

  #text(out: ByteWriter, text: string): void {
    if (text === "") return;
    this.#scratch.reset();
    this.#scratch.utf8(text);
    quoted(out, this.#scratch.bytes, 0, this.#scratch.length);
  }
}

/** With doubled quotes inside. */
function quoted(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  if (length > SHORT_BYTES_MAX) return quotedInBulk(out, Buffer.from(bytes.buffer, bytes.byteOffset + start, length));
  out.reserve(2 * length + 2);
  const to = out.bytes;
  let at = out.length;
  to[at++] = QUOTE;
  for (let i = start, end = start + length; i < end; i++) {
    const byte = bytes[i]!;
    if (byte === QUOTE) to[at++] = QUOTE;
    to[at++] = byte;
  }
  to[at++] = QUOTE;
  out.length = at;
}

function quotedInBulk(out: ByteWriter, view: Buffer): void {
  out.byte(QUOTE);
  let from = 0;
  for (let at = view.indexOf(QUOTE); at >= 0; at = view.indexOf(QUOTE, from)) {
    out.copy(view, from, at + 1 - from);
    out.byte(QUOTE);
    from = at + 1;
  }
  out.copy(view, from, view.length - from);
  out.byte(QUOTE);
}
