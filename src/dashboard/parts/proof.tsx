import type { ReportSummary } from "../../core/contracts/reconciliation.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import { ago, clock, count, duration } from "../format.ts";

interface ProofProps {
  readonly status: StatusDocument;
  readonly reports: readonly ReportSummary[];
  readonly nowMs: number;
}

const SHOWN_MAX = 15;

/** Comparisons of the sinks with the source. */
export function Proof({ status: { reconcile }, reports, nowMs }: ProofProps) {
  const { next } = reconcile;
  return (
    <section id="proof" aria-labelledby="proof-title">
      <div class="heading">
        <h2 id="proof-title">Proof</h2>
        <span class="soft">{next === null ? "no comparison is planned" : `next: ${clock(next, nowMs)}`}</span>
      </div>
      {reports.length === 0 ? (
        <p class="card soft">
          No comparison has ended yet. <code>millrace reconcile</code> compares every row of every sink with the source.
        </p>
      ) : (
        <div class="card wide" tabIndex={0} role="group" aria-label="List of comparisons">
          <table>
            <thead>
              <tr>
                <th scope="col" class="text">
                  comparison
                </th>
                <th scope="col" class="text">
                  result
                </th>
                <th scope="col">rows</th>
                <th scope="col">missing</th>
                <th scope="col">extra</th>
                <th scope="col">different</th>
                <th scope="col">repaired</th>
                <th scope="col">took</th>
                <th scope="col">ended</th>
              </tr>
            </thead>
            <tbody>
              {reports.slice(0, SHOWN_MAX).map((report) => (
                <Report key={report.id} report={report} nowMs={nowMs} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Report({ report, nowMs }: { readonly report: ReportSummary; readonly nowMs: number }) {
  const { id, startedAt, finishedAt, drift, alarm, compared, missing, extra, different, repaired } = report;
  return (
    <tr>
      <th scope="row" class="text">
        {id}
      </th>
      <td class="text">
        <span class={`pill ${alarm ? "bad" : drift ? "warning" : "good"}`}>{drift ? "differs" : "equal"}</span>
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
