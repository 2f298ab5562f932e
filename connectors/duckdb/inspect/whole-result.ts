import { ResultReturnType } from "@duckdb/node-api";
import { duckdbError } from "../errors.ts";

/**
 * The rows of a streamed result, as `rowsOf` asks the client for them; throws if they do not come to their end. DuckDB's
 * client ends a result that fails half-way like a complete one and keeps the reason to itself; only the result's type tells
 * of it (`duckdb_result_return_type`: INVALID). So nobody else iterates a streamed result (test/unit/structure).
 */
export async function* wholeResult<T, R extends { readonly returnType: ResultReturnType }>(
  result: R,
  rowsOf: (result: R) => AsyncIterable<T>,
): AsyncGenerator<T> {
  yield* rowsOf(result);
  if (result.returnType !== ResultReturnType.INVALID) return;
  throw duckdbError("MR2027", "retryable", "DuckDB ended a result half-way and does not say why", {
    hint: "run it again; if it fails again, look for a value of a later row that can't be computed, or raise the sink's memoryLimit",
  });
}
