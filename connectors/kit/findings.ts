import type { Finding } from "../../src/core/contracts/connector.ts";
import type { MillraceError } from "../../src/core/errors.ts";

/** A check that found nothing wrong. */
export function ok(id: string, what: string): Finding {
  return { id, level: "ok", what, fix: null };
}

/** A check that ended with an error, told with its number. */
export function failed(id: string, error: MillraceError): Finding {
  const { code, message, hint } = error;
  return { id, level: "error", what: `${code}: ${message}`, fix: hint ?? null, error };
}
