/** A SQLite file, read beside whoever writes to it. */
import { DatabaseSync } from "node:sqlite";
import { sqliteCell, sqliteLanding, sqliteReadable } from "../warehouses/sqlite-target.ts";
import { sinkRow } from "./postgres.ts";
import { rowId, type SinkReader, type SinkRow, VERSION } from "./reader.ts";
import { quoted, type SourceColumn, type SourceTable } from "./source-table.ts";

export interface SqliteSinkAddress {
  readonly kind: "sqlite";
  readonly path: string;
  readonly schema?: string;
}

const ROWS_PER_PIECE = 1_000;

export async function sqliteReader({ path, schema }: SqliteSinkAddress): Promise<SinkReader> {
  const database = new DatabaseSync(path, { readOnly: true, timeout: 10_000 });
  return {
    mayRepeat: false,
    expected: landingOf,
    idOf: (_key, landed) => rowId(landed),
    rows: (table) => readRows(database, schema ?? table.schema, table),
    async [Symbol.asyncDispose]() {
      database.close();
    },
  };
}

/** Keys are no JSON. */
function landingOf(column: SourceColumn, text: string): string {
  return column.isKey && column.type.kind === "array" ? text : sqliteLanding(column, text);
}

async function* readRows(database: DatabaseSync, schema: string, table: SourceTable): AsyncGenerator<SinkRow[]> {
  const name = `${schema}.${table.table}`;
  const described = database.prepare("select name from pragma_table_info(?)").all(name);
  const there = new Set(described.map((column) => String(column["name"])));
  if (there.size === 0) return;
  const names = table.columns.map((column) => column.name);
  const surplus = [...there].filter((column) => !names.includes(column) && !column.startsWith("_millrace_"));
  const cells = [...names, ...surplus].map((column) => (there.has(column) ? sqliteReadable(column) : "null"));
  const statement = database.prepare(`select ${[VERSION, ...cells].join(", ")} from ${quoted(name)}`);
  statement.setReadBigInts(true);
  statement.setReturnArrays(true);
  let piece: SinkRow[] = [];
  for (const row of statement.iterate()) {
    const [version, ...values] = Object.values(row);
    const shown = values.map((value, i) => {
      const column = table.columns[i];
      return column === undefined ? (value === null ? null : String(value)) : sqliteCell(column, column.isKey, value);
    });
    piece.push(sinkRow(table, [String(version), ...shown], surplus));
    if (piece.length < ROWS_PER_PIECE) continue;
    yield piece;
    piece = [];
  }
  yield piece;
}
