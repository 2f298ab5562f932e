/** DuckDB's engine, for sinks that write with it. */
import { z } from "zod";
import type { ByteWriter } from "../../src/core/bytes.ts";

/** A key of the configuration, and its default. */
export const memorySize = z.string().regex(/^\d+(\.\d+)?\s*([KMGT]i?B)$/i, "a size like 512MB");
export const MEMORY_LIMIT = "512MB";

const THREADS_MAX = 256;

export const memoryLimit = memorySize
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

const QUOTE = 0x22;

/** Text within a quoted field of CSV. */
export function writeDoublingQuotes(out: ByteWriter, text: Buffer): void {
  let from = 0;
  for (let at = text.indexOf(QUOTE); at >= 0; at = text.indexOf(QUOTE, from)) {
    out.copy(text, from, at + 1 - from);
    out.byte(QUOTE);
    from = at + 1;
  }
  out.copy(text, from, text.length - from);
}

/** A statement ends at a NUL, so each NUL is written by its number. */
export function quoteLiteral(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes("\0") ? `(${quoted.replaceAll("\0", "' || chr(0) || '")})` : quoted;
}
