/** The result of a comparison as one HTML file. */
import { driftIn, gapsOf, summaryOf, verdictOf } from "../../core/comparison-verdict.ts";
import type {
  DriftKind,
  ReconcileDocument,
  ReportSummary,
  TableReconciliation,
} from "../../core/contracts/reconciliation.ts";
import { bytes, count, digits, utc } from "../../core/figures.ts";
import { type Bar, bars, columns, htmlDocument, isolated, type Markup, markup } from "../../html/markup.ts";
import { comparisonsIn } from "./past.ts";
import { CAUSES, duration, keyText, partText, reachText, secondsOf, stepsOf, valueText } from "./wording.ts";

/** `history`: reports of the same name, newest first. It may include this comparison. */
export function htmlReport(found: ReconcileDocument, history: readonly ReportSummary[]): string {
  const { name, tables } = found;
  const verdict = verdictOf(found);
  const body = markup`<header><h1>${isolated(name)} <span class="verdict ${verdict.kind}">${verdict.text}</span></h1>
<p class="soft">${spanText(found)}<br>
${found.kind === "proof" ? "Report" : "Comparison"} ${found.id}. ${partText(found) ?? ""}${gapsText(found)}</p></header>
${tiles(found)}
${toDo(found)}
${titled("Drift by kind", driftChart(tables))}
${titled("Results", results(tables))}
${found.kind === "proof" ? "" : titled("Past runs", trendCharts(found, history))}
${titled("Coverage", markup`${coverageChart(found)}${found.kind === "proof" ? "" : bytesRead(tables)}`)}
${titled("Ranges of keys", ranges(tables))}
${listed("Not compared", found.notComparable, ({ sink, table, reason }) => markup`${isolated(sink)}${table === null ? "" : markup` ${isolated(table)}`}: ${reason}`)}
${listed("Suspended", found.suspended, ({ table, code, message }) => markup`${isolated(table)}: ${code} ${message}`)}
${listed("Shown besides", found.besides, ({ table, what }) => markup`${isolated(table)}: ${what}`)}
${tables.filter(({ sample }) => sample.length > 0).map(rowsThatDiffer)}`;
  return htmlDocument({ title: `${name}: ${verdict.text}, ${utc(found.startedAt)}`, style: STYLE, body });
}

function spanText(found: ReconcileDocument): string {
  const [from, to] = [utc(found.startedAt), utc(found.finishedAt)];
  if (found.kind === "proof") return `What comparisons have proven at ${to}. The oldest proof is of ${from}.`;
  return `Sinks compared with the source from ${from} to ${to}, ${duration(secondsOf(found))}.`;
}

function gapsText(found: ReconcileDocument): string {
  const gaps = gapsOf(found);
  return gaps.length === 0 ? "" : ` Not all of it: ${gaps.join("; ")}.`;
}

function tiles({ tables }: ReconcileDocument): Markup {
  const sum = (of: "compared" | "missing" | "extra" | "different" | "repaired"): number =>
    tables.reduce((total, row) => total + row[of], 0);
  const tile = (label: string, value: number, isBad = false): Markup =>
    markup`<div class="tile"><b class="${isBad && value > 0 ? "bad" : "plain"}">${digits(value)}</b><span>${label}</span></div>
`;
  return markup`<div class="tiles">${tile("rows compared", sum("compared"))}${tile("missing", sum("missing"), true)}${tile("extra", sum("extra"), true)}${tile("different", sum("different"), true)}${tile("repaired", sum("repaired"))}</div>`;
}

function toDo(found: ReconcileDocument): Markup {
  const steps = stepsOf(found);
  if (steps.length === 0) return titled("What to do", markup`<p>Nothing.</p>`);
  const items = steps.map(({ text, command }) => {
    const code = command === null ? "" : markup`<br><code>${command}</code>`;
    return markup`<li>${text}${code}</li>
`;
  });
  return titled("What to do", markup`<ol>${items}</ol>`);
}

