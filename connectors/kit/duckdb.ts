/** DuckDB's engine, for sinks that write with it. */
import { z } from "zod";

/** A key of the configuration, and its default. */
export const memoryLimit = z.string().regex(/^\d+(\.\d+)?\s*([KMGT]i?B)$/i, "a size like 512MB");
export const MEMORY_LIMIT = "512MB";

/** A statement ends at a NUL, so each NUL is written by its number. */
export function quoteLiteral(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes("\0") ? `(${quoted.replaceAll("\0", "' || chr(0) || '")})` : quoted;
}
