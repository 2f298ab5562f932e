import { createPublicKey, type KeyObject } from "node:crypto";
import * as z from "zod";
import { equalIn } from "../../core/comparison-verdict.ts";
import type { ReconcileDocument, ReportSummary } from "../../core/contracts/reconciliation.ts";
import { count } from "../../core/figures.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { namedFilesAt, readNamedFile } from "../files.ts";
import { carryOut, readState } from "../state.ts";
import type { Config } from "../../config/config.ts";
import { systemClock } from "../../core/clock.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import { openReports, proofParts } from "../../daemon/comparing.ts";
import { proofReport } from "../../reconcile/proof/proof-report.ts";
import { keepReport } from "../../reconcile/report/report-folder.ts";
import type { Session } from "../session.ts";
import { exitOf, folderOf, writeReport } from "./reconcile.ts";
import { tableText } from "../table.ts";
import { type ReportProof, proofsOf } from "../../reconcile/report/signature.ts";
import { reportText } from "../../reconcile/report/text.ts";

const REPORT_BYTES_MAX = 256 * 1024 * 1024;
const KEY_BYTES_MAX = 64 * 1024;

/** What is checked counts, and whatever else there is is signed. */
const REPORT = z.custom<ReconcileDocument>(
  (value) =>
    z
      .looseObject({
        id: z.string(),
        name: z.string(),
        finishedAt: z.string(),
        tables: z.array(z.unknown()),
        signature: z
          .strictObject({
            key: z.string(),
            previous: z.strictObject({ id: z.string(), sha256: z.string() }).nullable(),
            value: z.string(),
          })
          .optional(),
      })
      .safeParse(value).success,
);

export function addReport({ program, action }: CommandLine): void {
  const report = program.command("report").description("past comparisons of the sinks with the source");
  report
    .command("list")
    .description("the stored reports, newest first")
    .action(
      action("each", async (session) => {
        const reports = await readState(await session.place(), ({ reports }) => reports.list());
        session.print({ reports }, describeAll(reports));
        return EXIT.done;
      }),
    );
  report
    .command("show [id]")
    .description("one report; without an id the newest")
    .action(
      action("each", async (session, _options, [id]) => {
        const found = await readState(await session.place(), async ({ reports }) => {
          const chosen = id ?? (await reports.list())[0]?.id;
          return chosen === undefined ? null : await reports.get(chosen);
        });
        if (found === null) {
          throw cliError("MR1114", id === undefined ? "no comparison has ended yet" : `there is no report ${id}`);
        }
        session.print(found, `${headingOf(found)}\n${reportText(found)}`);
        return EXIT.done;
      }),
    );
  report
    .command("proof")
    .description("make a report of what comparisons have proven until now, range by range, signed with reconcile.sign")
    .option("--report <folder>", "also write it as JSON, Markdown and HTML into this folder")
    .action(
      action("each", async (session, options) => {
        const folder = folderOf(options.text("--report"));
        const config = await session.config();
        const { id } = await carryOut(config, {
          path: "/api/v1/proofs/report",
          action: "report proof",
          subject: {},
          work: async (state) => ({ id: await madeHere(config, state, session) }),
        });
        const found = await readState(config, ({ reports }) => reports.get(id));
        if (found === null) throw cliError("MR1114", "the report could not be kept in the state; the log says why");
        if (folder !== null) await writeReport(folder, found, config, session);
        session.print(found, `${headingOf(found)}\n${reportText(found)}`);
        return exitOf(found);
      }),
    );
  report
    .command("verify [paths...]")
    .description("check the signatures of report files (JSON), or of folders of them; default: reconcile.reports")
    .option(
      "--key <file>",
      "the public key, in PEM; default: that of reconcile.sign, or the one that each report names",
    )
    .action(
      action("none", async (session, options, paths) => {
        const keyFile = options.text("--key");
        const { reports = null, sign = null } = paths.length === 0 ? (await session.config()).reconcile : {};
        if (paths.length === 0 && reports === null)
          throw cliError("MR1110", "name the files, or a folder: the config has no reconcile.reports");
        const key = keyFile !== null ? publicKeyIn(keyFile) : sign === null ? null : createPublicKey(sign);
        const proofs = proofsOf(reportsIn(reports === null ? paths : [reports.path]), key);
        const isRight = proofs.every(({ problem }) => problem === null);
        session.print({ right: isRight, reports: proofs }, proofText(proofs, key !== null));
        return isRight ? EXIT.done : EXIT.failed;
      }),
    );
}

