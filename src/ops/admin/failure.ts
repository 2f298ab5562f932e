import type { ErrorCode } from "../../core/errors.ts";

/** The form of every refusal of the admin interface. */
export function failure(code: ErrorCode, message: string, hint: string | null = null) {
  return { error: { code, message, hint } };
}
