/** How what is captured differs from what a SELECT shows. */
import { tableId } from "../../../../src/core/model/schema.ts";
import { quoteIdentifier, quoteTable } from "../../../../src/postgres/quote.ts";
import { member, type Publication } from "./publication.ts";
import type { CatalogTable } from "./catalog.ts";
import type { Selected } from "./selection.ts";

/** More names than this would make an unreadable line. */
export const NAMED_COUNT_MAX = 10;

export interface LeftOut {
  readonly what: string;
  readonly fix: string;
}

/** Columns that no sink gets, because the publication has a column list without them. Null: there are none. */
export function leftOutByLists(name: string, selected: Selected): LeftOut | null {
  const { publication, catalog } = selected;
  if (publication === undefined) return null;
  const left = uncarriedColumns(selected, "");
  if (left === null) return null;
  return {
    what: `the column lists of the publication ${name} leave out columns, which no sink gets: ${left.named}`,
    fix: fixOf(name, publication, catalog.tables, left.oids),
  };
}

/** Columns of captured tables that the log does not carry, and their tables; null: there are none. */
interface UncarriedColumns {
  readonly named: string;
  readonly oids: ReadonlySet<number>;
}

/** `generated`: see `CatalogColumn`. */
export function uncarriedColumns({ captured }: Selected, generated: string): UncarriedColumns | null {
  const left = captured.flatMap(({ table, shape }) => {
    const carried = new Set(shape.columns.map((column) => column.name));
    const columns = table.columns.filter((column) => column.generated === generated && !carried.has(column.name));
    return columns.length === 0 ? [] : [{ table, columns }];
  });
  if (left.length === 0) return null;
  const named = left.slice(0, NAMED_COUNT_MAX).map(({ table, columns }) => {
    return `${tableId(table.schema, table.table)} (${columns.map((column) => column.name).join(", ")})`;
  });
  const more = left.length > named.length ? ` and of ${left.length - named.length} more tables` : "";
  return { named: `${named.join(", ")}${more}`, oids: new Set(left.map(({ table }) => table.oid)) };
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

/**
 * By table id, what a SELECT shows besides a table's own rows. The log has the rows of tables that inherit from it (those of a
 * hypertable, too) under their own names.
 */
export function shownBesides({ captured, apart }: Selected): ReadonlyMap<string, string> {
  const taken = new Set(captured.map(({ table }) => quoteTable(table.schema, table.table)));
  return new Map(
    captured.flatMap(({ table, shape }) => {
      if (table.isTree === true) return [];
      const named = table.heirs.slice(0, NAMED_COUNT_MAX).map(({ schema, table: name }) => {
        const heir = quoteTable(schema, name);
        return `${tableId(schema, name)}${taken.has(heir) ? "" : ", not captured"}`;
      });
      if (named.length === 0) return [];
      const why = apart.get(table.oid)?.reason;
      const more = table.heirs.length > named.length ? `; and ${table.heirs.length - named.length} more` : "";
      const what = `its own rows alone are captured and compared; SELECT also shows those of tables that inherit from it (${named.join("; ")}${more})${why === undefined ? "" : `. They are not one table: ${why}`}`;
      return [[shape.id, what] as const];
    }),
  );
}
