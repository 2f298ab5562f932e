/**
 * Has DuckDB build one text per row of a table (core/targets/sized-line), because the client would create an object for
 * every value.
 */
import { setImmediate as turn } from "node:timers/promises";
import type { EqualRows, RowsInOrder } from "../../../src/core/contracts/comparing.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { sizedLine } from "../../../src/core/targets/sized-line.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { quoteLiteral } from "../names.ts";
import { VERSION_COLUMN } from "../../warehouse/own-columns.ts";

/** The present form of a table in the file; missing columns are null. */
export interface LineTable {
  readonly sqlName: string;
  readonly columns: readonly (string | null)[];
  readonly exact: string | null;
  readonly keyTypes: readonly string[];
}

const LINES_PER_TURN = 500;
/** How many extra rows the file may have between two keys; rows after that are read one by one. */
const EXTRA_MAX = 1_000;
/** Types with the same order at the source. With other types the rows between two keys are unpredictable. */
const ORDERED: ReadonlySet<ColumnType["kind"]> = new Set(["int", "uuid", "date", "timestamp", "decimal"]);

/**
 * The query for the lines of these rows; null: a list can't be a text, and a key of several columns or of text has no
 * range.
 */
export function linesQuery(
  table: TableVersion,
  { sqlName, columns, exact, keyTypes }: LineTable,
  { keys, versionMax }: RowsInOrder,
  spelt: (key: string) => string,
  live: (rows: string) => string,
): string | null {
  const [ordinal, ...others] = table.key;
  const isRange = others.length === 0 && ORDERED.has(table.columns[ordinal!]!.type.kind);
  if (!isRange || table.columns.some(({ type }) => type.kind === "array" || type.kind === "vector")) return null;
  const name = columns[ordinal!];
  const line = columns.map((column, i) => (column === null ? "'~'" : sized(table.columns[i]!.type, column)));
  const bound = (key: string): string => `TRY_CAST(${quoteLiteral(spelt(key))} AS ${keyTypes[0]})`;
  const between = `${name} BETWEEN ${bound(keys[0]![0]!)} AND ${bound(keys.at(-1)![0]!)}`;
  // Rows with exact texts are read one by one.
  const isPlain = exact === null ? "" : ` AND ${exact} IS NULL`;
  const range = `(SELECT * FROM ${sqlName} WHERE ${between} AND ${VERSION_COLUMN} <= ${versionMax}${isPlain})`;
  // Not by `||`: DuckDB limits how deep an expression is, and a table may have more columns.
  return `SELECT concat(${line.join(", ")}) FROM ${live(range)} LIMIT ${keys.length + EXTRA_MAX}`;
}

/** Marks the rows whose lines are found. */
export class MetLines {
  readonly #rows = new Map<string, number>();
  readonly #isEqual: Uint8Array;
  #byteCount = 0;

  private constructor(count: number) {
    this.#isEqual = new Uint8Array(count);
  }

  /** The stream has its turns meanwhile. */
  static async of({ keys, cells }: RowsInOrder): Promise<MetLines> {
    const lines = new MetLines(keys.length);
    for (let i = 0; i < keys.length; i++) {
      if (i > 0 && i % LINES_PER_TURN === 0) await turn();
      lines.#rows.set(sizedLine(cells(i)), i);
    }
    return lines;
  }

  get equal(): EqualRows {
    return { isEqual: this.#isEqual, byteCount: this.#byteCount };
  }

  meet(line: unknown): void {
    if (typeof line !== "string") return;
    this.#byteCount += Buffer.byteLength(line);
    const row = this.#rows.get(line);
    if (row !== undefined) this.#isEqual[row] = 1;
  }
}

function sized(type: ColumnType, name: string): string {
  const text = textOf(type, name);
  return `coalesce(strlen(${text}) || ':' || ${text}, '~')`;
}

/** In the spelling of `expectedText` if possible; a row with another spelling is read by itself. */
function textOf(type: ColumnType, name: string): string {
  if (type.kind === "bytes") return `('\\x' || lower(hex(${name})))`;
  if (type.kind === "bool") return `CASE ${name} WHEN true THEN 't' WHEN false THEN 'f' END`;
  // The sign of a stored zero tells nothing: -0 is expected as zero, with an exact text.
  if (type.kind === "float")
    return `CASE WHEN ${name} = 0 THEN '0' ELSE regexp_replace(${name}::VARCHAR, '\\.0$', '') END`;
  return `${name}::VARCHAR`;
}
