/** Values: SQLite writes a row as a JSON list of texts, here they become cells in the forms of core/model/tuple. */
import type { SQLInputValue } from "node:sqlite";
import * as z from "zod";
import type { Column, TableVersion } from "../../src/core/model/schema.ts";
import type { TupleWriter } from "../../src/core/model/tuple.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { formatFloat64 } from "../../src/core/values/float.ts";
import { quoteName } from "./database.ts";

/** The types of a STRICT table; a column of type ANY is not captured. */
const TYPES: Readonly<Record<string, ColumnType>> = {
  INT: { kind: "int", bits: 64, signed: true },
  INTEGER: { kind: "int", bits: 64, signed: true },
  REAL: { kind: "float", bits: 64 },
  TEXT: { kind: "text" },
  BLOB: { kind: "bytes" },
};

export function columnType(native: string): ColumnType | undefined {
  return TYPES[native];
}

/** SQL of a row as such a list. `row`: NEW, OLD or a table. Numbers are texts too, so that they keep all of their digits. */
export function listOf(columns: readonly Pick<Column, "name" | "native">[], row: string): string {
  const cells = columns.map(({ name, native }) => {
    const value = `${row}.${quoteName(name)}`;
    if (native === "BLOB") return `CASE WHEN ${value} IS NOT NULL THEN hex(${value}) END`;
    if (native === "REAL") return `CASE WHEN ${value} IS NOT NULL THEN printf('%!.17g', ${value}) END`;
    return native === "TEXT" ? value : `CAST(${value} AS TEXT)`;
  });
  return `json_array(${cells.join(", ")})`;
}

const LIST = z.array(z.string().nullable());

/** Writes the tuple and returns its offset. */
export function writeTuple(tuples: TupleWriter, { columns }: Pick<TableVersion, "columns">, list: unknown): number {
  const at = tuples.begin(columns.length);
  for (const [i, value] of LIST.parse(JSON.parse(String(list))).entries()) {
    if (value === null) tuples.null();
    else {
      const bytes = Buffer.from(canonical(columns[i]!.native, value));
      tuples.text(bytes, 0, bytes.length);
    }
  }
  return at;
}

function canonical(native: string, value: string): string {
  if (native === "BLOB") return `\\x${value.toLowerCase()}`;
  // SQLite writes the infinities as Inf and -Inf.
  return native === "REAL" ? formatFloat64(Number(value.replace("Inf", "Infinity"))) : value;
}

/** A key's text as a parameter of a statement. */
export function parameter(native: string, text: string): SQLInputValue {
  if (native === "TEXT") return text;
  if (native === "BLOB") return Buffer.from(text.slice(2), "hex");
  return native === "REAL" ? Number(text) : BigInt(text);
}
