import { findMillraceError } from "../core/errors.ts";

/** What scripts may rely on. */
export const EXIT = {
  done: 0,
  failed: 1,
  /** Wrong usage or configuration. */
  wrong: 2,
  /** A reconciliation found drift. */
  drift: 3,
  /** Refused in the present state: another daemon holds the lease, a file is there, a confirmation is missing. */
  refused: 4,
  timedOut: 5,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

const REFUSALS = new Set(["MR1112", "MR1118", "MR1120", "MR1122", "MR1127", "MR1213", "MR1310", "MR1401"]);
const WRONG_USAGE = new Set(["MR1110", "MR1111", "MR1201", "MR1404"]);
const LATE = new Set(["MR1123"]);

export function exitCodeOf(error: unknown): ExitCode {
  const code = findMillraceError(error)?.code;
  if (code === undefined) return EXIT.failed;
  if (REFUSALS.has(code)) return EXIT.refused;
  if (LATE.has(code)) return EXIT.timedOut;
  return code.startsWith("MR10") || WRONG_USAGE.has(code) ? EXIT.wrong : EXIT.failed;
}
