/**
 * Rows of which the function of a computed column, or of a document, failed, and documents that are too large: a cell without a
 * value, and with the reason (tuple.ts).
 */
import type { TableVersion } from "./schema.ts";
import { CELL_FAILED, CellMap } from "./tuple.ts";

export interface FailedCell {
  /** The column that the function makes; null: it makes the whole row. */
  readonly column: string | null;
  /** Which function failed, how and where, or what else is wrong; without values. */
  readonly how: string;
}

const cells = new CellMap();

/** Whether rows of the table may have such a cell. */
export function isComputed({ columns }: Pick<TableVersion, "columns">): boolean {
  return columns.some(({ computed }) => computed !== undefined);
}

/** The first one of the tuple at `offset`. */
export function failedCell({ columns }: TableVersion, bytes: Uint8Array, offset: number): FailedCell | null {
  cells.read(bytes, offset);
  for (let i = 0; i < cells.count; i++) {
    if (cells.kind[i] !== CELL_FAILED) continue;
    const start = cells.start[i]!;
    const how = Buffer.from(bytes.subarray(start, start + cells.length[i]!)).toString("utf8");
    const { name, computed } = columns[i]!;
    return { column: computed === "row" ? null : name, how };
  }
  return null;
}