/** Without a daemon. */
async function madeHere(config: Config, state: StateStore, session: Session): Promise<string> {
  const found = await proofReport(proofParts(config, systemClock, state));
  const redact = (json: string): string => session.secrets.redactJson(json);
  const { sign } = config.reconcile;
  const { reports } = state;
  await keepReport({ reports, folder: openReports(config), sign, redact, logger: session.log }, found);
  return found.id;
}

function headingOf({ kind, id, startedAt, finishedAt }: ReconcileDocument): string {
  return `${id}: ${kind === "proof" ? "proofs " : ""}from ${startedAt} to ${finishedAt}`;
}

/** The JSON files themselves, and those in folders. */
function reportsIn(paths: readonly string[]): readonly ReconcileDocument[] {
  const files = paths.flatMap((path) => namedFilesAt(path, ".json", "MR1110"));
  if (files.length === 0) throw cliError("MR1110", `there is no report in ${paths.join(", ")}`);
  return files.map((file) => {
    const text = readNamedFile(file, REPORT_BYTES_MAX, "MR1110");
    try {
      return REPORT.parse(JSON.parse(text));
    } catch (error) {
      throw cliError("MR1110", `${file} is no report of a comparison`, { cause: error });
    }
  });
}

function publicKeyIn(file: string): KeyObject {
  const pem = readNamedFile(file, KEY_BYTES_MAX, "MR1110");
  try {
    return createPublicKey(pem);
  } catch (error) {
    throw cliError("MR1110", `${file} is no public key in PEM`, { cause: error });
  }
}

function proofText(proofs: readonly ReportProof[], isOwn: boolean): string {
  const rows = proofs.map(({ id, finishedAt, problem }) => [id, finishedAt, problem ?? "right"]);
  const keys = [...new Set(proofs.flatMap(({ by }) => by ?? []))];
  const newest = [...new Map(proofs.map(({ name, sha256 }) => [name, sha256]))];
  return [
    tableText(["id", "finished", "signature"], rows, "none"),
    `signed by ${keys.join(", ") || "nobody"}${isOwn ? "" : ": compare it with your key's, or give --key"}`,
    ...newest.map(
      ([name, sha256]) =>
        `the digest of the newest report of ${name} is ${sha256}: kept elsewhere, it shows later whether reports are missing at the end`,
    ),
  ].join("\n");
}

function describeAll(reports: readonly ReportSummary[]): string {
  const head = ["id", "started", "took", "tables", "compared", "missing", "extra", "different", "repaired", "result"];
  const rows = reports.map((summary) => {
    const { id, startedAt, finishedAt, tables, compared, missing, extra, different, repaired } = summary;
    const took = `${((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000).toFixed(1)} s`;
    return [id, startedAt, took, tables, compared, missing, extra, different, repaired, resultOf(summary)];
  });
  return tableText(head, rows, "none");
}

function resultOf(summary: ReportSummary): string {
  const { kind, drift, alarm, notComparable, deadLetters, suspended, part, whole } = summary;
  const rest = [
    ...(kind === undefined ? [] : ["what is proven"]),
    ...(part == null ? [] : [`part ${part.number} of ${part.of}`]),
    ...(!whole ? ["not all was asked for"] : []),
    ...(notComparable === 0 ? [] : [`${notComparable} not comparable`]),
    ...(deadLetters === 0 || !drift ? [] : [count(deadLetters, "dead letter")]),
    ...(suspended === 0 ? [] : [`${suspended} suspended`]),
  ];
  return [alarm ? "differs" : drift ? "differs, as is allowed" : equalIn(summary), ...rest].join(", ");
}
