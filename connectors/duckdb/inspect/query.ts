import {
  type DuckDBConnection,
  type DuckDBValueConverter,
  type Json,
  JsonDuckDBValueConverter,
  StatementType,
} from "@duckdb/node-api";
import { MillraceError } from "../../../src/core/errors.ts";
import type { QueryRequest, QueryResult } from "../../../src/core/contracts/sink.ts";
import { driverKind, duckdbError, stopped } from "../errors.ts";
import { interrupting, wholeResult } from "../../kit/duckdb-engine/reading.ts";

const READING = new Set<number>([StatementType.SELECT, StatementType.EXPLAIN]);

/**
 * DuckDB's own JSON, except that 64-bit and larger integers which a double can represent are numbers instead of
 * strings.
 */
const jsonOf: DuckDBValueConverter<Json> = (value, type, nested) => {
  if (typeof value !== "bigint") return JsonDuckDBValueConverter(value, type, nested);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
};

/**
 * Runs one reading statement. The connection lets nothing be written, so that DuckDB itself refuses a hidden write, like
 * EXPLAIN ANALYZE INSERT. No statement of this process can access other files, see database.ts.
 */
export async function runQuery(
  connect: () => Promise<DuckDBConnection>,
  { sql, rowCountMax, byteCountMax }: QueryRequest,
  signal: AbortSignal,
): Promise<QueryResult> {
  if (signal.aborted) throw stopped();
  const connection = await connect();
  using _ = interrupting(connection, signal);
  try {
    const statements = await connection.extractStatements(sql);
    if (statements.count !== 1) throw notReading();
    const statement = await statements.prepare(0);
    if (!READING.has(statement.statementType)) throw notReading();
    const result = await statement.stream();
    const columns = result.columnNames().map((name, i) => ({ name, type: String(result.columnType(i)) }));
    const rows: unknown[][] = [];
    let byteCount = 0;
    for await (const chunk of wholeResult(result, (it) => it.yieldConvertedRows(jsonOf))) {
      for (const row of chunk) {
        byteCount += JSON.stringify(row).length;
        if (rows.length === rowCountMax || byteCount > byteCountMax) return { columns, rows, truncated: true };
        rows.push(row);
      }
    }
    return { columns, rows, truncated: false };
  } catch (error) {
    if (signal.aborted) throw stopped();
    if (error instanceof MillraceError) throw error;
    // The user wrote the SQL and may see its data, so DuckDB's own message is the answer.
    throw duckdbError("MR1321", "fatal", error instanceof Error ? error.message : driverKind(error), {
      hint: "correct the SQL",
    });
  } finally {
    connection.disconnectSync();
  }
}

function notReading(): MillraceError {
  return duckdbError("MR1321", "fatal", "only one reading statement is allowed", {
    hint: "to change the file by hand, stop Millrace first",
  });
}
