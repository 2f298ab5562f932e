/** Keys that are the operator's word alone: rows that they don't tell apart are found where rows are read. */
import type { Block } from "../../../../src/core/model/block.ts";
import { keyText } from "../../../../src/core/model/row-id.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { AmbiguousKey } from "../../../../src/core/contracts/row-reads.ts";
import { quoteIdentifier } from "../../quote.ts";
import type { LiveTable } from "./columns.ts";
import type { Wire } from "../snapshot/wire.ts";

/** Rows that no range has, as they are null in a column of the key. */
export async function expectNoNulls(
  wire: Wire,
  table: TableVersion,
  live: LiveTable,
  signal: AbortSignal,
): Promise<void> {
  const names = table.key.filter((ordinal) => table.columns[ordinal]!.nullable).map((o) => live.columns[o]!.name);
  if (names.length === 0) return;
  const isNull = names.map((name) => `${quoteIdentifier(name)} IS NULL`).join(" or ");
  const query = `SELECT 1 FROM ${live.sql} WHERE ${isNull} LIMIT 1`;
  const found = await wire.rows(`looking for nulls in the key of ${table.id}`, query, signal);
  if (found.length > 0) throw new AmbiguousKey("null");
}

/** `condition`: rows of the last key of the chunk before, of which that chunk has had one. */
export async function expectOne(
  wire: Wire,
  table: TableVersion,
  live: LiveTable,
  condition: string,
  signal: AbortSignal,
): Promise<void> {
  const query = `SELECT 1 FROM ${live.sql} WHERE ${condition} LIMIT 2`;
  const found = await wire.rows(`looking for rows of one key of ${table.id}`, query, signal);
  if (found.length > 1) throw new AmbiguousKey("twice");
}

export function expectApart(table: TableVersion, { bytes, after, count }: Block): void {
  const seen = new Set<string>();
  for (let row = 0; row < count; row++) {
    const key = JSON.stringify(keyText(table, bytes, after[row]!));
    if (seen.has(key)) throw new AmbiguousKey("twice");
    seen.add(key);
  }
}
