/** Columns that no sink gets, because the publication has a column list without them. */
import { tableId } from "../../../../src/core/model/schema.ts";
import { quoteIdentifier } from "../../../../src/postgres/quote.ts";
import { member, type Publication } from "../log/publication.ts";
import type { CatalogTable } from "./catalog.ts";
import type { Selected } from "./selection.ts";

/** More names than this would make an unreadable line. */
const NAMED_COUNT_MAX = 10;

export interface LeftOut {
  readonly what: string;
  readonly fix: string;
}

/** Null: the publication carries all columns of the captured tables. */
export function leftOutByLists(name: string, { captured, publication, catalog }: Selected): LeftOut | null {
  if (publication === undefined) return null;
  const narrowed = captured.flatMap(({ table, shape }) => {
    const carried = new Set(shape.columns.map((column) => column.name));
    const columns = table.columns.filter((column) => column.generated === "" && !carried.has(column.name));
    return columns.length === 0 ? [] : [{ table, columns }];
  });
  if (narrowed.length === 0) return null;
  const named = narrowed.slice(0, NAMED_COUNT_MAX).map(({ table, columns }) => {
    return `${tableId(table.schema, table.table)} (${columns.map((column) => column.name).join(", ")})`;
  });
  const more = narrowed.length > named.length ? ` and of ${narrowed.length - named.length} more tables` : "";
  const whole = new Set(narrowed.map(({ table }) => table.oid));
  return {
    what: `the column lists of the publication ${name} leave out columns, which no sink gets: ${named.join(", ")}${more}`,
    fix: fixOf(name, publication, catalog.tables, whole),
  };
}

/** A table that leaves the publication, even for a moment, would be a gap: one statement names all its tables. */
function fixOf(
  name: string,
  { entries, schemaEntries, columns, filtered, hasStored }: Publication,
  tables: readonly CatalogTable[],
  whole: ReadonlySet<number>,
): string {
  const alter = `ALTER PUBLICATION ${quoteIdentifier(name)} SET TABLE`;
  const own = tables.filter(({ oid }) => entries.has(oid));
  const isPlain = own.length === entries.size && schemaEntries.size === 0 && filtered.size === 0 && !hasStored;
  const ifWanted = "If the sinks shall have them";
  if (!isPlain) return `${ifWanted}: ${alter} …; with every table of the publication, and without those lists.`;
  const members = own.map((table) => {
    const list = whole.has(table.oid) ? undefined : columns.get(table.oid);
    return list === undefined ? member(table) : `${member(table)} (${list.map(quoteIdentifier).join(", ")})`;
  });
  return `${ifWanted}: ${alter} ${members.join(", ")};`;
}
