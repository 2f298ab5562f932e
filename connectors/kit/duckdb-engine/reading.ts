/** How results that are read piece by piece are read whole, or given up. */
import { ResultReturnType } from "@duckdb/node-api";
import { engineError } from "./errors.ts";
import type { EngineConnection } from "./engine.ts";

const AGAIN_MS = 100;

/**
 * Interrupts what the connection does from the moment when the signal aborts, until it is disposed. DuckDB forgets an
 * interruption that comes while no statement runs, so one is not enough: the next statement would run to its end.
 */
export function interrupting(connection: EngineConnection, signal: AbortSignal): Disposable {
  let repeated: NodeJS.Timeout | undefined;
  const interrupt = (): void => connection.interrupt();
  const begin = (): void => {
    interrupt();
    repeated = setInterval(interrupt, AGAIN_MS);
  };
  if (signal.aborted) begin();
  else signal.addEventListener("abort", begin, { once: true });
  return {
    [Symbol.dispose]: () => {
      signal.removeEventListener("abort", begin);
      clearInterval(repeated);
    },
  };
}

/**
 * The rows of a streamed result, as `rowsOf` asks the client for them; throws if they do not come to their end. DuckDB's
 * client ends a result that fails half-way like a complete one and keeps the reason to itself; only the result's type tells
 * of it (`duckdb_result_return_type`: INVALID). So nobody else iterates a streamed result (test/unit/structure).
 */
export async function* wholeResult<T, R extends { readonly returnType: ResultReturnType | null }>(
  result: R,
  rowsOf: (result: R) => AsyncIterable<T>,
): AsyncGenerator<T> {
  yield* rowsOf(result);
  if (result.returnType !== ResultReturnType.INVALID) return;
  throw engineError("MR2027", "retryable", "DuckDB ended a result half-way and does not say why", {
    hint: "run it again; if it fails again, look for a value of a later row that can't be computed, or raise the sink's memoryLimit",
  });
}
