import { createHash } from "node:crypto";
import { scaleBand, scaleLinear } from "d3-scale";

/** HTML as its own type: everything that is not markup is text, and is escaped when inserted. */
export class Markup {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}

type Content = Markup | string | number | readonly Content[];

/**
 * A template. Inserted names, keys and messages can't become tags or attributes. Attribute values are in double quotes.
 */
export function markup(fixed: TemplateStringsArray, ...contents: readonly Content[]): Markup {
  return new Markup(fixed.map((text, i) => (i === 0 ? text : `${render(contents[i - 1] ?? "")}${text}`)).join(""));
}

/** A name in letters of any direction: it must not reverse the text around it. */
export function isolated(text: string): Markup {
  return markup`<bdi>${text}</bdi>`;
}

function render(content: Content): string {
  if (content instanceof Markup) return content.toString();
  if (typeof content === "object") return content.map(render).join("");
  return escaped(String(content));
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

function escaped(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\p{Cs}]/gu, (character) => (/\s/.test(character) ? " " : "\u{FFFD}"))
    .replaceAll(/[&<>"']/g, (character) => ENTITIES[character] ?? "");
}

/** A self-contained page: one file that loads and runs nothing, for every width, light and dark, and print. */
interface DocumentParts {
  readonly title: string;
  /** The style of this page, besides the common style. */
  readonly style: string;
  readonly body: Content;
}

export function htmlDocument({ title, style, body }: DocumentParts): string {
  const css = `${STYLE}${style}`;
  // The policy allows this style by its hash; no other style, no script and no request.
  const digest = createHash("sha256").update(css).digest("base64");
  const policy = `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'`;
  return markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer"><title>${title}</title><style>${new Markup(css)}</style></head>
<body><main>
${body}
</main></body></html>
`.toString();
}

const LIGHT = `color-scheme:light;--page:#f6f7f9;--card:#fff;--ink:#12202f;--soft:#57646f;--rule:#dde3e8;--track:#e9edf0;
--own:#2563eb;--other:#94a3b8;--good:#15803d;--warning:#b45309;--bad:#b91c1c;--missing:#b91c1c;--extra:#7c3aed;--different:#d97706`;
const DARK = `color-scheme:dark;--page:#0e141b;--card:#17202a;--ink:#e8edf2;--soft:#9aa8b5;--rule:#2b3744;--track:#26323e;
--own:#6ea8fe;--other:#64748b;--good:#4ade80;--warning:#fbbf24;--bad:#f87171;--missing:#f87171;--extra:#c4a1ff;--different:#fbbf24`;

const COLORS: readonly string[] = ["own", "other", "good", "warning", "bad", "missing", "extra", "different"];

const STYLE = `:root{${LIGHT}}
@media (prefers-color-scheme:dark){:root{${DARK}}}
@media print{:root{${LIGHT};--page:#fff}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
-webkit-text-size-adjust:100%;print-color-adjust:exact;-webkit-print-color-adjust:exact}
main{max-width:1060px;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 .75rem;overflow-wrap:anywhere}
p{margin:.25rem 0}
code{background:var(--track);border-radius:4px;padding:.1em .35em;font-size:.9em;overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:1rem 1.1rem;margin:1rem 0}
.soft{color:var(--soft)}
.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--rule);text-align:right;vertical-align:top}
th{color:var(--soft);font-weight:600;text-align:right}
th.text,td.text{text-align:left}
td.text{overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
figure{margin:0 0 1.25rem}
figure:last-child{margin-bottom:0}
figcaption{font-weight:600;margin-bottom:.4rem}
svg{display:block;width:100%;overflow:visible}
svg text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--soft)}
.columns svg{width:calc(100% - 60px);margin-left:60px}
${COLORS.map((color) => `svg .${color}{fill:var(--${color})}`).join("")}
svg .grid{stroke:var(--rule)}
svg .mark{stroke:var(--ink);stroke-dasharray:3 3}
svg .touch{fill:transparent}
.bar{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1rem;margin-bottom:.55rem;font-size:.9rem;break-inside:avoid}
.bar span{overflow-wrap:anywhere}
.bar b{font-weight:600;font-variant-numeric:tabular-nums}
.bar svg{height:10px;background:var(--track);border-radius:3px;flex-basis:100%}
@media print{:root{font-size:11px}body{font-size:11px}main{max-width:none;padding:0}section{break-inside:avoid-page;padding:.6rem 0;border-width:1px 0 0;border-radius:0}
h1,h2,figcaption,thead{break-after:avoid}tr,figure{break-inside:avoid}}
`;

export interface Bar {
  readonly label: string;
  readonly text: string;
  /** Side by side; a negative value shows its figure without a bar. */
  readonly parts: readonly Part[];
}

interface Part {
  readonly value: number;
  /** A class of `CHART_STYLE`. */
  readonly color: Color;
}

type Color = "own" | "other" | "good" | "warning" | "bad" | "missing" | "extra" | "different";

interface BarsOptions {
  /** The end of the scale; default: the longest bar. */
  readonly most?: number;
  /** A line across all bars. */
  readonly mark?: number;
}

/** Horizontal bars across the page: lengths are shares, and texts are HTML that wraps. Empty without figures. */
export function bars(title: string, all: readonly Bar[], { most, mark }: BarsOptions = {}): Markup {
  const drawn = all.filter(({ parts }) => parts.every(({ value }) => Number.isFinite(value)));
  if (drawn.length === 0) return markup``;
  const longest = Math.max(mark ?? 0, ...drawn.map(lengthOf));
  const scale = scaleLinear([0, most ?? (longest > 0 ? longest : 1)], [0, 100]).clamp(true);
  const at = mark === undefined ? undefined : share(scale(mark));
  const line = at === undefined ? "" : markup`<line class="mark" x1="${at}" x2="${at}" y1="0" y2="100%"/>`;
  return markup`<figure class="bars"><figcaption>${title}</figcaption>
${drawn.map((bar) => row(bar, scale, line))}</figure>
`;
}

function row(bar: Bar, scale: (value: number) => number, line: Markup | ""): Markup {
  let end = 0;
  const rects = bar.parts.map(({ value, color }) => {
    const start = scale(end);
    end += Math.max(0, value);
    return markup`<rect class="${color}" x="${share(start)}" width="${share(scale(end) - start)}" height="100%"/>`;
  });
  return markup`<div class="bar"><span>${isolated(bar.label)}</span><b>${bar.text}</b>
<svg role="img" aria-label="${bar.label}: ${bar.text}">${rects}${line}</svg></div>
`;
}

function lengthOf({ parts }: Bar): number {
  return parts.reduce((sum, { value }) => sum + Math.max(0, value), 0);
}

function share(percent: number): string {
  return `${Number(percent.toFixed(3))}%`;
}

interface Column {
  /** Shown below the first and the last column. */
  readonly label: string;
  /** Shown when a pointer hovers over it. */
  readonly title: string;
  /** From bottom to top. */
  readonly parts: readonly { readonly value: number; readonly color: Color }[];
}

const HEIGHT = 180;
/** Space for the labels above the highest line and below the axis. */
const TOP = 22;
const GROUND = HEIGHT - 22;
const TICKS = 3;

/** Columns over time, oldest first, across the page. `format` writes an axis value, which appears in the margin. */
export function columns(title: string, all: readonly Column[], format: (value: number) => string): Markup {
  const highest = Math.max(0, ...all.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0)));
  const y = scaleLinear([0, highest > 0 ? highest : 1], [GROUND, TOP]).nice(TICKS);
  const x = scaleBand(
    all.map((_column, i) => i),
    [0, 100],
  )
    .paddingInner(0.25)
    .paddingOuter(0.1);
  const values = highest > 0 ? y.ticks(TICKS) : [0];
  const lines = values.map((value) => markup`<line class="grid" x1="0" x2="100%" y1="${y(value)}" y2="${y(value)}"/>`);
  const labels = values
    .filter((value) => value > 0)
    .map((value) => markup`<text x="-8" y="${round(y(value) + 4)}" text-anchor="end">${format(value)}</text>`);
  const first = all[0]?.label ?? "";
  const last = all.at(-1)?.label ?? "";
  const end = all.length > 1 ? markup`<text x="100%" y="${HEIGHT - 6}" text-anchor="end">${last}</text>` : "";
  const drawn = all.map((column, i) => stack(column, share(x(i) ?? 0), share(x.bandwidth()), y));
  return markup`<figure class="columns"><figcaption>${title}</figcaption>
<svg height="${HEIGHT}" role="img" aria-label="${title}">${lines}${drawn}${labels}
<text x="0" y="${HEIGHT - 6}">${first}</text>${end}</svg></figure>
`;
}

/** Minimal height, so that even a very small or zero value is visible. */
const SEEN = 2;

function stack({ title, parts }: Column, x: string, width: string, y: (value: number) => number): Markup {
  let ground = GROUND;
  const rects = parts
    .filter(({ value }) => value > 0)
    .map(({ value, color }) => {
      const height = Math.max(SEEN, GROUND - y(value));
      ground -= height;
      return markup`<rect class="${color}" x="${x}" y="${round(ground)}" width="${width}" height="${round(height)}"/>`;
    });
  const nothing = markup`<rect class="good" x="${x}" y="${GROUND - SEEN}" width="${width}" height="${SEEN}"/>`;
  const whole = markup`<rect class="touch" x="${x}" y="0" width="${width}" height="${HEIGHT}"/>`;
  return markup`<g><title>${title}</title>${rects.length === 0 ? nothing : rects}${whole}</g>
`;
}

function round(pixels: number): number {
  return Number(pixels.toFixed(1));
}
