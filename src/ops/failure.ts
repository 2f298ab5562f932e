import type { ErrorCode } from "../core/errors.ts";

/** What every refusal of the admin interface looks like. */
export function failure(code: ErrorCode, message: string, hint: string | null = null) {
  return { error: { code, message, hint } };
}
