import { Option } from "commander";
import type { Config } from "../../config/config.ts";
import type { Place } from "../../config/load.ts";
import { pause, systemClock } from "../../core/clock.ts";
import type { ReconcileDocument, ReconcileRequest, ReconcileStatus } from "../../core/contracts/reconciliation.ts";
import { fatalFrom } from "../../core/errors.ts";
import { keepHeapSmall } from "../../ops/heap.ts";
import { brokenOff, nothingToResume } from "../../reconcile/errors.ts";
import { keptRequest } from "../../reconcile/run.ts";
import { redacted, ReportFolder } from "../../reconcile/report/report-folder.ts";
import { TableSelection } from "../../core/table-selection.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { cliError } from "../errors.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { chosenSinks, type Options, withNest } from "../options.ts";
import { reportText } from "../../reconcile/report/text.ts";
import { runHere, untilSignal } from "../commands/run.ts";
import type { Session } from "../session.ts";
import { auditedLater, chosenTables, readState } from "../state.ts";

/** How often the command asks whether the comparison has ended. */
const LOOK_MS = 250;
const PROGRESS_MS = 10_000;
const SAMPLE_MAX = 10_000;

export function addReconcile({ program, action }: CommandLine): void {
  program
    .command("reconcile")
    .description("compare the sinks with the source, row by row, while both are live; exit code 3 if they differ")
    .option("--tables <globs...>", "schema.table globs; default: all")
    .option("--sink <name>", "this sink only")
    .addOption(
      new Option("--mode <mode>", "fast: every key, and the values of another seventh of the rows each day")
        .choices(["full", "fast"])
        .default("full"),
    )
    .option("--deep", "also put documents together from the source's rows, without the nest, and compare")
    .option("--repair", "read differing rows again from the source, and compare them once more")
    .option("--dry-run", "say what --repair would do, and write nothing")
    .option("--resume <id>", "resume this interrupted comparison, with its own options")
    .option("--show-values", "also show the values that differ, on the terminal and in --report")
    .option("--report <folder>", "also write the result as JSON, Markdown and HTML into this folder")
    .option("--patience <duration>", "how long to wait for a sink that makes no progress", "60s")
    .option("--sample <rows>", "how many differing rows to list per table and sink", "20")
    .action(
      action("each", async (session, options) => {
        const place = await session.place();
        const resumed = options.text("--resume");
        const request = await (resumed === null ? requestOf(place, options) : resumedRequest(place, resumed));
        const folder = folderOf(options.text("--report"));
        const found =
          (await byDaemon(place, request, session)) ?? (await alone(await session.config(), request, session));
        if (folder !== null) await writeReport(folder, found, place, session);
        session.print(found, reportText(found, options.has("--dry-run")));
        return exitOf(found);
      }),
    );
}

/** Created, and tested, before the comparison starts. */
export function folderOf(path: string | null): ReportFolder | null {
  if (path === null) return null;
  try {
    return ReportFolder.open(path);
  } catch (error) {
    throw cliError("MR1113", `--report: ${path} can't be written to`, { cause: error });
  }
}

export async function writeReport(
  folder: ReportFolder,
  found: ReconcileDocument,
  place: Pick<Place, "state" | "name">,
  session: Session,
): Promise<void> {
  const history = await readState(place, ({ reports }) => reports.list());
  const kept = redacted(found, (json) => session.secrets.redactJson(json));
  let isNew: boolean;
  try {
    isNew = await folder.write(kept, history);
  } catch (error) {
    throw cliError("MR1113", "--report: the report can't be written", { cause: error });
  }
  if (!isNew) session.log.warn({ id: found.id }, "the folder of --report has this report already: it stays as it is");
}

async function requestOf(place: Place, options: Options): Promise<ReconcileRequest> {
  const patienceMs = options.durationMs("--patience");
  const sink = options.text("--sink");
  const sinks = sink === null ? [] : chosenSinks(withNest(place), sink);
  const globs = options.tableGlobs();
  const chosen = globs.length === 0 ? [] : await chosenTables(place, globs);
  // Also when all are wanted: without a state nothing was copied, so there is nothing to compare.
  if (globs.length === 0) await readState(place, async () => undefined);
  const selection = new TableSelection(globs);
  return {
    tables: chosen.map(({ id }) => id),
    mayLack: chosen.filter(({ schema, table }) => !selection.isLiteral(schema, table)).map(({ id }) => id),
    sinks,
    patienceMs,
    deep: options.has("--deep"),
    repairs: options.has("--repair") && !options.has("--dry-run"),
    sampleMax: sampleMaxOf(options.count("--sample")),
    mode: options.text("--mode") === "fast" ? "fast" : "full",
    showsValues: options.has("--show-values"),
    resume: null,
  };
}

async function resumedRequest(place: Place, id: string): Promise<ReconcileRequest> {
  const kept = await readState(place, ({ comparisons }) => comparisons.get(id));
  if (kept === null) throw nothingToResume(id);
  return { ...keptRequest(kept), resume: id };
}

function sampleMaxOf(count: number): number {
  if (count > SAMPLE_MAX) throw cliError("MR1110", `--sample: at most ${SAMPLE_MAX}`);
  return count;
}

/** Undefined if no daemon runs. Ctrl-C also stops the comparison in the daemon. */
export async function byDaemon(
  place: Place,
  request: ReconcileRequest,
  session: Session,
): Promise<ReconcileDocument | undefined> {
  const client = new DaemonClient(place.state);
  // Listens before the daemon begins: a signal to this command at any moment must stop the comparison too.
  const stopping = untilSignal();
  const started = await client.ask<{ id: string }>("POST", "/api/v1/reconcile", request);
  if (started === undefined) return undefined;
  const { id } = started;
  let toldMs = performance.now();
  for (;;) {
    const status = await client.ask<ReconcileStatus>("GET", "/api/v1/reconcile");
    if (status === undefined) throw brokenOff(id);
    const { running, last, failure } = status;
    if (last?.id === id) return last;
    if (failure?.id === id) throw fatalFrom(failure);
    // Another daemon has replaced the one that was asked.
    if (running?.id !== id) throw brokenOff(id);
    if (performance.now() - toldMs > PROGRESS_MS) {
      toldMs = performance.now();
      const { tablesDone, tableCount, table, rowsCompared } = running;
      session.log.info({ id, table, tablesDone, tableCount, rowsCompared }, "comparing");
    }
    if (stopping.aborted) {
      await client.ask("DELETE", `/api/v1/reconcile/${id}`);
      throw brokenOff(id, "it was stopped");
    }
    await pause(systemClock, LOOK_MS, stopping);
  }
}

/** Without a daemon: first brings the sinks up to date. */
async function alone(config: Config, request: ReconcileRequest, session: Session): Promise<ReconcileDocument> {
  const options = { once: true, reconcile: request, ...session.daemon };
  keepHeapSmall();
  const { reconciled } = await runHere(config, options);
  if (reconciled === null) throw brokenOff("in place of the daemon");
  const { sinks, tables, mode, repairs, resume } = request;
  const subject = { sinks, tables, mode, repairs, resume };
  const { id, drift } = reconciled;
  await auditedLater(config, "reconcile", subject, { id, drift });
  return reconciled;
}

export function exitOf({ alarm, notComparable }: ReconcileDocument): ExitCode {
  if (alarm) return EXIT.drift;
  return notComparable.every(({ isExpected }) => isExpected === true) ? EXIT.done : EXIT.failed;
}