const FIGURES = [
  ["source rows", "sourceRows"],
  ["sink rows", "sinkRows"],
  ["compared", "compared"],
  ["missing", "missing"],
  ["extra", "extra"],
  ["different", "different"],
  ["repaired", "repaired"],
  ["moving", "moving"],
  ["dead letters", "deadLetters"],
] as const satisfies readonly (readonly [string, keyof TableReconciliation])[];
const DRIFT: ReadonlySet<string> = new Set(["missing", "extra", "different"]);

/** Lists what differs first. */
function results(tables: readonly TableReconciliation[]): Markup {
  if (tables.length === 0) return markup`<p>No table was compared.</p>`;
  const head = FIGURES.map(([title]) => markup`<th>${title}</th>`);
  const rows = tables
    .toSorted((a, b) => driftIn(b) - driftIn(a))
    .map((row) => {
      const cells = FIGURES.map(([title, of]) => {
        const style = DRIFT.has(of) && (row[of] ?? 0) > 0 ? "bad" : "plain";
        return markup`<td class="${style}" data-label="${title}">${digits(row[of] ?? 0)}</td>`;
      });
      return markup`<tr><td class="text">${isolated(row.table)}</td><td class="text sink" data-label="sink">${isolated(row.sink)}</td>${cells}</tr>
`;
    });
  return markup`<table class="results"><thead><tr><th class="text">table</th><th class="text">sink</th>${head}</tr></thead>
<tbody>${rows}</tbody></table>`;
}

/** Bytes read on both sides for the compared rows. */
function bytesRead(tables: readonly TableReconciliation[]): Markup {
  if (tables.length === 0) return markup``;
  const rows = tables.map(
    ({ table, sink, compared, sourceBytes, sinkBytes }) =>
      markup`<tr><td class="text">${isolated(table)}</td><td class="text">${isolated(sink)}</td><td>${digits(compared)}</td><td>${bytes(sourceBytes)}</td><td>${bytes(sinkBytes)}</td></tr>
`,
  );
  return markup`<table><thead><tr><th class="text">table</th><th class="text">sink</th><th>rows compared</th><th>read at the source</th><th>read in the sink</th></tr></thead>
<tbody>${rows}</tbody></table>`;
}

/** In a page; the JSON has all of them. */
const RANGES_SHOWN_MAX = 1_024;

/** Which rows were compared when, and where the log was then. */
function ranges(tables: readonly TableReconciliation[]): Markup {
  const all = tables.flatMap(({ table, sink, sinkRows, coverage = [], listing }) => {
    const ofSource = coverage.map(({ upTo, ...range }) => {
      const end = upTo === null ? markup`the end` : isolated(keyText(upTo));
      return { table, sink, end, ...range };
    });
    const ofSink = { table, sink, end: markup`all keys of the sink`, rows: sinkRows };
    return listing === undefined ? ofSource : [...ofSource, { ...ofSink, ...listing }];
  });
  if (all.length === 0) return markup``;
  const rows = all.slice(0, RANGES_SHOWN_MAX).map(
    (one) =>
      markup`<tr><td class="text">${isolated(one.table)}</td><td class="text" data-label="sink">${isolated(one.sink)}</td><td class="text key" data-label="up to"><span>${one.end}</span></td><td data-label="rows">${one.rows === null ? "–" : digits(one.rows)}</td><td class="text" data-label="compared">${one.at ?? "never"}</td><td class="text" data-label="position">${one.position ?? "–"}</td></tr>
`,
  );
  const rest = all.length - rows.length;
  const unreached = tables.flatMap((row) => {
    const reach = reachText(row);
    return reach === null ? [] : [markup`<p>${isolated(row.table)} in ${isolated(row.sink)}: ${isolated(reach)}.</p>`];
  });
  return markup`<table class="results ranges"><thead><tr><th class="text">table</th><th class="text">sink</th><th class="text">up to</th><th>rows</th><th class="text">compared</th><th class="text">position</th></tr></thead><tbody>${rows}</tbody></table>${rest > 0 ? markup`<p class="soft">and ${count(rest, "more range")} in the JSON file</p>` : ""}${unreached}`;
}

