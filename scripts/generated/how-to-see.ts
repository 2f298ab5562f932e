/** Where an error shows itself: derived from the place that raises it, and of which kind it is there. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ErrorCode, ErrorKind, ErrorPage } from "../../src/core/errors.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { daemonExitCodeOf, exitCodeOf } from "../../src/cli/exit-codes.ts";

/** What docs/errors.md says once of each place; the page of a number names its places. */
export const PLACES = {
  config:
    "Every command that reads the config prints it, with file, line and column, before it does anything, and ends with exit code 2. If a table changes later so that its rule no longer fits, or comes later, that table alone is suspended; Millrace reads it again after a start with a rule that fits, or when the source has what the rule needs.",
  command: "The command prints it and ends with the exit code. Over HTTP the answer has it.",
  request: "The answer of the admin interface has it; the daemon's log does not mention refused requests.",
  log: "The daemon's log has it, once for as long as it lasts, and `millrace status` where it belongs (`notify.error`, the list of snapshots).",
  state:
    "`millrace status` shows it as `state.error`. `millrace_state_up` is 0, and the alert MillraceStateDown fires. A start waits.",
  start:
    "The daemon, or the command that met it, ends with the exit code. The log's last line has it, and `millrace status` says over what the last daemon ended. The alert MillraceDown fires; `millrace check` may find the cause before a start.",
  "source retryable":
    "`millrace status` shows it as the error of the source; `/readyz` names it. `millrace_source_up` is 0, `millrace_source_lag_seconds` grows, and after five minutes the alert MillraceSourceDown fires.",
  "source blocked":
    "`millrace status` shows it as the error of the source, which needs a person; `/readyz` names it. `millrace_source_needs_person` is 1, and the alert MillraceSourceNeedsPerson fires. `millrace check` finds it before a start.",
  "sink retryable":
    'In `millrace status` the sink is `retrying`. `millrace_sink_errors_total{kind="retryable"}` and `millrace_sink_lag_seconds` grow; if it lasts, the alert MillraceSinkLag fires.',
  "sink blocked":
    "In `millrace status` the sink is `retrying` and needs a person; `/readyz` names it. `millrace_sink_needs_person` is 1, and the alert MillraceSinkNeedsPerson fires. `millrace check` finds it before a start.",
  "sink reopen":
    'In the log, and while it lasts in `millrace status` as the error of the sink. `millrace_sink_errors_total{kind="reopen"}` grows.',
  "sink fatal":
    'In `millrace status` the sink is `failed` or, if it concerns one table, that table is suspended in the sink; the others go on. `millrace_sink_state{state="failed"}` or `millrace_table_suspended` is 1; the alert MillraceSinkNeedsPerson or MillraceTableSuspended fires.',
  row: "`millrace dlq list` counts the refused rows by cause and number. `millrace_dead_letters` of the sink is above 0, and the alert MillraceDeadLetters fires.",
  suspended:
    '`millrace status` lists the table as suspended in all sinks; the others go on. `millrace_table_suspended{sink="*"}` is 1, and the alert MillraceTableSuspended fires.',
  "suspended in a sink":
    "`millrace status` lists the table as suspended in the sink; the others go on. `millrace_table_suspended` is 1, and the alert MillraceTableSuspended fires.",
  stop: "At most in the log, while the daemon or the command stops.",
} as const;

type Place = keyof typeof PLACES;

const CODE = /"(MR\d{4})"(?:,\s*(?:kind: )?"(retryable|blocked|fatal|poison|reopen|aborted)")?/g;

/** By code, what the program's text says of the places that raise it; a place of no kind counts if there is no other. */
export function raisedIn(root: string): ReadonlyMap<string, ReadonlySet<Place>> {
  const found = new Map<string, Map<Place, boolean>>();
  for (const file of globSync("{src,connectors}/**/*.ts", { cwd: root }).toSorted()) {
    if (file === "src/cli/exit-codes.ts") continue;
    for (const [, code = "", kind] of readFileSync(join(root, file), "utf8").matchAll(CODE)) {
      const places = found.get(code) ?? new Map<Place, boolean>();
      found.set(code, places);
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the pattern lists the kinds
      for (const place of placesOf(file, kind as ErrorKind | undefined))
        places.set(place, kind !== undefined || place === "config" || places.get(place) === true);
    }
  }
  return new Map(
    [...found].map(([code, places]) => {
      const sure = [...places].filter(([, isSure]) => isSure);
      return [code, new Set((sure.length === 0 ? [...places] : sure).map(([place]) => place))];
    }),
  );
}

function placesOf(file: string, kind: ErrorKind = "fatal"): readonly Place[] {
  if (/^src\/(config|rules)\//.test(file)) return ["config"];
  if (file.startsWith("src/ops/admin/")) return ["request"];
  if (file.startsWith("src/ops/")) return ["log"];
  if (kind === "aborted") return ["stop"];
  if (file.startsWith("src/state/")) return [kind === "fatal" ? "start" : "state"];
  if (file.startsWith("src/passwords/")) return ["source blocked", "sink blocked"];
  if (kind === "poison") return ["row"];
  const isOfSource = /\/source\/|^connectors\/mysql\//.test(file);
  if (isOfSource) return [kind === "fatal" ? "start" : kind === "blocked" ? "source blocked" : "source retryable"];
  return /^(connectors|src\/runtime)\//.test(file) ? [`sink ${kind}`] : ["command"];
}

/** Names of `PLACES`, with the exit code where a process ends by it. */
export function howToSee(code: ErrorCode, { seen }: ErrorPage, raised: ReadonlySet<Place> | undefined): string {
  const places = seen === undefined ? (raised ?? new Set<Place>(["start"])) : new Set<Place>([seen]);
  const error = new MillraceError({ code, kind: "fatal", message: "" });
  const named: ReadonlySet<string> = places;
  return Object.keys(PLACES)
    .filter((place) => named.has(place))
    .map((place) => {
      if (place === "start") return `start (exit code ${daemonExitCodeOf(error)})`;
      return place === "command" ? `${place} (exit code ${exitCodeOf(error)})` : place;
    })
    .join(", ");
}
