import { scaleLinear } from "d3-scale";
import { isolated, type Markup, markup } from "./markup.ts";

export interface Bar {
  readonly label: string;
  readonly text: string;
  /** Side by side; a negative value shows its figure without a bar. */
  readonly parts: readonly Part[];
}

export interface Part {
  readonly value: number;
  /** A class of `CHART_STYLE`. */
  readonly color: Color;
}

export type Color = "own" | "other" | "good" | "warning" | "bad" | "missing" | "extra" | "different";

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

export function share(percent: number): string {
  return `${Number(percent.toFixed(3))}%`;
}
