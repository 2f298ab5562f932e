import { equalIn } from "../../core/comparison-verdict.ts";
import type { ReportSummary } from "../../core/contracts/reconciliation.ts";
import type { ContinuousStatus, StatusDocument } from "../../core/contracts/status.ts";
import { pageOf } from "../focus.ts";
import { ago, clock, count, duration } from "../format.ts";
import { List, Section } from "./section.tsx";

interface ProofProps {
  readonly status: StatusDocument;
  readonly reports: readonly ReportSummary[];
  readonly nowMs: number;
}

const SHOWN_MAX = 15;

/** Comparisons of the sinks with the source. */
export function Proof({ status: { reconcile }, reports, nowMs }: ProofProps) {
  const { next, continuous } = reconcile;
  const planned = next === null ? "no comparison is planned" : `next: ${clock(next, nowMs)}`;
  return (
    <Section
      id="proof"
      title="Proof"
      beside={<span class="soft">{continuous == null ? planned : proofText(continuous, nowMs)}</span>}
    >
      {reports.length === 0 ? (
        <p class="card soft">
          No comparison has ended yet. <code>millrace reconcile</code> compares every row of every sink with the source.
        </p>
      ) : (
        <List
          of="comparisons"
          texts={["comparison", "result"]}
          figures={["rows", "missing", "extra", "different", "repaired", "took", "ended"]}
          rows={reports.slice(0, SHOWN_MAX).map((report) => (
            <Report key={report.id} report={report} nowMs={nowMs} />
          ))}
        />
      )}
    </Section>
  );
}

function proofText({ oldest, neverProven, places, waits }: ContinuousStatus, nowMs: number): string {
  const pause = waits === null ? "" : `, stands back: ${waits}`;
  if (neverProven > 0) return `${count(places - neverProven)} of ${count(places)} proven${pause}`;
  return oldest?.provenAt == null ? "nothing to prove" : `the oldest proof: ${ago(oldest.provenAt, nowMs)}${pause}`;
}

function Report({ report, nowMs }: { readonly report: ReportSummary; readonly nowMs: number }) {
  const { id, startedAt, finishedAt, drift, alarm, compared, missing, extra, different, repaired, deadLetters } =
    report;
  return (
    <tr>
      <th scope="row" class="text">
        <a href={pageOf("report", id)}>{id}</a>
      </th>
      <td class="text">
        <span class={`pill ${lookOf({ drift, alarm, deadLetters })}`}>{drift ? "differs" : equalIn(report)}</span>
      </td>
      <td>{count(compared)}</td>
      <td>{count(missing)}</td>
      <td>{count(extra)}</td>
      <td>{count(different)}</td>
      <td>{count(repaired)}</td>
      <td>{duration((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000)}</td>
      <td>{ago(finishedAt, nowMs)}</td>
    </tr>
  );
}

/** Of a comparison. */
export function lookOf({ drift, alarm, deadLetters }: Pick<ReportSummary, "drift" | "alarm" | "deadLetters">): string {
  return alarm ? "bad" : drift || deadLetters > 0 ? "warning" : "good";
}
