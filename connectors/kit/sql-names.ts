/** Names in engines that find a table or column whatever the case of its ASCII letters, even if it is quoted (DuckDB, SQLite). */
import { createHash } from "node:crypto";
import type { Column } from "../../src/core/model/schema.ts";

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Letters other than ASCII keep their case. */
export function fold(name: string): string {
  return name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/**
 * If a column's name differs only in case from an earlier one, or from one of `reserved`, it gets a suffix: `_` and 8 hex
 * digits of its hash.
 */
export function distinctNames(columns: readonly Pick<Column, "name">[], reserved: Iterable<string>): string[] {
  const taken = new Set<string>(reserved);
  return columns.map(({ name }) => {
    const chosen = taken.has(fold(name))
      ? `${name}_${createHash("sha256").update(name).digest("hex").slice(0, 8)}`
      : name;
    taken.add(fold(chosen));
    return chosen;
  });
}
