/**
 * Types for the functions that millrace.yaml names: `import type { Row } from "millrace/rules"`. Node takes types away, so that
 * nothing of this is there when a function runs.
 */

/**
 * The value of a column, without loss:
 *
 * - `boolean`: boolean
 * - `number`: integers of up to 32 bits, floats
 * - `bigint`: integers of 64 bits
 * - `string`: texts, enums, uuid; decimals with all their digits; json as its text; everything else as the source prints it;
 *   dates and times in the forms of RFC 3339 with six digits of a second: `2024-02-29`, `13:05:00.000000`,
 *   `2024-02-29T13:05:00.000000` (without a time zone), `2024-02-29T12:05:00.000000Z` (with one); `infinity`
 * - `Uint8Array`: bytes
 * - an array: arrays, of several dimensions too
 *
 * A masked column has its masked value, a text.
 */
export type Value = null | boolean | number | bigint | string | Uint8Array | readonly Value[];

/** What the function of a computed column gets: the columns of its `from`, by their names at the source. */
export interface Row {
  readonly [column: string]: Value;
}

/** The function of a computed column. It is pure: equal rows give equal values, at any time and in any process. */
export type Computed<R = Row> = (row: R) => Result;

/** What it may return; docs/rules.md says which of these a type takes. */
export type Result = Value | Date | JsonValue;

export type JsonValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

/**
 * A document, or an object in one: its columns in the form that sinks show (decimals, dates and bytes as strings), its relations
 * as objects or lists. A number that a double would round is a `bigint` if it is whole, else what `JSON.rawJSON` makes.
 */
export interface Document {
  readonly [field: string]: JsonValue;
}

/** The `transform` of a document or of objects in it; null leaves it out. It is pure, as `Computed`. */
export type Transform<D extends Document = Document> = (document: D) => Document | null;
