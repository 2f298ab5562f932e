import { findMillraceError } from "../core/errors.ts";

/** What scripts may rely on. */
export const EXIT = {
  done: 0,
  failed: 1,
  /** Wrong usage or configuration. */
  wrong: 2,
  /** A reconciliation found drift; with `status --exit-code`: something needs a person. */
  drift: 3,
  /** Refused in the present state: another daemon holds the lease, a file is there, a confirmation is missing. */
  refused: 4,
  timedOut: 5,
  /** The daemon ended over what may pass, or what somebody outside can mend: a supervisor starts it again (EX_TEMPFAIL). */
  again: 75,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The lease went to another process, or the state could not be reached for long: the next start finds out. */
const STATE_AGAIN = new Set(["MR1210", "MR1212", "MR1215", "MR1216", "MR1217"]);
const REFUSALS = new Set([
  "MR1112",
  "MR1118",
  "MR1120",
  "MR1122",
  "MR1127",
  "MR1130",
  "MR1132",
  "MR1213",
  "MR1310",
  "MR1401",
  "MR2012",
  "MR2134",
]);
const WRONG_USAGE = new Set(["MR1110", "MR1111", "MR1201", "MR1404"]);
const LATE = new Set(["MR1123"]);

/**
 * Of a daemon. Where going on would be wrong (a gap that can't be ruled out) a person decides; everything else, defects
 * included, is worth another start: it goes on where the state and the sinks are.
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
