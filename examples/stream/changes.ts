import { DELETE, type TableWrites } from "../../src/core/model/batch.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import { CELL_UNCHANGED, CellMap } from "../../src/core/model/tuple.ts";
import { changeOffset, changeOp } from "../../src/core/targets/history.ts";
import { writeJson } from "../../src/core/values/json.ts";

const cells = new CellMap();
const out = new ByteWriter();

/**
 * An entry as a line. `row`: what the change left; of a delete, and of the key that a changed one leaves, the key. `unchanged`:
 * names of the columns that the log did not carry, which are not in `row`.
 */
export function lineOf(writes: TableWrites, entry: number): string {
  const { table } = writes;
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const isGone = writes.action[entry] === DELETE;
  const shown = isGone ? table.key : table.columns.keys();
  cells.read(block.bytes, isGone ? block.before[row]! : block.after[row]!);
  const unchanged: string[] = [];
  out.reset();
  for (const c of shown) {
    const { name, type } = table.columns[c]!;
    if (cells.kind[c] === CELL_UNCHANGED) {
      unchanged.push(name);
      continue;
    }
    out.utf8(`${out.length === 0 ? "{" : ","}${JSON.stringify(name)}:`);
    writeJson(out, type, cells.kind[c]!, block.bytes, cells.start[c]!, cells.length[c]!);
  }
  out.ascii("}");
  const version = block.transactions.version[block.tx[row]!]!;
  const head = `{"table":${JSON.stringify(table.id)},"op":"${changeOp(writes, entry)}","version":"${version}"`;
  const tail = unchanged.length === 0 ? "" : `,"unchanged":${JSON.stringify(unchanged)}`;
  return `${head},"index":${changeOffset(block, row)},"row":${out.view().toString("utf8")}${tail}}`;
}
