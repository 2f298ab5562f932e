/** What a role lacks to capture a table, and the exact statements that give it. */
import { quoteIdentifier, quoteTable } from "../../../../src/postgres/quote.ts";
import type { CatalogTable } from "./catalog.ts";

export interface Lack {
  readonly reason: string;
  readonly fix: string;
}

/** Missing privileges that keep a table from being captured; its shape and key are checked elsewhere. */
export function lackOf(table: CatalogTable, role: string): Lack | undefined {
  const cannotRead = !table.mayUseSchema || !table.mayRead;
  if (!cannotRead && !table.hidesRows) return undefined;
  const reasons = [
    ...(cannotRead ? ["the role may not read it"] : []),
    ...(table.hidesRows ? ["row-level security hides rows of it from the role"] : []),
  ];
  return { reason: reasons.join(", and "), fix: grantsFor([table], role) };
}

/** One statement per schema and kind of privilege, for all the tables together. */
export function grantsFor(tables: readonly CatalogTable[], role: string): string {
  const to = quoteIdentifier(role);
  const closed = new Set(tables.filter((table) => !table.mayUseSchema).map(({ schema }) => quoteIdentifier(schema)));
  const unread = tables.filter((table) => !table.mayRead).map(({ schema, table }) => quoteTable(schema, table));
  return [
    ...(closed.size === 0 ? [] : [`GRANT USAGE ON SCHEMA ${[...closed].join(", ")} TO ${to};`]),
    ...(unread.length === 0 ? [] : [`GRANT SELECT ON ${unread.join(", ")} TO ${to};`]),
    ...(tables.some((table) => table.hidesRows) ? [`ALTER ROLE ${to} BYPASSRLS;`] : []),
  ].join("\n");
}
