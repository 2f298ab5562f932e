import { type ErrorPages, findMillraceError, type MillraceError, raising } from "../core/errors.ts";

export const pages = {
  MR1401: {
    title: "A comparison is running already",
    remedy: "Wait until the running one ends; the command that started it prints its result.",
    cause:
      "`millrace reconcile` compares once at a time: a comparison reads the source's tables and uses the sinks' queues.",
  },
  MR1402: {
    title: "The comparison was broken off",
    remedy:
      "`millrace reconcile --resume ID` continues where it stopped; `millrace reconcile` starts from the beginning. Of a scheduled one `millrace status` has it as `reconcile.failure`, and without continuous comparisons the alert MillraceProofOld fires.",
    cause:
      "The daemon ended before everything was compared, the source was unreachable for longer than `--patience`, or nobody waited for it any more. Rows that were repaired before stay repaired.",
  },
  MR1404: {
    title: "The comparison can't be resumed",
    remedy:
      "See what it has found, if it has ended (`millrace report show ID`), or run `millrace reconcile` without `--resume`.",
    cause:
      "`--resume` names a comparison that has ended, that never was, or was followed by another one: only the newest unfinished comparison is kept.",
  },
  MR1405: {
    title: "Rows are newer than the log",
    remedy:
      "Stop the daemon, `millrace recover --anyway` (shows the plan), `millrace recover --anyway --yes`: another epoch begins at the end of the source's log, all sinks are compared, and what differs is read again. Then `millrace run`.",
    cause:
      "The sink has rows, or notes of deleted rows, with higher versions than the log: the source was restored, or another program wrote them. Changes and `reconcile --repair` do not reach them.",
    seen: "command",
  },
} as const satisfies ErrorPages;

const raise = raising(pages);

export function alreadyRunning(id: string): MillraceError {
  return raise("MR1401", `comparison ${id} is running`);
}

/** Only the newest unfinished comparison is kept. */
export function nothingToResume(id: string): MillraceError {
  return raise("MR1404", `of a comparison ${id} nothing is kept`);
}

export function notStreaming(): MillraceError {
  const hint = "Wait until `millrace status` shows the phase `streaming`, then run `millrace reconcile` again.";
  return raise("MR1120", "the daemon does not stream yet", { hint });
}

export function brokenOff(id: string, why = "the daemon ended"): MillraceError {
  return raise("MR1402", `comparison ${id} was broken off: ${why}`);
}

/** The source was unreachable for longer than the patience: nothing can be compared. Never leaves this folder. */
export class SourceAwayError extends Error {
  override readonly name = "SourceAwayError";
}

/** Why a table in a sink is not compared, or not completely. Never leaves this folder: it is a result. */
export class NotComparableError extends Error {
  override readonly name = "NotComparableError";
  /** Whether all other tables of the sink would fail too. */
  readonly isWhole: boolean;

  constructor(reason: string, isWhole = false) {
    super(reason);
    this.isWhole = isWhole;
  }
}

/** For `NotComparable`. */
export function reasonOf(error: unknown): string {
  const known = findMillraceError(error);
  if (known !== undefined) return `${known.code} ${known.message}`;
  return error instanceof Error ? error.message : String(error);
}
