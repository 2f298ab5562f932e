import { type Block, OP_TRUNCATE } from "../../core/model/block.ts";
import type { TableVersion } from "../../core/model/schema.ts";

/** A part of a block that can be compacted together, or one truncate. */
export type Piece =
  | { readonly kind: "rows"; readonly from: number; readonly to: number }
  | { readonly kind: "truncate"; readonly row: number };

/**
 * Cuts rows `from`..`to` of a block where compaction must stop: at truncates, and where a table appears in a second version.
 * Most blocks have neither: they stay in one piece, and their rows are not looked at.
 */
export function cut(block: Block, from: number, to: number): readonly Piece[] {
  const truncate = block.op.subarray(from, to).includes(OP_TRUNCATE);
  if (!truncate && !hasTwoVersions(block.tables)) return from < to ? [{ kind: "rows", from, to }] : [];
  const pieces: Piece[] = [];
  let start = from;
  let versions = new Map<string, TableVersion>();
  const closeAt = (row: number) => {
    if (row > start) pieces.push({ kind: "rows", from: start, to: row });
    start = row;
    versions = new Map();
  };
  for (let row = from; row < to; row++) {
    const table = block.tables[block.table[row]!]!;
    if (block.op[row] === OP_TRUNCATE) {
      closeAt(row);
      pieces.push({ kind: "truncate", row });
      start = row + 1;
      continue;
    }
    const seen = versions.get(table.id);
    if (seen !== undefined && seen !== table) closeAt(row);
    versions.set(table.id, table);
  }
  closeAt(to);
  return pieces;
}

function hasTwoVersions(tables: readonly TableVersion[]): boolean {
  return tables.length > 1 && new Set(tables.map((table) => table.id)).size < tables.length;
}
