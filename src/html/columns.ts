import { scaleBand, scaleLinear } from "d3-scale";
import { type Color, share } from "./bars.ts";
import { type Markup, markup } from "./markup.ts";

export interface Column {
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
