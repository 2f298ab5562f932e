/** The shape of a table in the catalogue; relation-shape.ts has that in the stream. */
import { createHash } from "node:crypto";
import { tableId, type Column, type Origins } from "../../../../src/core/model/schema.ts";
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { columnType, type PgTypes } from "./types.ts";
import type { Catalog, CatalogTable } from "./catalog.ts";
import type { FoundKey, Key } from "./keys.ts";

/** The shape in the catalogue, over the published columns (null: all that are not generated). */
export function catalogShape(
  table: CatalogTable,
  published: readonly string[] | null,
  { types, relation }: Pick<Catalog, "types" | "relation">,
  found: FoundKey,
): TableShape | undefined {
  const shown = table.columns.filter((c) => (published === null ? c.generated === "" : published.includes(c.name)));
  const columns = shown.map((c): Column => ({
    name: c.name,
    type: columnType(c.type, c.modifier, types),
    native: c.native,
    nullable: !c.notNull,
    identity: c.attnum,
  }));
  if (!("key" in found)) return undefined;
  const { kind, key } = found;
  const ordinals = key.columns.map((name) => columns.findIndex((column) => column.name === name));
  if (ordinals.includes(-1)) return undefined;
  const named = { schema: table.schema, table: table.table, relation: relation(table.oid) };
  return { ...shapeOf(named, columns, ordinals, key, kind === "chosen"), ...originsOf(table, types) };
}

/** What else its values come from, if there is anything. */
export function originsOf({ columns, parents }: CatalogTable, types: PgTypes): { readonly origins?: Origins } {
  const computed = columns.filter(({ from }) => from.length > 0);
  const rows = columns.flatMap(({ name, type }) => {
    const tables = rowsIn(type, types).map(named);
    return tables.length === 0 ? [] : [[name, tables] as const];
  });
  if (computed.length === 0 && parents.length === 0 && rows.length === 0) return {};
  const generated = Object.fromEntries(computed.map(({ name, from, attnum }) => [name, { from, identity: attnum }]));
  return { origins: { generated, parents: parents.map(named), rows: Object.fromEntries(rows) } };
}

function named({ schema, table }: TableName): Origins["parents"][number] {
  return { id: tableId(schema, table), schema, table };
}

/** The tables whose row types a type is, or is built on. */
function rowsIn(type: number, types: PgTypes, seen: ReadonlySet<number> = new Set()): readonly TableName[] {
  const known = seen.has(type) ? undefined : types(type);
  if (known === undefined) return [];
  const { tables, base, element, bounds, attributes } = known;
  const inner = [base, element, bounds, ...attributes.map((attribute) => attribute.type)];
  const deeper = new Set([...seen, type]);
  return [...tables, ...inner.flatMap((one) => rowsIn(one, types, deeper))];
}

export function shapeOf(
  { relation, schema, table }: Pick<TableShape, "relation" | "schema" | "table">,
  columns: readonly Column[],
  key: readonly number[],
  { deferrable: deferrableKey, unenforced }: Key,
  isChosen: boolean,
): TableShape {
  // Fingerprints are stored: the text "on word" can't change.
  const told = [schema, table, relation, columns, key, deferrableKey, ...(unenforced === true ? ["on word"] : [])];
  const fingerprint = createHash("sha256").update(JSON.stringify(told)).digest("hex");
  const id = tableId(schema, table);
  const shape: TableShape = {
    id,
    schema,
    table,
    dialect: "postgres",
    relation,
    columns,
    key,
    deferrableKey,
    fingerprint,
  };
  if (!isChosen) return shape;
  return { ...shape, keyChosen: true, ...(unenforced === true ? { unenforcedKey: true } : {}) };
}
