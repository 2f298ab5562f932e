/** The process of a query. It reads the file beside the writer, as one of its many readers. */
import { constants, DatabaseSync, type SQLOutputValue } from "node:sqlite";
import type { QueryRequest, QueryResult } from "../../../src/core/contracts/sink.ts";

export type QueryAnswer = { readonly result: QueryResult } | { readonly refused: string; readonly hint: string };

/** What a reading statement does: no other file is attached, no setting changed. */
const READING = new Set<number>([
  constants.SQLITE_SELECT,
  constants.SQLITE_READ,
  constants.SQLITE_FUNCTION,
  constants.SQLITE_RECURSIVE,
]);
/** How long it waits for a lock, which readers need only while the file is being opened or closed. */
const BUSY_MS = 5_000;

process.once("message", ({ path, request }: { readonly path: string; readonly request: QueryRequest }) => {
  process.send?.(answer(path, request));
});

function answer(path: string, request: QueryRequest): QueryAnswer {
  try {
    using database = new DatabaseSync(path, { readOnly: true, timeout: BUSY_MS });
    // Reads the schema before only reading is allowed.
    database.prepare("SELECT count(*) FROM sqlite_schema").get();
    let isReading = true;
    database.setAuthorizer((action) => {
      if (READING.has(action)) return constants.SQLITE_OK;
      isReading = false;
      return constants.SQLITE_DENY;
    });
    try {
      return { result: run(database, request) };
    } catch (error) {
      if (!isReading || error instanceof SeveralStatements)
        return {
          refused: "only one reading statement is allowed",
          hint: "to change the file by hand, stop Millrace first",
        };
      throw error;
    }
  } catch (error) {
    return { refused: error instanceof Error ? error.message : String(error), hint: "correct the SQL" };
  }
}

class SeveralStatements extends Error {}

function run(database: DatabaseSync, { sql, rowCountMax, byteCountMax }: QueryRequest): QueryResult {
  const statement = database.prepare(sql);
  // SQLite compiles the first statement and looks at no more.
  const rest = sql.slice(sql.indexOf(statement.sourceSQL) + statement.sourceSQL.length);
  if (/[^\s;]/.test(rest.replaceAll(/--[^\n]*|\/\*.*?\*\//gs, ""))) throw new SeveralStatements();
  statement.setReadBigInts(true);
  statement.setReturnArrays(true);
  const columns = statement.columns().map(({ name, type }) => ({ name, type: type ?? "ANY" }));
  const rows: unknown[][] = [];
  let byteCount = 0;
  for (const row of statement.iterate()) {
    const values = Object.values(row).map(jsonOf);
    byteCount += JSON.stringify(values).length;
    if (rows.length === rowCountMax || byteCount > byteCountMax) return { columns, rows, truncated: true };
    rows.push(values);
  }
  return { columns, rows, truncated: false };
}

/** Integers beyond 2^53 are strings; bytes as SQLite writes them; what JSON has no number for is its name. */
function jsonOf(value: SQLOutputValue): unknown {
  if (value instanceof Uint8Array) return `X'${Buffer.from(value).toString("hex").toUpperCase()}'`;
  if (typeof value === "number") return Number.isFinite(value) ? value : String(value);
  if (typeof value !== "bigint") return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
