/** Where an error shows itself: derived from where the code raises it, and of which kind it is there. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type ErrorCode, type ErrorKind, MillraceError } from "../../src/core/errors.ts";
import { daemonExitCodeOf, exitCodeOf } from "../../src/cli/exit-codes.ts";

type Side = "source" | "sink";

/** What of the program's text says where a code appears. */
export interface Raised {
  readonly kinds: ReadonlySet<ErrorKind>;
  /** Of connectors. */
  readonly sides: ReadonlySet<Side>;
}

const CODE = /"(MR\d{4})"(?:,\s*(?:kind: )?"(retryable|blocked|fatal|poison|reopen|aborted)")?/g;

export function raisedIn(root: string): ReadonlyMap<string, Raised> {
  const found = new Map<string, { kinds: Set<ErrorKind>; sides: Set<Side> }>();
  for (const file of globSync("{src,connectors}/**/*.ts", { cwd: root }).toSorted()) {
    for (const [, code = "", kind] of readFileSync(join(root, file), "utf8").matchAll(CODE)) {
      const { kinds, sides } = found.get(code) ?? { kinds: new Set(), sides: new Set() };
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the pattern lists the kinds
      if (kind !== undefined) kinds.add(kind as ErrorKind);
      if (file.startsWith("connectors/")) sides.add(/\/source\//.test(file) ? "source" : "sink");
      found.set(code, { kinds, sides });
    }
  }
  return found;
}

const STOPPED = "At most in the log, while the daemon or the command stops.";

const OF_SINK: Readonly<Record<ErrorKind, string>> = {
  retryable:
    'In `millrace status` the sink is `retrying`, with this number and the next attempt. `millrace_sink_errors_total{kind="retryable"}` and `millrace_sink_lag_seconds` of the sink grow; if it lasts, the alert MillraceSinkLag fires.',
  blocked:
    "In `millrace status` the sink is `retrying` with this number, and the first lines say that it needs a person; `/readyz` names it. `millrace_sink_needs_person` of the sink is 1, and the alert MillraceSinkNeedsPerson fires. `millrace check` finds it before a start.",
  reopen:
    'In the log, and while it lasts in `millrace status` as the error of the sink. `millrace_sink_errors_total{kind="reopen"}` grows; `millrace_sink_activity{activity="wedged"}` is 1 if the target goes on giving no answer.',
  fatal:
    'In `millrace status` the sink is `failed` with this number, or, if it concerns one table, the table is suspended in the sink. `millrace_sink_state{state="failed"}` or `millrace_table_suspended` is 1; the alert MillraceSinkNeedsPerson or MillraceTableSuspended fires.',
  aborted: STOPPED,
  poison:
    "`millrace dlq list` counts the refused rows by cause and has the number of each letter. `millrace_dead_letters` of the sink is above 0, and the alert MillraceDeadLetters fires.",
};

function ofSource(kind: ErrorKind, code: ErrorCode): string {
  if (kind === "aborted") return STOPPED;
  if (kind === "fatal") return endsDaemon(code);
  if (kind === "blocked")
    return "`millrace status` shows it as the error of the source, and says that it needs a person; `/readyz` names it. `millrace_source_needs_person` is 1, and the alert MillraceSourceNeedsPerson fires. `millrace check` finds it before a start.";
  return "`millrace status` shows it as the error of the source, which is not `up`; `/readyz` names it. `millrace_source_up` is 0 while it lasts, `millrace_source_lag_seconds` grows, and after five minutes the alert MillraceSourceDown fires.";
}

function endsDaemon(code: ErrorCode, kind: ErrorKind = "fatal"): string {
  const exit = daemonExitCodeOf(new MillraceError({ code, kind, message: "" }));
  return `The daemon, or the command that met it, ends with exit code ${exit}. The last line of the log has the number, and \`millrace status\` shows it as the error over which the last daemon ended. The alert MillraceDown fires; \`millrace check\` may find the cause before a start.`;
}

/** A command prints it. */
function printed(code: ErrorCode): string {
  const exit = exitCodeOf(new MillraceError({ code, kind: "fatal", message: "" }));
  return `The command prints it and ends with exit code ${exit}; with \`--json\` it is \`error.code\`.`;
}

const CONFIG =
  "Every command that reads the config prints it, with file, line and column where there is one, before it does anything, and ends with exit code 2. `millrace check` reads the config alone and changes nothing.";
const REQUEST =
  "The answer to the request has it as `error.code`; the log of the daemon does not mention refused requests.";
const STATE =
  "`millrace status` shows it as `state.error` while a daemon runs; `millrace_state_up` is 0, `/readyz` says that the state can't be written, and the alert MillraceStateDown fires.";
const SUSPENDED_EVERYWHERE =
  '`millrace status` lists the table with this number as suspended in all sinks. `millrace_table_suspended{sink="*"}` is 1, `millrace_freshness_seconds` of the table grows, and the alert MillraceTableSuspended fires.';
const SUSPENDED_IN_SINK =
  "`millrace status` lists the table with this number as suspended in the sink (`tables.suspended`). `millrace_table_suspended` is 1 for table and sink, and the alert MillraceTableSuspended fires.";
const FAILED = OF_SINK.fatal;

/** Codes of the runtime and others that no place in the program's text tells of. */
const SPECIAL: Readonly<Record<string, string>> = {
  MR1116: `${printed("MR1116")} \`/healthz\` does not answer either, and the alert MillraceDown fires if the process is gone.`,
  MR1119:
    "A command prints it and ends with exit code 1. From a daemon the last line of the log has it with the stack; it ends with exit code 75, and a supervisor starts it again.",
  MR1153: "The answer to the request has it as `error.code`, with status 500 or 503.",
  MR1154: "The daemon prints it at its start and ends; the last line of the log names address and reason.",
  MR1158:
    "The log has a warning with this number. For `notify.webhook` `millrace status` shows it as `notify.error`, and the first lines say that nobody could be told.",
  MR1164:
    "The log has one warning with this number when it begins, and a line when metrics are taken again. The receiver lacks the metrics of that time; `/metrics` has them.",
  MR1209: STATE,
  MR1212: STATE,
  MR1215: STATE,
  MR1216: STATE,
  MR1217: STATE,
  MR1303: SUSPENDED_EVERYWHERE.replace("as suspended", "as waiting for approval, suspended"),
  MR1309: SUSPENDED_EVERYWHERE,
  MR1312: SUSPENDED_EVERYWHERE,
  MR1313: SUSPENDED_EVERYWHERE,
  MR2103: SUSPENDED_EVERYWHERE,
  MR2104: SUSPENDED_EVERYWHERE,
  MR2105: SUSPENDED_EVERYWHERE,
  MR2106: SUSPENDED_EVERYWHERE,
  MR1314: `${SUSPENDED_IN_SINK} The log has the stack.`,
  MR1324: SUSPENDED_IN_SINK,
  MR1326: `${SUSPENDED_IN_SINK} \`millrace audit list\` says who paused it.`,
  MR1328: `${SUSPENDED_IN_SINK} \`millrace dlq list\` counts the letters by cause. A history is \`failed\` as a whole.`,
  MR1336:
    "The log has a warning with this number, and `millrace snapshot list` shows the table's read with its reason.",
  MR1335: OF_SINK.reopen,
  MR1325: OF_SINK.poison,
  MR1301: FAILED,
  MR1302: `In \`millrace status\` the sink is \`failed\` with this number. \`millrace dlq list\` has the row. The alert MillraceSinkNeedsPerson fires.`,
  MR1304:
    "The log has it with the stack. `millrace status` shows it as the error of the sink or of the source; `millrace_sink_errors_total` or `millrace_source_up` tells how often.",
  MR1308: OF_SINK.retryable,
  MR1311: FAILED,
  MR1315: FAILED,
  MR1317: FAILED,
  MR1318: FAILED,
  MR1305: `At a start the command or daemon prints it and ends. While a daemon runs: ${SUSPENDED_IN_SINK}`,
  MR1330: endsDaemon("MR1330"),
  MR1402:
    "`millrace reconcile` prints it and ends with exit code 1. A scheduled comparison: `millrace status` has it as `reconcile.failure`, and `millrace_proof_age_seconds` grows until the alert MillraceProofOld fires.",
  MR1405:
    "The report of the comparison names table and sink; `millrace reconcile` prints it. `millrace_proof_age_seconds` of the table grows.",
  MR4201: OF_SINK.retryable,
  MR2901: `Where a source has the password: ${ofSource("blocked", "MR2901")} A sink shows it in the same way, as its own error.`,
  MR2902: `Where a source has the password: ${ofSource("blocked", "MR2902")} A sink shows it in the same way, as its own error.`,
};

const NOWHERE: Raised = { kinds: new Set(), sides: new Set() };
const KINDS = ["retryable", "blocked", "reopen", "fatal", "poison", "aborted"] as const;

/** What `millrace explain` and docs/errors.md say of it. */
export function howToSee(code: ErrorCode, raised: Raised | undefined): string {
  const special = SPECIAL[code];
  if (special !== undefined) return special;
  const number = Number(code.slice(2));
  if (number < 1100) return CONFIG;
  if (number >= 1150 && number < 1200) return REQUEST;
  if (number < 1200) return printed(code);
  if (number < 1300) return endsDaemon(code);
  if (number < 2000) return `${printed(code)} Over HTTP the answer to the request has it.`;
  const { kinds, sides } = raised ?? NOWHERE;
  const isOfSource = sides.has("source") && !sides.has("sink") ? true : number < 3000;
  // A source whose error is of no kind by itself meets it at its start.
  const known = KINDS.filter((kind) => kinds.has(kind));
  const shown = known.length === 0 ? (["fatal"] as const) : known;
  const texts = shown.map((kind) => (isOfSource ? ofSource(kind, code) : OF_SINK[kind]));
  if (texts.length === 1) return texts.join("");
  return shown.map((kind, i) => `${KIND_TITLES[kind]}: ${texts[i] ?? ""}`).join(" ");
}

const KIND_TITLES: Readonly<Record<ErrorKind, string>> = {
  retryable: "Where it may pass by itself",
  blocked: "Where somebody has to act",
  reopen: "Where the connection is opened again",
  fatal: "Where it is final",
  poison: "Where it concerns one row",
  aborted: "Where the work was stopped",
};
