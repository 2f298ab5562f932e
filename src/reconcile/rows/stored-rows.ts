/** Asks a sink for the rows that it must hold. */
import type { ComparedSlice, Inspection, StoredRow } from "../../core/contracts/comparing.ts";
import { failedCell, isComputed } from "../../core/model/failed-cell.ts";
import { isPossibleKey, mayLackKeyDates } from "../../core/model/row-id.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { expectedCells, type SourceRow } from "./judge.ts";

/** How many rows this process holds as text at a time, at most twice. */
const ROWS_PER_PIECE = 1_000;

/** The rows that the sink's cheap comparison can't prove equal, and the number of bytes read for it. */
export async function notEqual(
  inspection: Inspection,
  table: TableVersion,
  { block, from, to, versionMax }: ComparedSlice,
  wanted: readonly SourceRow[],
  signal: AbortSignal,
): Promise<{ readonly left: readonly SourceRow[]; readonly byteCount: number }> {
  const all = { left: wanted, byteCount: 0 };
  // If few rows of the range are wanted, they are requested one by one.
  if (wanted.length * 2 < to - from || !wanted.every(({ isThere }) => isThere)) return all;
  if (askable(table, wanted).length < wanted.length) return all;
  const rows = wanted.map(({ row }) => row);
  if (isComputed(table) && rows.some((row) => failedCell(table, block.bytes, block.after[row]!) !== null)) return all;
  const keys = wanted.map(({ key }) => key);
  const ids = wanted.map(({ id }) => id);
  const cells = (i: number): readonly (string | null)[] => expectedCells(inspection, table, block, rows[i]!);
  const equal = await inspection.equal?.(table, { block, rows, keys, ids, cells, versionMax }, signal);
  if (equal == null) return all;
  return { left: wanted.filter((_, i) => equal.isEqual[i] === 0), byteCount: equal.byteCount };
}

export interface Piece {
  readonly rows: readonly SourceRow[];
  readonly stored: readonly StoredRow[];
}

/** The sink's rows, piece by piece; the next piece is read while one is judged. */
export async function* storedRows(
  inspection: Inspection,
  table: TableVersion,
  rows: readonly SourceRow[],
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  const ask = (from: number): Promise<Piece> | null => {
    const piece = rows.slice(from, from + ROWS_PER_PIECE);
    if (piece.length === 0) return null;
    const keys = askable(table, piece).map(({ key }) => key);
    return inspection.rows(table, keys, signal).then((stored) => ({ rows: piece, stored }));
  };
  let next = ask(0);
  for (let from = ROWS_PER_PIECE; next !== null; from += ROWS_PER_PIECE) {
    const piece = await next;
    next = ask(from);
    // The failure surfaces where the piece is awaited.
    next?.catch(() => undefined);
    yield piece;
  }
}

export function bytesOf(stored: readonly StoredRow[]): number {
  let sum = 0;
  for (const { cells } of stored) for (const cell of cells) sum += cell === null ? 0 : Buffer.byteLength(cell);
  return sum;
}

/** No target could hold, or even read, the other keys. */
function askable(table: TableVersion, rows: readonly SourceRow[]): readonly SourceRow[] {
  return mayLackKeyDates(table) ? rows.filter(({ key }) => isPossibleKey(table, key)) : rows;
}
