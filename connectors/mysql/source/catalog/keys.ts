/** What identifies a table's rows: its own key, or the columns that the configuration chooses. The log has whole old rows. */
import type { ChosenKey } from "../../../../src/core/contracts/connector.ts";
import { quoteName, quoteTable } from "../../quote.ts";
import type { CatalogTable } from "./catalog.ts";

export type FoundKey =
  | { readonly kind: "own" | "chosen"; readonly columns: readonly string[] }
  /** The table has no own key, and none is chosen for it. */
  | { readonly kind: "none" }
  /** The chosen columns include one that the table does not have, or can't be its key. */
  | { readonly kind: "unknown" | "unfit"; readonly reason: string; readonly fix: string };

/** The key if `wanted` is chosen for the table; null: nothing is chosen. */
export function findKey(table: CatalogTable, wanted: ChosenKey | null): FoundKey {
  const own = table.primary ?? table.uniques[0];
  const ownKey: FoundKey = own === undefined ? { kind: "none" } : { kind: "own", columns: own.columns };
  if (wanted === null) return ownKey;
  const columns = wanted.columns.map((name) => table.columns.find((column) => column.name === name));
  const unknown = wanted.columns.find((_, i) => columns[i] === undefined);
  const chosen = wanted.columns.map((name) => JSON.stringify(name)).join(", ");
  if (unknown !== undefined) {
    if (wanted.isForMany) return ownKey;
    const reason = `its key is to be ${chosen}, and it has no column ${JSON.stringify(unknown)}`;
    return { kind: "unknown", reason, fix: "Take the column's name at the source." };
  }
  const proofs = table.primary === undefined ? table.uniques : [table.primary, ...table.uniques];
  const isProven = proofs.some((index) => index.columns.every((name) => wanted.columns.includes(name)));
  const isNotNull = columns.every((column) => column?.nullable === false);
  if (isProven && isNotNull) return { kind: "chosen", columns: wanted.columns };
  // The table is left out anyway: the rule is meant for others.
  if (own === undefined && wanted.isForMany) return ownKey;
  const reason = `its key is to be ${chosen}, and no unique index over NOT NULL columns keeps its rows apart by that`;
  const nullable = wanted.columns.filter((_, i) => columns[i]?.nullable === true);
  const statements = [
    ...nullable.map((name) => `MODIFY ${quoteName(name)} … NOT NULL`),
    ...(isProven ? [] : [`ADD UNIQUE (${wanted.columns.map(quoteName).join(", ")})`]),
  ];
  return {
    kind: "unfit",
    reason,
    fix: `ALTER TABLE ${quoteTable(table.schema, table.table)} ${statements.join(", ")};`,
  };
}
