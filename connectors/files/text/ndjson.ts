/** A change as a line of JSON, which files have as it is: the row's columns beside Millrace's own. */
import type { ByteWriter } from "../../../src/core/bytes.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { CELL_UNCHANGED } from "../../../src/core/model/tuple.ts";
import { writeUnixTimeJson } from "../../../src/core/values/calendar.ts";
import { writeJson } from "../../../src/core/values/json.ts";
import { writeJsonText } from "../../../src/core/values/json-string.ts";
import type { Mark, OfTransaction, Row, RowWriter } from "./row-text.ts";

const COMMA = 0x2c;
const LINE_FEED = 0x0a;
const QUOTE = 0x22;
const CLOSE_BRACE = 0x7d;
const CLOSE_BRACKET = 0x5d;

export class NdjsonRows implements RowWriter {
  readonly text = "ndjson";
  /** `,"name":` of each column. */
  readonly #names = new WeakMap<TableVersion, readonly Buffer[]>();

  row(out: ByteWriter, row: Row, of: OfTransaction): void {
    const { table, bytes, cells, isKeyOnly } = row;
    const names = this.#namesOf(table);
    const { columns } = table;
    writeHead(out, row, of);
    let unchanged = 0;
    const count = isKeyOnly ? table.key.length : columns.length;
    for (let k = 0; k < count; k++) {
      const c = isKeyOnly ? table.key[k]! : k;
      const kind = cells.kind[c]!;
      if (kind === CELL_UNCHANGED) {
        unchanged++;
        continue;
      }
      const name = names[c]!;
      out.copy(name, 0, name.length);
      writeJson(out, columns[c]!.type, kind, bytes, cells.start[c]!, cells.length[c]!);
    }
    if (unchanged > 0) this.#writeUnchanged(out, table, cells.kind);
    out.byte(CLOSE_BRACE);
    out.byte(LINE_FEED);
  }

  mark(out: ByteWriter, mark: Mark, of: OfTransaction): void {
    writeHead(out, mark, of);
    for (const [name, value] of Object.entries(mark.table.scope ?? {})) {
      out.utf8(`,${JSON.stringify(name)}:`);
      writeJsonText(out, value);
    }
    out.byte(CLOSE_BRACE);
    out.byte(LINE_FEED);
  }

  #writeUnchanged(out: ByteWriter, { columns }: TableVersion, kinds: Uint8Array): void {
    out.ascii(',"_millrace_unchanged":[');
    let isFirst = true;
    for (const [c, { name }] of columns.entries()) {
      if (kinds[c] !== CELL_UNCHANGED) continue;
      if (!isFirst) out.byte(COMMA);
      isFirst = false;
      writeJsonText(out, name);
    }
    out.byte(CLOSE_BRACKET);
  }

  #namesOf(table: TableVersion): readonly Buffer[] {
    let names = this.#names.get(table);
    if (names === undefined) {
      names = table.columns.map(({ name }) => Buffer.from(`,${JSON.stringify(name)}:`));
      this.#names.set(table, names);
    }
    return names;
  }
}

function writeHead(
  out: ByteWriter,
  { sequence, op, offset }: Pick<Row, "sequence" | "op" | "offset">,
  { version, commitTimeUs, id }: OfTransaction,
): void {
  out.ascii(`{"_millrace_sequence":${sequence},"_millrace_op":"${op}",`);
  out.ascii(`"_millrace_version":${version},"_millrace_offset":${offset}`);
  out.ascii(',"_millrace_commit_time":"');
  writeUnixTimeJson(out, commitTimeUs);
  out.byte(QUOTE);
  if (id !== "") {
    out.ascii(',"_millrace_transaction":');
    writeJsonText(out, id);
  }
}
