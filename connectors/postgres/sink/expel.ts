/** Rows that no step can have written: an operator has the sink filled anew because it was changed by hand. */
import { quoteLiteral } from "../quote.ts";
import { VERSION_COLUMN } from "./tables/form.ts";

/** A row where the table is there with our column. */
export function findVersioned(quoted: string): string {
  return `SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(${quoteLiteral(quoted)}) AND attname = ${quoteLiteral(VERSION_COLUMN)} AND NOT attisdropped`;
}

export function expelFrom(quoted: string, version: bigint): string {
  return `DELETE FROM ${quoted} WHERE ${VERSION_COLUMN} > ${version} OR ${VERSION_COLUMN} IS NULL`;
}
