/** What identifies a table's rows: its replica identity, or the columns that the configuration chooses within it. */
import type { ChosenKey } from "../../../../src/core/contracts/connector.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import type { CatalogIndex, CatalogTable } from "./catalog.ts";

export interface Key {
  /** Names of the columns, in key order. */
  readonly columns: readonly string[];
  readonly deferrable: boolean;
  /** No constraint enforces it: only the configuration says that its values are unique. */
  readonly unenforced?: true;
}

/** A replica identity is FULL if every column is in it. */
export const FULL = "f";

/** The statement after which the log has whole old rows. Postgres passes the identity of a table on to none of its partitions. */
export function fullIdentity({ schema, table, kind }: Pick<CatalogTable, "schema" | "table" | "kind">): string {
  const name = quoteTable(schema, table);
  if (kind !== "p") return `ALTER TABLE ${name} REPLICA IDENTITY FULL;`;
  const each = `SELECT relid FROM pg_partition_tree(${quoteLiteral(name)})`;
  const alter = "EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', part)";
  return `DO ${quoteLiteral(`DECLARE part regclass; BEGIN FOR part IN ${each} LOOP ${alter}; END LOOP; END`)};`;
}

/**
 * A table's key by the contract: its replica identity; under FULL the primary key, otherwise the smallest unique index over
 * not-null columns. Undefined if there is none.
 */
export function keyOf(table: CatalogTable): Key | undefined {
  const index = identityIndex(table);
  if (index === undefined) return undefined;
  const names = index.columns.map((attnum) => table.columns.find((column) => column.attnum === attnum)?.name);
  const columns = names.filter((name) => name !== undefined);
  return columns.length === names.length ? { columns, deferrable: !index.immediate } : undefined;
}

function identityIndex(table: CatalogTable): CatalogIndex | undefined {
  const primary = table.uniques.find((index) => index.primary);
  switch (table.identity) {
    case "d":
      // The server logs no old key for a deferrable primary key.
      return primary?.immediate === true ? primary : undefined;
    case "i":
      return table.uniques.find((index) => index.identity);
    case FULL: {
      const notNull = notNullColumns(table);
      const usable = table.uniques.filter((index) => index.columns.every((attnum) => notNull.has(attnum)));
      // The smallest comes first. A key that is checked at once is better: its rows need no special compaction.
      return primary ?? usable.find((index) => index.immediate) ?? usable[0];
    }
    default:
      return undefined;
  }
}

function notNullColumns(table: CatalogTable): ReadonlySet<number> {
  return new Set(table.columns.filter((column) => column.notNull).map((column) => column.attnum));
}

export type FoundKey =
  | { readonly kind: "own" | "chosen"; readonly key: Key }
  | { readonly kind: "none" }
  /** The chosen columns include one that the table does not have, or can't be its key. */
  | { readonly kind: "unknown" | "unfit"; readonly reason: string; readonly fix: string };

/** The key if `wanted` is chosen for the table; null: nothing is chosen. */
export function findKey(table: CatalogTable, wanted: ChosenKey | null): FoundKey {
  const own = keyOf(table);
  const ownKey: FoundKey = own === undefined ? { kind: "none" } : { kind: "own", key: own };
  if (wanted === null) return ownKey;
  const columns = wanted.columns.map((name) => table.columns.find((column) => column.name === name));
  const unknown = wanted.columns.find((_, i) => columns[i] === undefined);
  if (unknown !== undefined) {
    if (wanted.isForMany) return ownKey;
    const reason = `its key is to be ${list(wanted)}, and it has no column ${JSON.stringify(unknown)}`;
    return { kind: "unknown", reason, fix: "Take the column's name at the source." };
  }
  const identity = identityColumns(table);
  // The table is left out anyway: the rule is meant for others.
  if (identity.size === 0 && wanted.isForMany) return ownKey;
  const numbers = columns.map((column) => column!.attnum);
  const outside = columns.find((column) => !identity.has(column!.attnum));
  if (outside != null) return outsideIdentity(table, wanted, outside.name);
  const proof = proofOf(table, numbers);
  // Without whole old rows, a value that the log leaves out might be taken from another row with the same key.
  if (proof === undefined && table.identity !== FULL) return unproven(table, wanted);
  if (proof === undefined)
    return { kind: "chosen", key: { columns: wanted.columns, deferrable: true, unenforced: true } };
  return { kind: "chosen", key: { columns: wanted.columns, deferrable: !proof.immediate } };
}

/** Columns whose values the log has for every old row that is needed. */
function identityColumns(table: CatalogTable): ReadonlySet<number> {
  if (table.identity === FULL) return new Set(table.columns.map(({ attnum }) => attnum));
  return new Set(identityIndex(table)?.columns);
}

/** The index that makes these columns unique. Compacting a deferrable key needs whole old rows, which only FULL gives. */
function proofOf(table: CatalogTable, columns: readonly number[]): CatalogIndex | undefined {
  const notNull = notNullColumns(table);
  if (!columns.every((attnum) => notNull.has(attnum))) return undefined;
  const proofs = table.uniques.filter((index) => index.columns.every((attnum) => columns.includes(attnum)));
  return proofs.find((index) => index.immediate) ?? (table.identity === FULL ? proofs[0] : undefined);
}

function outsideIdentity(table: CatalogTable, wanted: ChosenKey, column: string): FoundKey {
  const reason = `its key is to be ${list(wanted)}, and ${JSON.stringify(column)} is not in its replica identity`;
  return { kind: "unfit", reason, fix: fullIdentity(table) };
}

function unproven(table: CatalogTable, wanted: ChosenKey): FoundKey {
  const name = quoteTable(table.schema, table.table);
  const nullable = table.columns.filter((column) => wanted.columns.includes(column.name) && !column.notNull);
  const statements = [
    ...nullable.map((column) => `ALTER COLUMN ${quoteIdentifier(column.name)} SET NOT NULL`),
    `ADD UNIQUE (${wanted.columns.map(quoteIdentifier).join(", ")})`,
  ];
  const reason = `its key is to be ${list(wanted)}, and no unique constraint over not-null columns keeps its rows apart by that (without one its replica identity has to be FULL)`;
  return { kind: "unfit", reason, fix: `ALTER TABLE ${name} ${statements.join(", ")};` };
}

function list({ columns }: ChosenKey): string {
  return columns.map((name) => JSON.stringify(name)).join(", ");
}
