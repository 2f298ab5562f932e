import { getSystemErrorMap } from "node:util";

/** What the operating system, or the resolver, calls its errors; drivers hand them on as `code`. */
const NAMES: ReadonlySet<string> = new Set([
  ...[...getSystemErrorMap().values()].map(([name]) => name),
  "ENOTFOUND",
  "ESERVFAIL",
]);

/**
 * The system's code, where a connection failed by it. Network, host, file handles, memory: whatever it is, it is of this
 * machine or of the way to the other one, and says nothing of what the other one holds. So it may pass, and every
 * connector tries again.
 */
export function systemErrorCode(error: unknown): string | undefined {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && NAMES.has(code) ? code : undefined;
}

/** The same where a driver keeps the code in its sentence alone. */
export function systemErrorCodeIn(text: string): string | undefined {
  return text.match(/\bE[A-Z0-9_]+\b/g)?.find((word) => NAMES.has(word));
}
