import type { MillraceError, Raise } from "../errors.ts";

/** `target`: as a message names it. `owner`: see ForeignTarget. */
export function takenBy(raise: Raise, target: string, table: string, owner: string): MillraceError {
  const message = `${target} belongs to ${owner} now (daemon and sink), which has prepared it since`;
  return raise("MR3121", "fatal", message, { reason: "taken", table });
}
