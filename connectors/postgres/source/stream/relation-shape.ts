/** The shape of a table in the stream, at the position of a Relation message. */
import type { ChosenKey } from "../../../../src/core/contracts/connector.ts";
import type { Column } from "../../../../src/core/model/schema.ts";
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import { columnType } from "../catalog/types.ts";
import type { Catalog, CatalogTable } from "../catalog/catalog.ts";
import { findKey, FULL, type FoundKey, type Key, keyOf } from "../catalog/keys.ts";
import type { RelationMessage } from "./relations.ts";
import { originsOf, shapeOf } from "../catalog/shapes.ts";

/**
 * The shape that a Relation message announces. The message decides names, types and, except under FULL, the columns of the
 * key. The catalogue, which may be ahead or lack the table, adds attnum, nullability and the order of the key. A column
 * that the catalogue does not have under that name gets an identity below zero. A key that neither shows is empty: the
 * table has lost its identity.
 */
export function relationShape(
  message: RelationMessage,
  natives: readonly string[],
  table: CatalogTable | undefined,
  { types, relation }: Pick<Catalog, "types" | "relation">,
  wanted: ChosenKey | null = null,
): TableShape {
  const numbers = columnNumbers(message, table);
  const columns = message.columns.map((c, i): Column => {
    const known = table?.columns.find((column) => column.attnum === numbers[i]);
    return {
      name: c.name,
      type: columnType(c.type, c.modifier, types),
      native: natives[i] ?? "text",
      nullable: known === undefined ? !(c.inKey && message.identity !== FULL) : !known.notNull,
      identity: numbers[i]!,
    };
  });
  const chosen = wanted === null ? undefined : chosenKey(message, numbers, table, wanted);
  const key = chosen ?? relationKey(message, table);
  const ordinals = key.columns.map((name) => columns.findIndex((column) => column.name === name));
  const named = { schema: message.schema, table: message.table, relation: relation(message.oid) };
  const shape = shapeOf(named, columns, ordinals.includes(-1) ? [] : ordinals, key, chosen !== undefined);
  return table === undefined ? shape : { ...shape, ...originsOf(table, types) };
}

/**
 * The key that the configuration chooses. Undefined if the message is older than the table's ability to have it: then the
 * table's own key counts until the change has passed.
 */
function chosenKey(
  message: RelationMessage,
  numbers: readonly number[],
  table: CatalogTable | undefined,
  wanted: ChosenKey,
): Key | undefined {
  if (table !== undefined && table.identity !== message.identity) return undefined;
  const found: FoundKey =
    table === undefined ? { kind: "chosen", key: { ...wanted, deferrable: false } } : findKey(table, wanted);
  if (found.kind === "unknown" || found.kind === "unfit") return { columns: [], deferrable: false };
  if (found.kind !== "chosen") return undefined;
  const columns = found.key.columns.map((name) => {
    const number = table?.columns.find((column) => column.name === name)?.attnum;
    return message.columns.find((column) => column.name === name) ?? message.columns[numbers.indexOf(number ?? 0)];
  });
  const names = columns.flatMap((column) =>
    column !== undefined && (message.identity === FULL || column.inKey) ? [column.name] : [],
  );
  return names.length === columns.length ? { ...found.key, columns: names } : undefined;
}

/**
 * The attnum of each column of the message, or a number below zero if it is unknown. A message has its columns in attnum
 * order. Most columns are found by name, unless the order shows that another column has the name now. A column that was
 * renamed or dropped since then lies between its neighbours in attnum order. It is identified if the catalogue has there
 * exactly as many columns of the same types as are missing, and no dropped ones, or these alone.
 */
function columnNumbers(message: RelationMessage, table: CatalogTable | undefined): number[] {
  const named = message.columns.map((c) => table?.columns.find((column) => column.name === c.name)?.attnum ?? 0);
  const isAhead = named.includes(0);
  const numbers = named.map((number, i) =>
    isInOrder(named, i) && (!isAhead || hasRoom(table, number, i)) ? number : 0,
  );
  for (let start = 0; start < numbers.length; start++) {
    if (numbers[start] !== 0) continue;
    let end = start;
    while (end < numbers.length && numbers[end] === 0) end++;
    const found = numbersBetween(
      message.columns.slice(start, end),
      table,
      numbers[start - 1] ?? 0,
      numbers[end] ?? Infinity,
    );
    for (let i = start; i < end; i++) numbers[i] = found?.[i - start] ?? -(i + 1);
  }
  return numbers;
}

/** Whether those with lower numbers, which were there when this one was, have room before it in the message. */
function hasRoom(table: CatalogTable | undefined, number: number, count: number): boolean {
  const lower = table?.columns.filter(({ attnum, generated }) => attnum < number && generated === "") ?? [];
  return lower.length <= count;
}

/** Whether all known numbers before the one at `i` are lower, and all after it are higher. */
function isInOrder(numbers: readonly number[], i: number): boolean {
  const own = numbers[i]!;
  return numbers.every((number, k) => number === 0 || k === i || (k < i ? number < own : number > own));
}

function numbersBetween(
  columns: RelationMessage["columns"],
  table: CatalogTable | undefined,
  low: number,
  high: number,
): number[] | undefined {
  if (table === undefined) return undefined;
  const between = (attnum: number): boolean => attnum > low && attnum < high;
  const live = table.columns.filter((column) => between(column.attnum) && column.generated === "");
  const dropped = table.dropped.filter(between);
  // One that was dropped may be in the message, and a later one not: then as many are no proof.
  if (
    dropped.length === 0 &&
    live.length === columns.length &&
    live.every((column, i) => column.type === columns[i]!.type)
  ) {
    return live.map((column) => column.attnum);
  }
  return live.length === 0 && dropped.length === columns.length ? dropped : undefined;
}

function relationKey(message: RelationMessage, table: CatalogTable | undefined): Key {
  const fromCatalog = table?.identity === message.identity ? keyOf(table) : undefined;
  if (message.identity === FULL)
    return fromCatalog ?? (table && keyOf({ ...table, identity: FULL })) ?? { columns: [], deferrable: false };
  const flagged = message.columns.filter((column) => column.inKey).map((column) => column.name);
  const same =
    fromCatalog?.columns.length === flagged.length && fromCatalog.columns.every((name) => flagged.includes(name));
  return fromCatalog !== undefined && same ? fromCatalog : { columns: flagged, deferrable: false };
}
