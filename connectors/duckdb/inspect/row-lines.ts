/** A table's rows, each put together by DuckDB as one text (core/targets/sized-line): the client makes an object of every value. */
import type { EqualRows, RowsInOrder } from "../../../src/core/contracts/comparing.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { sizedLine } from "../../../src/core/targets/sized-line.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { quoteLiteral, VERSION_COLUMN } from "../names.ts";

/** A table as the file has it now; of columns that are not there null. */
export interface LineTable {
  readonly sqlName: string;
  readonly columns: readonly (string | null)[];
  readonly exact: string | null;
  readonly keyTypes: readonly string[];
}

/** Rows that the file may have more between two keys: of those behind them is asked one by one. */
const EXTRA_MAX = 1_000;
/** Of a type without an order that the source shares, rows between two keys are any. */
const ORDERED: ReadonlySet<ColumnType["kind"]> = new Set(["int", "uuid", "date", "timestamp", "decimal"]);

/** What reads the lines of these rows; null: a list is no text, a key of many columns or of texts has no range. */
export function linesQuery(
  table: TableVersion,
  { sqlName, columns, exact, keyTypes }: LineTable,
  { keys, versionMax }: RowsInOrder,
  spelt: (key: string) => string,
  live: (rows: string) => string,
): string | null {
  const [ordinal, ...others] = table.key;
  const isRange = others.length === 0 && ORDERED.has(table.columns[ordinal!]!.type.kind);
  if (!isRange || table.columns.some(({ type }) => type.kind === "array")) return null;
  const name = columns[ordinal!];
  const line = columns.map((column, i) => (column === null ? "'~'" : sized(table.columns[i]!.type, column)));
  const bound = (key: string): string => `TRY_CAST(${quoteLiteral(spelt(key))} AS ${keyTypes[0]})`;
  const between = `${name} BETWEEN ${bound(keys[0]![0]!)} AND ${bound(keys.at(-1)![0]!)}`;
  // What stands beside a column in its exact text is read row by row.
  const isPlain = exact === null ? "" : ` AND ${exact} IS NULL`;
  const range = `(SELECT * FROM ${sqlName} WHERE ${between} AND ${VERSION_COLUMN} <= ${versionMax}${isPlain})`;
  return `SELECT ${line.join(" || ")} FROM ${live(range)} LIMIT ${keys.length + EXTRA_MAX}`;
}

/** Marks the rows whose lines are there. */
export class MetLines {
  readonly #rows = new Map<string, number>();
  readonly #isEqual: Uint8Array;
  #byteCount = 0;

  constructor({ keys, cells }: RowsInOrder) {
    this.#isEqual = new Uint8Array(keys.length);
    for (let i = 0; i < keys.length; i++) this.#rows.set(sizedLine(cells(i)), i);
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

/** In the spelling of `expectedText` where it can be had; a row that has it otherwise is read by itself. */
function textOf(type: ColumnType, name: string): string {
  if (type.kind === "bytes") return `('\\x' || lower(hex(${name})))`;
  if (type.kind === "bool") return `CASE ${name} WHEN true THEN 't' WHEN false THEN 'f' END`;
  // A zero's sign is not looked at here: -0 is expected beside a zero, in the exact text.
  if (type.kind === "float")
    return `CASE WHEN ${name} = 0 THEN '0' ELSE regexp_replace(${name}::VARCHAR, '\\.0$', '') END`;
  return `${name}::VARCHAR`;
}
