/** Statements, and the data of the COPYs among them, in one write. */
import type { TableWrites } from "../../../../src/core/model/batch.ts";
import type { Outcome } from "../../../../src/core/contracts/sink.ts";
import { failpoint } from "../../../../src/core/failpoint.ts";
import { copyDirect, copyStaged, isPatch, maskOf, stagedAction } from "./copy.ts";
import type { Session } from "../wire/session.ts";
import type { TargetTable } from "../tables/target-table.ts";
import type { Answer } from "../../../../src/postgres/exchange.ts";
import { Frames } from "../wire/frames.ts";
import { NO_TUPLE } from "../../../../src/core/model/block.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { changeOffset, changeOp } from "../../../../src/core/targets/history.ts";
import { CELL_BINARY, CELL_TEXT, CELL_UNCHANGED, CellMap } from "../../../../src/core/model/tuple.ts";
import { writeBinaryText } from "../../../../src/core/values/text.ts";
import { asArrayText, BINARY_FLOATS, BINARY_KEY_TEXT, isHiding, TEXT_TO_PARSE } from "../values/cells.ts";
import { STAGED_DELETE, STAGED_MOVE } from "../tables/staged.ts";
import { copyVisible, hiddenCount } from "../values/nul.ts";
import { TextStamp } from "../values/stamp.ts";

/** A COPY of these entries into the table itself (only puts) or into its staging table. */
export interface Copy {
  readonly table: TargetTable;
  readonly writes: TableWrites;
  readonly entries: Uint32Array;
  readonly into: "stage" | "table";
}

interface Rendered {
  readonly isBinary: boolean;
  readonly from: number;
  readonly to: number;
}

/** The rendered rows of some COPYs. Reused: the next rendering replaces them. */
export class RenderedCopies {
  readonly #frames = new Frames();
  /** Weak, because there may be thousands of sent COPYs that nobody needs any more. */
  #rendered = new WeakMap<Copy, Rendered>();

