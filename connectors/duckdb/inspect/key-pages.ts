/** Conditions that cut a table's rows into pages by their keys: nulls first, as ORDER_OF_KEYS sorts them. */
import { invariant } from "../../../src/core/invariant.ts";
import { quoteLiteral } from "../names.ts";

/** Null: the row of somebody else, in a lake, which enforces no key. */
export type PageBound = readonly (string | null)[];

interface KeyColumns {
  readonly keys: readonly string[];
  readonly keyTypes: readonly string[];
}

export function orderOf({ keys }: KeyColumns): string {
  return keys.map((key) => `${key} NULLS FIRST`).join(", ");
}

/** A bound that is no key any more fails: a page that lacks rows must not look like the last one. */
export function boundOf(text: string): PageBound {
  const texts: unknown = JSON.parse(text);
  invariant(
    Array.isArray(texts) && texts.every((one) => one === null || typeof one === "string"),
    "a page ends at a key",
  );
  return texts;
}

/** The rows behind it. */
export function afterBound(columns: KeyColumns, bound: PageBound): string {
  return beyond(columns, bound, (key, value) => (value === null ? `${key} IS NOT NULL` : `${key} > ${value}`), "false");
}

/** The rows up to and with it. */
export function upToBound(columns: KeyColumns, bound: PageBound): string {
  return beyond(
    columns,
    bound,
    (key, value) => (value === null ? "false" : `(${key} < ${value} OR ${key} IS NULL)`),
    "true",
  );
}

/** By the first part that is not the same. */
function beyond(
  { keys, keyTypes }: KeyColumns,
  bound: PageBound,
  isBeyond: (key: string, value: string | null) => string,
  isSame: string,
): string {
  return keys.reduceRight((rest, key, part) => {
    const text = bound[part]!;
    const value = text === null ? null : castKey(keyTypes[part]!, quoteLiteral(text));
    const same = value === null ? `${key} IS NULL` : `${key} = ${value}`;
    return `(${isBeyond(key, value)} OR (${same} AND ${rest}))`;
  }, isSame);
}

function castKey(type: string, literal: string): string {
  return type === "BLOB" ? `from_hex(substr(${literal}, 3))` : `CAST(${literal} AS ${type})`;
}
