import type { MillraceError, Raise } from "../errors.ts";

/** `target`: as a message names it. `owner`: see ForeignTarget. */
export function takenBy(raise: Raise, target: string, table: string, owner: string): MillraceError {
  const message = `${target} belongs to ${owner} now (daemon and sink), which has prepared it since`;
  return raise("MR3121", "fatal", message, { reason: "taken", table });
}

/** Of a table's part of a target that tables share: the sink that has it keeps it, until an operator gives it to another one. */
export function partTakenBy(raise: Raise, table: string, owner: string): MillraceError {
  const message = `the rows of ${table} in the target that it shares belong to ${owner} (daemon and sink)`;
  const hint = `Give the table another value in \`add\`, or leave it out, here or there. Or take the rows from ${owner}, which then suspends the table: \`millrace snapshot start --tables ${table} --sink NAME\`.`;
  return raise("MR3121", "fatal", message, { reason: "taken", table, hint });
}
