import type {
  DriftKind,
  ReconcileDocument,
  ReportSummary,
  TableReconciliation,
} from "../../core/contracts/reconciliation.ts";
import { summaryOf } from "../../core/contracts/reconciliation.ts";
import { count, digits, utc } from "../../core/figures.ts";
import { type Bar, bars } from "../../html/bars.ts";
import { columns } from "../../html/columns.ts";
import { type Markup, markup } from "../../html/markup.ts";
import { driftIn, duration, secondsOf } from "./verdict.ts";

const KINDS: readonly DriftKind[] = ["missing", "extra", "different"];
const BARS_MAX = 20;
/** How many past runs to show: two months of nights, which fit on a phone. */
const RUNS_MAX = 60;

const LEGEND = markup`<div class="legend">${KINDS.map((kind) => markup`<span><svg aria-hidden="true"><rect class="${kind}" width="10" height="10" rx="2"/></svg>${kind}</span>`)}</div>
`;

/** The tables with the most differing rows. Empty if none differs. */
export function driftChart(tables: readonly TableReconciliation[]): Markup {
  const drifted = tables.filter((row) => driftIn(row) > 0).toSorted((a, b) => driftIn(b) - driftIn(a));
  if (drifted.length === 0) return markup``;
  const shown = drifted.slice(0, BARS_MAX).map((row): Bar => {
    const kinds = KINDS.filter((kind) => row[kind] > 0).map((kind) => `${digits(row[kind])} ${kind}`);
    const parts = KINDS.map((kind) => ({ value: row[kind], color: kind }));
    return { label: `${row.table} in ${row.sink}`, text: kinds.join(", "), parts };
  });
  return markup`${LEGEND}${bars("Rows that differ", shown)}${more(drifted.length, "tables")}`;
}

interface Covered {
  readonly label: string;
  readonly rows: readonly TableReconciliation[];
}

/** How much was compared of each sink, and of each table that was not compared completely. */
export function coverageChart({ tables, notComparable, part }: ReconcileDocument): Markup {
  // In a comparison of one part, every table covers what was requested.
  const isWhole = (covered: Covered): boolean => part !== null || shareOf(covered) === 1;
  const sinks = [...new Set([...tables, ...notComparable].map(({ sink }) => sink))].toSorted();
  const bySink = sinks.map((label): Covered => ({ label, rows: tables.filter((row) => row.sink === label) }));
  const inPart = tables
    .map((row): Covered => ({ label: `${row.table} in ${row.sink}`, rows: [row] }))
    .filter((covered) => !isWhole(covered))
    .toSorted((a, b) => shareOf(a) - shareOf(b));
  const wholes = bars(
    "Rows compared, of those read at the source",
    bySink.map((one) => bar(one, isWhole(one))),
    { most: 1 },
  );
  const parts = bars(
    "Tables compared in part",
    inPart.slice(0, BARS_MAX).map((one) => bar(one, false)),
    { most: 1 },
  );
  return markup`${wholes}${parts}${more(inPart.length, "tables")}`;
}

function bar(covered: Covered, isWhole: boolean): Bar {
  if (covered.rows.length === 0) return { label: covered.label, text: "not compared", parts: [] };
  const share = shareOf(covered);
  const percent = share === 1 ? "100" : (Math.floor(share * 1000) / 10).toFixed(1);
  const text = `${percent}% · ${digits(sum(covered, "compared"))} of ${digits(sum(covered, "sourceRows"))}`;
  return { label: covered.label, text, parts: [{ value: share, color: isWhole ? "good" : "warning" }] };
}

/** A row that moves between the two reads may be counted as compared but not at the source, or the other way round. */
function shareOf(covered: Covered): number {
  if (covered.rows.length === 0) return 0;
  const of = sum(covered, "sourceRows");
  return of === 0 ? 1 : Math.min(1, sum(covered, "compared") / of);
}

function sum({ rows }: Covered, of: "compared" | "sourceRows"): number {
  return rows.reduce((total, row) => total + row[of], 0);
}

/** Drift and duration of this run and earlier ones. */
export function trendCharts(found: ReconcileDocument, history: readonly ReportSummary[]): Markup {
  const own = summaryOf(found);
  const before = history.filter(({ id, startedAt }) => id !== own.id && startedAt <= own.startedAt);
  const runs = [own, ...before].slice(0, RUNS_MAX).toReversed();
  if (runs.length === 1) return markup`<p class="soft">This is the first run of which a report is kept.</p>`;
  const drift = runs.map((run) => {
    const told = KINDS.map((kind) => `${digits(run[kind])} ${kind}`).join(", ");
    const parts = KINDS.map((kind) => ({ value: run[kind], color: kind }));
    return { label: dayOf(run), title: `${utc(run.startedAt)}: ${told}`, parts };
  });
  const [unit, secondsPerUnit] = unitOf(Math.max(...runs.map(secondsOf)));
  const took = runs.map((run) => {
    const seconds = secondsOf(run);
    const title = `${utc(run.startedAt)}: ${duration(seconds)}, ${count(run.compared, "row")} compared`;
    return { label: dayOf(run), title, parts: [{ value: seconds / secondsPerUnit, color: "own" as const }] };
  });
  return markup`${LEGEND}${columns("Rows that differed", drift, digits)}${columns("Duration", took, (value) => `${value} ${unit}`)}`;
}

/** The unit in which the longest duration has few digits. */
function unitOf(seconds: number): readonly [string, number] {
  if (seconds < 120) return ["s", 1];
  return seconds < 7_200 ? ["min", 60] : ["h", 3_600];
}

function dayOf({ startedAt }: ReportSummary): string {
  return startedAt.slice(0, 10);
}

function more(all: number, what: string): Markup {
  return all > BARS_MAX ? markup`<p class="soft">and ${digits(all - BARS_MAX)} more ${what}</p>` : markup``;
}
