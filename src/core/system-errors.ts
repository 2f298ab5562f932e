import { getSystemErrorMap } from "node:util";

/** Error codes of the operating system and the resolver; drivers pass them on as `code`. */
const NAMES: ReadonlySet<string> = new Set([
  ...[...getSystemErrorMap().values()].map(([name]) => name),
  "ENOTFOUND",
  "ESERVFAIL",
]);

/**
 * The system's code of a failed connection. Such a failure (network, host, file handles, memory) concerns this machine
 * or the way to the other one, and says nothing about what the other one holds. It may pass, so every connector
 * retries.
 */
export function systemErrorCode(error: unknown): string | undefined {
  const code: unknown = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" && NAMES.has(code) ? code : undefined;
}

/** The same for drivers that keep the code only in their message. */
export function systemErrorCodeIn(text: string): string | undefined {
  return text.match(/\bE[A-Z0-9_]+\b/g)?.find((word) => NAMES.has(word));
}
