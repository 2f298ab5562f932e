/** Shapes of tables in a file, to compare a later database with. */
import type { CapturedTables, TableShape } from "../../core/contracts/catalog.ts";
import { cliError } from "../errors.ts";
import { readNamedFile, writeNamedFile } from "../files.ts";

const FORMAT = "millrace shapes 1";
const FILE_BYTES_MAX = 256 * 1024 * 1024;

export function writeBaseline(file: string, { tables }: CapturedTables, mayReplace: boolean): void {
  writeNamedFile(file, `${JSON.stringify({ format: FORMAT, tables }, null, 2)}\n`, mayReplace);
}

export function readBaseline(file: string): CapturedTables {
  const text = readNamedFile(file, FILE_BYTES_MAX, "MR1140");
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw cliError("MR1140", `${file} can't be read (it is not JSON)`);
  }
  if (!isBaseline(document)) throw cliError("MR1140", `${file} was not written by schema export`);
  return { tables: document.tables, refused: [], generations: new Map() };
}

function isBaseline(value: unknown): value is { readonly tables: readonly TableShape[] } {
  if (typeof value !== "object" || value === null || !("format" in value && "tables" in value)) return false;
  return value.format === FORMAT && Array.isArray(value.tables);
}

/** As shapes of one table in two databases: names identify table and columns. */
export function byNames({ tables, ...rest }: CapturedTables): CapturedTables {
  const named = tables.map((table) => ({
    ...table,
    relation: 0,
    columns: table.columns.map((column) => ({ ...column, identity: 0 })),
  }));
  return { ...rest, tables: named };
}
