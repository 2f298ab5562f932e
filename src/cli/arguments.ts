/** Reads the options and arguments of the command line, and refuses wrong ones (MR1110). */
import type { Place } from "../config/load.ts";
import type { MillraceError } from "../core/errors.ts";
import { parseDurationMs } from "../core/values/quantities.ts";
import { TABLE_GLOB } from "../core/table-selection.ts";
import { cliError } from "./errors.ts";
import { shellWord } from "../core/shell-word.ts";

/** Timers end at 2^31 ms. */
const DURATION_MS_MAX = 24 * 24 * 3_600_000;

export function durationOf(option: string, text: unknown): number {
  const ms = typeof text === "string" ? parseDurationMs(text) : undefined;
  if (ms === undefined) throw cliError("MR1110", `${option}: expected a duration such as 500ms, 10s, 5m, 1h`);
  if (ms > DURATION_MS_MAX) throw cliError("MR1110", `${option}: expected at most 24 days`);
  return ms;
}

/** A whole number of at least 1. `what` names the option or argument. */
export function countOf(what: string, text: unknown): number {
  if (typeof text !== "string" || !/^[1-9]\d{0,14}$/.test(text))
    throw cliError("MR1110", `${what}: expected a whole number of at least 1`);
  return Number(text);
}

/** The globs of `--tables`; an empty list if the option is missing. */
export function tableGlobs(given: unknown): readonly string[] {
  const globs = Array.isArray(given) ? given.map(String) : [];
  const wrong = globs.find((glob) => !TABLE_GLOB.test(glob));
  if (wrong !== undefined)
    throw cliError("MR1110", `--tables: ${JSON.stringify(wrong)} is not schema.table; * is a wildcard, ! excludes`, {
      hint: tablesHint([wrong]),
    });
  return globs;
}

export function noTableMatches(globs: readonly string[]): MillraceError {
  return cliError("MR1110", `--tables: no captured table matches ${globs.join(" ")}`, { hint: tablesHint(globs) });
}

function tablesHint(globs: readonly string[]): string {
  const list = globs.find((glob) => glob.includes(","));
  if (list === undefined) return "`millrace status --tables` lists the captured tables";
  const parts = list.split(",").map((part) => part.trim());
  return `name several tables with spaces between them, or repeat the option: --tables ${parts.map(shellWord).join(" ")}`;
}

/** Names of the chosen sinks: the one of `--sink`, or all. */
export function chosenSinks({ sinks }: Pick<Place, "sinks">, sink: string | null): readonly string[] {
  const names = sinks.map(({ name }) => name);
  if (sink === null) return names;
  if (names.includes(sink)) return [sink];
  throw cliError("MR1110", `there is no sink ${JSON.stringify(sink)}; the sinks are: ${names.join(", ")}`);
}
