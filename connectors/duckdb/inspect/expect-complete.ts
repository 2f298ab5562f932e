import { type DuckDBResult, ResultReturnType } from "@duckdb/node-api";
import { duckdbError } from "../errors.ts";

/**
 * Throws if a streamed result has not come to its end. DuckDB's client ends a result that fails half-way like a complete
 * one and keeps the reason to itself; only the result's type tells of it (`duckdb_result_return_type`: INVALID).
 */
export function expectComplete(result: DuckDBResult): void {
  if (result.returnType !== ResultReturnType.INVALID) return;
  throw duckdbError({
    code: "MR3219",
    kind: "retryable",
    message: "DuckDB ended a result half-way and does not say why",
    hint: "run it again; if it fails again, look for a value of a later row that can't be computed, or raise the sink's memoryLimit",
  });
}