function rowsThatDiffer(row: TableReconciliation): Markup {
  const { table, sink, sample } = row;
  const all = driftIn(row);
  const shown = sample.length < all ? `The first ${sample.length} of ${digits(all)} rows.` : "All of them.";
  const rows = sample.map(({ kind, key, columns, why, values = {} }) => {
    const parts = Object.entries(key).map(
      ([column, text]) => markup`<span class="soft">${isolated(column)}</span> ${isolated(text)} `,
    );
    const names = columns.map((column, i) => {
      const pair = values[column];
      const told =
        pair === undefined
          ? ""
          : markup` ${isolated(valueText(pair.found))} in place of ${isolated(valueText(pair.expected))}`;
      return [i === 0 ? "" : ", ", isolated(column), told];
    });
    return markup`<tr><td class="text kind ${kind}">${kind}</td><td class="text">${parts}</td><td class="text">${names}</td><td class="text soft">${CAUSES[why]}</td></tr>
`;
  });
  return markup`<section><h2>${isolated(table)} in ${isolated(sink)}</h2><p class="soft">${shown}</p>
<table><thead><tr><th class="text">kind</th><th class="text">key</th><th class="text">columns</th><th class="text">why</th></tr></thead><tbody>${rows}</tbody></table></section>
`;
}

function titled(title: string, content: Markup): Markup {
  return content.toString() === "" ? content : markup`<section><h2>${title}</h2>${content}</section>`;
}

function listed<T>(title: string, all: readonly T[], item: (one: T) => Markup): Markup {
  if (all.length === 0) return markup``;
  return titled(title, markup`<ul>${all.map((one) => markup`<li>${item(one)}</li>`)}</ul>`);
}

const STYLE = `.verdict{display:inline-block;font-size:1rem;font-weight:600;border:1px solid;border-radius:99px;padding:.1em .7em;vertical-align:.15em}
.verdict.equal{color:var(--good)}.verdict.differs{color:var(--bad)}.verdict.repaired,.verdict.incomplete,.verdict.tolerated{color:var(--warning)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:.75rem;margin:1rem 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:.7rem .9rem}
.tile b{display:block;font-size:1.5rem;line-height:1.2;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:.85rem}
ol,ul{margin:0;padding-left:1.3rem}
li{margin:.3rem 0;overflow-wrap:anywhere}
.results .sink{white-space:nowrap}
.results td:first-child{min-width:13em}
.ranges td:first-child{min-width:0}
@media print{.tiles{grid-template-columns:repeat(5,1fr)}}
td.key{overflow-wrap:anywhere}
td.kind{font-weight:600;white-space:nowrap}
.kind.missing{color:var(--missing)}.kind.extra{color:var(--extra)}.kind.different{color:var(--different)}
.legend{display:flex;gap:1rem;font-size:.85rem;color:var(--soft);margin-bottom:.6rem}
.legend svg{width:10px;height:10px;display:inline-block;margin-right:.35em}
@media screen and (max-width:720px){main{padding:1rem .6rem 2rem}section{padding:.9rem .8rem}
.tile:first-child{grid-column:1/-1}
.results thead{display:none}.results,.results tbody,.results tr,.results td{display:block}
.results tr{border-bottom:1px solid var(--rule);padding:.5rem 0;display:grid;grid-template-columns:1fr 1fr;column-gap:1.25rem}
.results tr:last-child{border-bottom:0;padding-bottom:0}
.ranges tr{grid-template-columns:1fr}
.results td{border:0;padding:.1rem 0;display:flex;justify-content:space-between;gap:.75rem}
.results td:first-child{grid-column:1/-1;font-weight:600}
.results td[data-label]::before{content:attr(data-label);color:var(--soft);white-space:nowrap}}
`;

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
  const before = comparisonsIn(history).filter(({ id, startedAt }) => id !== own.id && startedAt <= own.startedAt);
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
