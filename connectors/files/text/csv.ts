/**
 * A change as a line of CSV, for DuckDB, which makes Parquet of it: each cell's text in quotes, nothing for a null, then
 * Millrace's own columns. A cell has Postgres' text form; an array has its JSON form. `parquet.ts` reads it.
 */
import { ByteWriter } from "../../../src/core/bytes.ts";
import { CELL_NULL, CELL_TEXT, CELL_UNCHANGED } from "../../../src/core/model/tuple.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { writeJson } from "../../../src/core/values/json.ts";
import { writeBinaryText } from "../../../src/core/values/text.ts";
import { writeDoublingQuotes } from "../../kit/duckdb.ts";
import { columnNames } from "../names.ts";
import type { Mark, OfTransaction, Row, RowWriter } from "./row-text.ts";

const COMMA = 0x2c;
const LINE_FEED = 0x0a;
const QUOTE = 0x22;
/** Up to this size a copying loop is faster than searching and copying in bulk. */
const SHORT_BYTES_MAX = 48;
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

export class CsvRows implements RowWriter {
  readonly text = "csv";
  readonly #names = new WeakMap<TableVersion, readonly string[]>();
  #scratch = new ByteWriter(1024);

  row(out: ByteWriter, row: Row, of: OfTransaction): void {
    const { table, bytes, cells, isKeyOnly } = row;
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
    this.#tail(out, row, of, unchanged === 0 || isKeyOnly ? "" : this.#unchanged(table, cells.kind));
    if (this.#scratch.bytes.length > KEPT_BYTES_MAX) this.#scratch = new ByteWriter(1024);
  }

  mark(out: ByteWriter, mark: Mark, of: OfTransaction): void {
    const { columns, scope = {} } = mark.table;
    const values = Object.values(scope);
    out.ascii(",".repeat(columns.length - values.length));
    for (const value of values) {
      this.#quoted(out, value);
      out.byte(COMMA);
    }
    this.#tail(out, mark, of, "");
  }

  /** The names that the columns have in the file. */
  #unchanged(table: TableVersion, kinds: Uint8Array): string {
    let names = this.#names.get(table);
    if (names === undefined) this.#names.set(table, (names = columnNames(table.columns)));
    return JSON.stringify(names.filter((_, c) => kinds[c] === CELL_UNCHANGED));
  }

  #cell(out: ByteWriter, type: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number): void {
    if (kind === CELL_TEXT && type.kind !== "array") return quoted(out, bytes, start, length);
    const scratch = this.#scratch;
    scratch.reset();
    if (type.kind === "array") writeJson(scratch, type, kind, bytes, start, length);
    else writeBinaryText(scratch, type, bytes, start, length);
    return quoted(out, scratch.bytes, 0, scratch.length);
  }

  #tail(out: ByteWriter, row: Pick<Row, "sequence" | "op" | "offset">, of: OfTransaction, unchanged: string): void {
    out.ascii(`${row.sequence},${row.op},${of.version},${row.offset},${of.commitTimeUs},`);
    this.#text(out, of.id);
    out.byte(COMMA);
    this.#text(out, unchanged);
    out.byte(LINE_FEED);
  }

  #text(out: ByteWriter, text: string): void {
    if (text !== "") this.#quoted(out, text);
  }

  #quoted(out: ByteWriter, text: string): void {
    this.#scratch.reset();
    this.#scratch.utf8(text);
    quoted(out, this.#scratch.bytes, 0, this.#scratch.length);
  }
}

/** With doubled quotes inside. */
function quoted(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  if (length > SHORT_BYTES_MAX) {
    out.byte(QUOTE);
    writeDoublingQuotes(out, Buffer.from(bytes.buffer, bytes.byteOffset + start, length));
    return out.byte(QUOTE);
  }
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
