/** Keys that no constraint enforces: reads find the rows that such a key does not tell apart. */
import type { Block } from "../../../../src/core/model/block.ts";
import { keyText } from "../../../../src/core/model/row-id.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { AmbiguousKey } from "../../../../src/core/contracts/row-reads.ts";
import { quoteIdentifier } from "../../../../src/postgres/quote.ts";
import type { LiveTable } from "./columns.ts";
import type { Wire } from "../snapshot/wire.ts";

/** Rows that no key range contains, because a column of the key is null. */
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

/** `condition`: rows with the last key of the previous chunk, which had one of them. */
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
