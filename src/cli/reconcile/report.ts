import Table from "cli-table3";
import type { ReportSummary } from "../../core/contracts/reconciliation.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { readState } from "../read-state.ts";
import { reportText } from "../../reconcile/report/text.ts";

export function addReport({ program, action }: CommandLine): void {
  const report = program.command("report").description("past comparisons of the sinks with the source");
  report
    .command("list")
    .description("the stored reports, newest first")
    .action(
      action(async (session) => {
        const reports = await readState(await session.place(), ({ reports }) => reports.list());
        session.print({ reports }, describeAll(reports));
        return EXIT.done;
      }),
    );
  report
    .command("show [id]")
    .description("one report; without an id the newest")
    .action(
      action(async (session, _options, [id]) => {
        const found = await readState(await session.place(), async ({ reports }) => {
          const chosen = id ?? (await reports.list())[0]?.id;
          return chosen === undefined ? null : await reports.get(chosen);
        });
        if (found === null) {
          throw cliError("MR1114", id === undefined ? "no comparison has ended yet" : `there is no report ${id}`);
        }
        const heading = `${found.id}: from ${found.startedAt} to ${found.finishedAt}`;
        session.print(found, `${heading}\n${reportText(found)}`);
        return EXIT.done;
      }),
    );
}

function describeAll(reports: readonly ReportSummary[]): string {
  if (reports.length === 0) return "none";
  const head = ["id", "started", "took", "tables", "compared", "missing", "extra", "different", "repaired", "result"];
  const table = new Table({ head, style: { head: [], border: [], compact: true } });
  for (const summary of reports) {
    const { id, startedAt, finishedAt, tables, compared, missing, extra, different, repaired } = summary;
    const took = `${((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000).toFixed(1)} s`;
    table.push([id, startedAt, took, tables, compared, missing, extra, different, repaired, resultOf(summary)]);
  }
  return table.toString();
}

function resultOf({ drift, alarm, notComparable, deadLetters, suspended, part, whole }: ReportSummary): string {
  const rest = [
    ...(part == null ? [] : [`part ${part.number} of ${part.of}`]),
    ...(!whole ? ["not all was asked for"] : []),
    ...(notComparable === 0 ? [] : [`${notComparable} not comparable`]),
    ...(deadLetters === 0 ? [] : [`${deadLetters} dead letters`]),
    ...(suspended === 0 ? [] : [`${suspended} suspended`]),
  ];
  const equal = rest.length === 0 ? "equal" : "what was compared is equal";
  return [alarm ? "differs" : drift ? "differs, as is allowed" : equal, ...rest].join(", ");
}
