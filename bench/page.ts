/** The figures as one HTML file that loads nothing else. */
import { cpus, release, totalmem, type } from "node:os";
import { bars, htmlDocument, type Markup, markup } from "../src/html/markup.ts";
import { type Line, type Outcome, type Ratio, rounded } from "./report.ts";

export interface PageContext {
  /** The command as typed. */
  readonly command: string;
  readonly at: Date;
}

const STYLE = `section{overflow-x:auto}th:nth-child(-n+2),td:nth-child(-n+2){text-align:left}.failed{color:var(--bad);white-space:pre-wrap}
`;

export function page(outcomes: readonly Outcome[], { command, at }: PageContext): string {
  const [cpu] = cpus();
  const machine = `${cpus().length} × ${cpu?.model.trim() || "processor of unknown kind"}, ${Math.round(totalmem() / 1024 ** 3)} GiB, ${type()} ${release()}, Node ${process.versions.node}`;
  const body = markup`<h1>Millrace benchmarks</h1>
<p><code>${command}</code>, ${at.toISOString().slice(0, 16).replace("T", " ")} UTC<br>${machine}</p>
<p>Each figure beside its peer or limit, in turns, in one run on one machine. Machines drift: compare the ratios.</p>
${outcomes.map(section)}`;
  return htmlDocument({ title: "Millrace benchmarks", style: STYLE, body });
}

function section(outcome: Outcome): Markup {
  if ("failure" in outcome) {
    return markup`<section><h2>${outcome.name}</h2>
<p class="failed">failed: ${outcome.failure}</p></section>
`;
  }
  const { name, lines, ratios } = outcome;
  const figures = [...new Set(lines.flatMap((line) => Object.keys(line.figures)))];
  const [first = ""] = figures;
  const head = ["work", "who", ...figures].map((title) => markup`<th>${title}</th>`);
  const body = lines.map((line) => markup`<tr>${tableCells(line, figures)}</tr>`);
  return markup`<section><h2>${name}</h2>
${figureChart(lines, first)}
${ratioChart(ratios)}
<table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></section>
`;
}

function tableCells({ work, who, figures }: Line, names: readonly string[]): Markup[] {
  return [work, who, ...names.map((name) => rounded(figures[name]))].map((text) => markup`<td>${text}</td>`);
}

/** A chart of the first figure, for every line that has it. */
function figureChart(lines: readonly Line[], figure: string): Markup {
  const all = lines.flatMap(({ work, who, figures }) => {
    const value = figures[figure];
    if (value === undefined) return [];
    const color = who.startsWith("millrace") ? ("own" as const) : ("other" as const);
    return [{ label: `${work}: ${who}`, text: rounded(value), parts: [{ value, color }] }];
  });
  return bars(figure, all);
}

/** Each value as a share of its limit: at 1 the limit is reached. */
function ratioChart(ratios: readonly Ratio[]): Markup {
  const all = ratios.map(({ what, value, target, atLeast }) => {
    const met = atLeast ? value >= target : value <= target;
    const text = `${rounded(value)} (${atLeast ? "≥" : "≤"} ${target.toLocaleString("en")}, ${met ? "met" : "missed"})`;
    const color = met ? ("good" as const) : ("warning" as const);
    return { label: what, text, parts: [{ value: value / target, color }] };
  });
  return bars(
    "measured, as a share of the limit (in brackets): ≥ has to reach the line of 1, ≤ must not pass it",
    all,
    { mark: 1 },
  );
}
