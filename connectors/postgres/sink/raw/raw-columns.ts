/** How the columns of a table come in a raw copy, so that their bytes are what the target's types read. */
import type { RawColumn } from "../../../../src/core/contracts/raw/raw-copy.ts";
import type { Column, TableVersion } from "../../../../src/core/model/schema.ts";
import { hasBinaryForm } from "../../../../src/core/model/types.ts";
import { isSameInBinary } from "../tables/types.ts";
import { BINARY_AS_IS, type CellForms, TEXT_AS_IS } from "../write/cells.ts";

/** Null: a column's bytes must be adapted (oids inside, JSON's version byte), or only the server can parse its text. */
export function rawColumns(table: TableVersion, forms: CellForms): readonly RawColumn[] | null {
  if (table.dialect !== "postgres") return null;
  const columns = table.columns.map((column, i) => rawColumn(column, forms.binary[i]!, forms.text[i]!));
  const known = columns.filter((column) => column !== null);
  return known.length === columns.length ? known : null;
}

function rawColumn({ native, type }: Column, binary: number, text: number): RawColumn | null {
  if (isSameInBinary(native)) return "binary";
  // Domains and enums: the target has the type underneath, or text.
  if (hasBinaryForm(type)) return binary === BINARY_AS_IS ? "binary" : null;
  return text === TEXT_AS_IS ? "text" : null;
}