  render(copies: readonly Copy[]): this {
    // If a row turns out to need text, its table is marked and everything is rendered again: at most once per table.
    for (;;) {
      const binary = copies.map(({ table }) => !table.textRows);
      this.#frames.reset();
      this.#rendered = new WeakMap();
      if (copies.every((copy, i) => this.#add(copy, binary[i]!))) return this;
    }
  }

  #add(copy: Copy, isBinary: boolean): boolean {
    const from = this.#frames.out.length;
    if (!writeRows(this.#frames, copy, isBinary)) return false;
    this.#rendered.set(copy, { isBinary, from, to: this.#frames.out.length });
    return true;
  }

  /**
   * Sends the statements with the rows of the COPYs among them. The COPYs are all the rendered ones, or a consecutive
   * part of them, in order.
   */
  async send(
    session: Session,
    statements: readonly (string | Copy)[],
    { waiting }: Outcome,
    signal: AbortSignal,
  ): Promise<Answer> {
    const sql: string[] = [];
    const rendered: Rendered[] = [];
    for (const statement of statements) {
      if (typeof statement === "string") {
        sql.push(statement);
        continue;
      }
      const rows = this.#rendered.get(statement)!;
      rendered.push(rows);
      const { table, into } = statement;
      sql.push(into === "stage" ? table.copyStage(rows.isBinary) : table.copyDirect(rows.isBinary));
    }
    failpoint("postgres-sink.before-send");
    const rows = this.#frames.out.view().subarray(rendered[0]?.from ?? 0, rendered.at(-1)?.to ?? 0);
    const answer = await session.query(sql.join("; "), signal, { rows, onWritten: waiting });
    failpoint("postgres-sink.answered");
    return answer;
  }
}

function writeRows(frames: Frames, { table, writes, entries, into }: Copy, binary: boolean): boolean {
  if (!binary) {
    const write = into === "stage" ? copyStagedText : copyDirectText;
    table.textRows = write(frames, table, writes, entries);
    return true;
  }
  const write = into === "stage" ? copyStaged : copyDirect;
  if (write(frames, table, writes, entries)) return true;
  table.textRows = true;
  return false;
}

// Rows as COPY data in text form: for streams in text form, and for rows with a cell whose binary form is unknown.

const TAB = 0x09;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
const UPPER_N = 0x4e;

/** The character after the backslash for a byte that COPY treats specially; 0 for all others. */
const ESCAPES = new Uint8Array(256);
ESCAPES[BACKSLASH] = BACKSLASH;
ESCAPES[TAB] = 0x74; // t
ESCAPES[NEWLINE] = 0x6e; // n
ESCAPES[0x0d] = 0x72; // r

const stamp = new TextStamp();
const after = new CellMap();
const before = new CellMap();
const scratch = new ByteWriter(1024);
const visible = new ByteWriter(64);
let neededText = false;

/** Both return whether a row needed text form: whether a cell was text that only the server can parse. */
function copyDirectText(frames: Frames, table: TargetTable, writes: TableWrites, entries: Uint32Array): boolean {
  stamp.forget();
  neededText = false;
  frames.beginCopy(false);
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    const block = writes.blocks[writes.block[entry]!]!;
    const row = writes.row[entry]!;
    const { out } = frames;
    const stamped = stamp.of(block, row);
    out.copy(stamped, 0, stamped.length);
    after.read(block.bytes, block.after[row]!);
    for (let c = 0; c < table.columnCount; c++) writeCell(out, table, after, c, block.bytes);
    out.byte(NEWLINE);
    frames.rowWritten();
  }
  frames.endCopy(false);
  return neededText;
}

function copyStagedText(frames: Frames, table: TargetTable, writes: TableWrites, entries: Uint32Array): boolean {
  stamp.forget();
  neededText = false;
  frames.beginCopy(false);
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    const block = writes.blocks[writes.block[entry]!]!;
    const row = writes.row[entry]!;
    const action = stagedAction(writes, entry, table);
    if (action !== STAGED_DELETE) after.read(block.bytes, block.after[row]!);
    if (block.before[row] !== NO_TUPLE) before.read(block.bytes, block.before[row]!);
    const { out } = frames;
    const patched = isPatch(action);
    out.ascii(`${entry}\t${action}\t${patched ? `\\\\x${Buffer.from(maskOf(after)).toString("hex")}` : "\\N"}\t`);
    const stamped = stamp.of(block, row);
    out.copy(stamped, 0, stamped.length);
    writeStagedCells(out, table, block.bytes, action);
    if (table.history !== null) out.ascii(`\t${changeOp(writes, entry)}\t${changeOffset(block, row)}`);
    out.byte(NEWLINE);
    frames.rowWritten();
  }
  frames.endCopy(false);
  return neededText;
}

function writeStagedCells(out: ByteWriter, table: TargetTable, bytes: Uint8Array, action: number): void {
  for (let c = 0; c < table.columnCount; c++) {
    if (action !== STAGED_DELETE) writeCell(out, table, after, c, bytes);
    else if (table.inDelete[c] === 1) writeCell(out, table, before, c, bytes);
    else writeNull(out);
  }
  for (const c of table.keyColumns) {
    if (!isPatch(action)) writeNull(out);
    else if (action !== STAGED_MOVE && after.kind[c] !== CELL_UNCHANGED) writeCell(out, table, after, c, bytes);
    else writeCell(out, table, before, c, bytes);
  }
}

/** One field, after its tab. Null and unchanged cells become null. */
function writeCell(out: ByteWriter, table: TargetTable, cells: CellMap, c: number, bytes: Uint8Array): void {
  const kind = cells.kind[c]!;
  if (kind === CELL_TEXT) {
    if (table.forms.text[c] === TEXT_TO_PARSE) neededText = true;
    out.byte(TAB);
    writeVisible(out, table, c, bytes, cells.start[c]!, cells.length[c]!);
  } else if (kind === CELL_BINARY) {
    out.byte(TAB);
    scratch.reset();
    writeBinaryText(scratch, table.columnTypes[c]!, bytes, cells.start[c]!, cells.length[c]!);
    writeVisible(out, table, c, scratch.bytes, 0, scratch.length);
  } else {
    writeNull(out);
  }
}

function writeVisible(
  out: ByteWriter,
  table: TargetTable,
  c: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  const form = table.forms.binary[c]!;
  const isKey = form === BINARY_KEY_TEXT;
  if (form === BINARY_FLOATS) {
    writeEscaped(out, bytes, start, length);
    return asArrayText(out, length);
  }
  if (!isHiding(form) || hiddenCount(bytes, start, length, isKey) === 0) return writeEscaped(out, bytes, start, length);
  visible.reset();
  copyVisible(visible, bytes, start, length, isKey);
  writeEscaped(out, visible.bytes, 0, visible.length);
}

function writeNull(out: ByteWriter): void {
  out.reserve(3);
  out.bytes[out.length] = TAB;
  out.bytes[out.length + 1] = BACKSLASH;
  out.bytes[out.length + 2] = UPPER_N;
  out.length += 3;
}

/** From this size on, reserving room for the worst case (twice the length) costs more than counting. */
const COUNTED_BYTES_MIN = 64 * 1024;

function countEscapes(bytes: Uint8Array, start: number, length: number): number {
  let count = 0;
  for (let i = start, end = start + length; i < end; i++) if (ESCAPES[bytes[i]!] !== 0) count++;
  return count;
}

function writeEscaped(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  out.reserve(length > COUNTED_BYTES_MIN ? length + countEscapes(bytes, start, length) : length * 2);
  const to = out.bytes;
  let at = out.length;
  for (let i = start, end = start + length; i < end; i++) {
    const byte = bytes[i]!;
    const escape = ESCAPES[byte]!;
    if (escape === 0) {
      to[at++] = byte;
    } else {
      to[at++] = BACKSLASH;
      to[at++] = escape;
    }
  }
  out.length = at;
}
