import { useEffect, useState } from "preact/hooks";
import { driftIn, equalOf, gapsOf, verdictOf } from "../../core/comparison-verdict.ts";
import type { ReportView } from "../../core/contracts/reconciliation.ts";
import { ask } from "../api.ts";
import { pageOf } from "../focus.ts";
import { ago, bytes, clock, count, duration, many, sentence } from "../format.ts";
import { lookOf } from "./proof.tsx";
import { List, Section } from "./section.tsx";
import { Tile } from "./tiles.tsx";

interface ReportProps {
  readonly id: string;
  readonly nowMs: number;
}

/** One comparison, without keys and values of rows. */
export function Report({ id, nowMs }: ReportProps) {
  const [report, setReport] = useState<ReportView | string | null>(null);
  useEffect(() => {
    setReport(null);
    void ask<{ report: ReportView | null }>("GET", `/api/v1/reports/${encodeURIComponent(id)}`).then((answer) =>
      setReport(
        answer.kind === "ok"
          ? (answer.value.report ?? "No report of this number is kept.")
          : "The daemon did not answer. Load the page again.",
      ),
    );
  }, [id]);
  if (report === null || typeof report === "string") return <p class="card soft">{report ?? "Loading …"}</p>;
  return <Found report={report} nowMs={nowMs} />;
}

function Found({ report, nowMs }: { readonly report: ReportView; readonly nowMs: number }) {
  const { startedAt, finishedAt, drift, alarm, tables, notComparable, suspended, besides } = report;
  const sum = (of: (row: Row) => number) => tables.reduce((total, row) => total + of(row), 0);
  const differing = sum(driftIn);
  const deadLetters = sum((row) => row.deadLetters);
  const gaps = gapsOf(report);
  return (
    <>
      <section class={`attention ${lookOf({ drift, alarm, deadLetters })}`} aria-labelledby="verdict">
        <h2 id="verdict">
          {drift ? many(differing, "row differs", "rows differ") : sentence(verdictOf(report).sentence)}
        </h2>
        <p>
          {clock(startedAt, nowMs)} ({ago(finishedAt, nowMs)}), in{" "}
          {duration((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000)}
          {gaps.length > 0 && `. Not all of it: ${gaps.join("; ")}`}
        </p>
        {drift && (
          <p>
            → <code>millrace report show {report.id}</code> lists their keys; <code>millrace reconcile --repair</code>{" "}
            reads them again.
          </p>
        )}
        {deadLetters > 0 && (
          <p>
            → <code>millrace dlq list</code> says why a row waits as a dead letter.
          </p>
        )}
      </section>
      <div class="tiles">
        <Tile name="rows compared" value={count(sum(({ compared }) => compared))} />
        <Tile name="missing" value={count(sum(({ missing }) => missing))} />
        <Tile name="extra" value={count(sum(({ extra }) => extra))} />
        <Tile name="different" value={count(sum(({ different }) => different))} />
        <Tile name="repaired" value={count(sum(({ repaired }) => repaired))} />
        <Tile name="read" value={bytes(sum(({ sourceBytes, sinkBytes }) => sourceBytes + sinkBytes))} />
      </div>
      <Section id="compared" title="Tables">
        <List
          of="tables that were compared"
          texts={["table", "sink", "result"]}
          figures={["at the source", "in the sink", "missing", "extra", "different", "repaired"]}
          rows={tables
            .toSorted(
              (a, b) => driftIn(b) - driftIn(a) || b.deadLetters - a.deadLetters || a.table.localeCompare(b.table),
            )
            .map((row) => (
              <tr key={`${row.sink} ${row.table}`}>
                <th scope="row" class="text">
                  <a href={pageOf("table", row.table)}>
                    <bdi>{row.table}</bdi>
                  </a>
                </th>
                <td class="text">
                  <a href={pageOf("sink", row.sink)}>
                    <bdi>{row.sink}</bdi>
                  </a>
                </td>
                <td class="text">
                  <span class={`pill ${driftIn(row) > 0 ? "bad" : row.deadLetters > 0 ? "warning" : "good"}`}>
                    {driftIn(row) > 0 ? "differs" : equalOf(row, report)}
                  </span>
                </td>
                <td>{count(row.sourceRows)}</td>
                <td>{count(row.sinkRows)}</td>
                <td>{count(row.missing)}</td>
                <td>{count(row.extra)}</td>
                <td>{count(row.different)}</td>
                <td>{count(row.repaired)}</td>
              </tr>
            ))}
        >
          {tables.length === 0 && <p class="soft">No table was compared.</p>}
        </List>
      </Section>
      {notComparable.length + suspended.length + besides.length > 0 && (
        <Section id="not-compared" title="Not compared, or only in part">
          <div class="card">
            <ul>
              {notComparable.map(({ sink, table, reason }) => (
                <li key={`${sink} ${table}`}>
                  <bdi>{table ?? "every table"}</bdi> in <bdi>{sink}</bdi>: {reason}
                </li>
              ))}
              {suspended.map(({ table, code, message }) => (
                <li key={table}>
                  <bdi>{table}</bdi> is suspended: {code} {message}
                </li>
              ))}
              {besides.map(({ table, what }) => (
                <li key={table}>
                  <bdi>{table}</bdi>: {what}
                </li>
              ))}
            </ul>
          </div>
        </Section>
      )}
    </>
  );
}

type Row = ReportView["tables"][number];
