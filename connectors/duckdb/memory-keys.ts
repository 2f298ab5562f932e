/** Options of every sink over DuckDB's engine. */
import { z } from "zod";
import { MEMORY_LIMIT, memoryLimit as sizeOfMemory } from "../kit/duckdb.ts";

const THREADS_MAX = 256;

export const memoryLimit = sizeOfMemory
  .default(MEMORY_LIMIT)
  .describe(
    "Memory that DuckDB may use for this target, apart from Millrace's own. For a batch that does not fit it may take twice as much, for a row larger than an eighth of it eight times the row.",
  );

export const threads = z
  .int()
  .min(1)
  .max(THREADS_MAX)
  .default(1)
  .describe(
    "Threads that DuckDB may use for a statement. Writing takes less processor time with one; `query` has as many of its own.",
  );
