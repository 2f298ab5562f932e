import { findMillraceError } from "../core/errors.ts";

/** Public: scripts rely on these codes. */
export const EXIT = {
  done: 0,
  failed: 1,
  /** Wrong usage or configuration. */
  wrong: 2,
  /** A reconciliation found drift; `status --exit-code`: something needs a person; `import`: something is to be decided. */
  drift: 3,
  /** Refused in the present state: another daemon holds the lease, a file exists, or a confirmation is missing. */
  refused: 4,
  timedOut: 5,
  /**
   * The daemon stopped for a reason that may pass, or that somebody can fix outside Millrace: a supervisor starts it
   * again (EX_TEMPFAIL).
   */
  again: 75,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Another process took the lease, or the state was unreachable for long. The next start finds out which. */
const STATE_AGAIN = new Set(["MR1209", "MR1210", "MR1215", "MR1216"]);
const REFUSALS = new Set([
  "MR1112",
  "MR1118",
  "MR1120",
  "MR1122",
  "MR1127",
  "MR1130",
  "MR1142",
  "MR1213",
  "MR1336",
  "MR1401",
  "MR2012",
]);
const WRONG_USAGE = new Set(["MR1110", "MR1140", "MR1201", "MR1404"]);
const LATE = new Set(["MR1123"]);

/**
 * The exit code of a daemon. A person must decide where going on would be wrong (a gap can't be ruled out). Every other
 * failure, bugs included, is worth another start, which resumes from the state and the sinks.
 */
export function daemonExitCodeOf(error: unknown): ExitCode {
  const code = exitCodeOf(error);
  if (code !== EXIT.failed) return code;
  const known = findMillraceError(error);
  return known?.kind === "fatal" && !STATE_AGAIN.has(known.code) ? EXIT.failed : EXIT.again;
}

export function exitCodeOf(error: unknown): ExitCode {
  const code = findMillraceError(error)?.code;
  if (code === undefined) return EXIT.failed;
  if (REFUSALS.has(code)) return EXIT.refused;
  if (LATE.has(code)) return EXIT.timedOut;
  return code.startsWith("MR10") || WRONG_USAGE.has(code) ? EXIT.wrong : EXIT.failed;
}
