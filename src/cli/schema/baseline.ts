/** Shapes of tables in a file, to compare a later database with. */
import { writeFileSync } from "node:fs";
import type { CapturedTables, TableShape } from "../../core/contracts/catalog.ts";
import { readSmallFile } from "../../core/small-file.ts";
import { cliError } from "../errors.ts";

const FORMAT = "millrace shapes 1";
const FILE_BYTES_MAX = 256 * 1024 * 1024;

export function writeBaseline(file: string, { tables }: CapturedTables, mayReplace: boolean): void {
  try {
    writeFileSync(file, `${JSON.stringify({ format: FORMAT, tables }, null, 2)}\n`, { flag: mayReplace ? "w" : "wx" });
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    if (reason === "EEXIST") throw cliError("MR1112", `${file} exists already; nothing was written`);
    throw cliError("MR1113", `${file} can't be written (${reason})`, { cause: error });
  }
}

export function readBaseline(file: string): CapturedTables {
  let document: unknown;
  try {
    document = JSON.parse(readSmallFile(file, FILE_BYTES_MAX));
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "it is not JSON";
    throw cliError("MR1140", `${file} can't be read (${reason})`);
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
