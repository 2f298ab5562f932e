import { clock } from "./format.ts";

export interface Line {
  readonly name: string;
  /** Of its colour, 0 to 7. */
  readonly color: number;
  readonly values: readonly (number | null)[];
}

interface ChartProps {
  readonly title: string;
  readonly what: string;
  readonly times: readonly string[];
  readonly lines: readonly Line[];
  readonly format: (value: number | null) => string;
  /** The least top of the scale. */
  readonly least: number;
  /** Of the scale: 1000, or 1024 for bytes. */
  readonly unit?: number;
  readonly nowMs: number;
  /** The place of the moment that is pointed at, in all charts; null: none is. */
  readonly chosen: number | null;
  readonly choose: (at: number | null) => void;
}

const WIDTH = 1000;
const HEIGHT = 100;

/** Lines over time. The values at the pointer, or at the place that the arrow keys chose, are in the legend. */
export function Chart({ title, what, times, lines, format, least, unit = 1000, nowMs, chosen, choose }: ChartProps) {
  const last = times.length - 1;
  const at = chosen === null ? last : Math.min(chosen, last);
  const { usual, peak } = heightsOf(lines);
  const top = niceTop(Math.max(least, usual), unit);
  const x = (i: number) => (last <= 0 ? WIDTH : (i / last) * WIDTH);
  const y = (value: number) => HEIGHT - Math.min(1, value / top) * HEIGHT;
  const point = (event: PointerEvent & { readonly currentTarget: Element }) => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    choose(Math.max(0, Math.min(last, Math.round(((event.clientX - left) / width) * last))));
  };
  const key = (event: KeyboardEvent) => {
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") choose(null);
    if (next === undefined) return;
    event.preventDefault();
    choose(Math.max(0, Math.min(last, next)));
  };
  const spoken = lines.map(({ name, values }) => `${name} ${format(values[at] ?? null)}`).join(", ");
  return (
    <figure class="chart card">
      <figcaption>
        <h3>{title}</h3>
        <span class="soft">
          {what}
          {peak > top && <b class="peak"> · peak {format(peak)}, above the scale</b>}
        </span>
      </figcaption>
      <div class="plot">
        <div class="scale" aria-hidden="true">
          <span>{format(top)}</span>
          <span>{format(top / 2)}</span>
          <span>{format(0)}</span>
        </div>
        <div
          class="area"
          role="slider"
          tabIndex={0}
          aria-label={`${title} over time; arrow keys choose a moment`}
          aria-valuemin={0}
          aria-valuemax={Math.max(0, last)}
          aria-valuenow={Math.max(0, at)}
          aria-valuetext={last < 0 ? "no figures yet" : `${clock(times[at] ?? "", nowMs)}: ${spoken}`}
          onPointerMove={point}
          onPointerLeave={() => choose(null)}
          onKeyDown={key}
          onBlur={() => choose(null)}
        >
          <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
            {[0, 0.5, 1].map((part) => (
              <line key={part} class="grid" x1="0" x2={WIDTH} y1={HEIGHT * part} y2={HEIGHT * part} />
            ))}
            {lines.length === 1 && (
              <path class={`fill c${lines[0]?.color ?? 0}`} d={areaOf(lines[0]?.values ?? [], x, y)} />
            )}
            {lines.map(({ name, color, values }) => (
              <path key={name} class={`line c${color}`} d={pathOf(values, x, y)} />
            ))}
            {chosen !== null && <line class="cursor" x1={x(at)} x2={x(at)} y1="0" y2={HEIGHT} />}
          </svg>
          {last < 1 && <p class="empty soft">The first figures come within seconds.</p>}
        </div>
      </div>
      <div class="times soft" aria-hidden="true">
        <span>{last > 0 ? clock(times[0] ?? "", nowMs) : ""}</span>
        <span>{chosen === null ? "" : clock(times[at] ?? "", nowMs)}</span>
        <span>{last > 0 ? "now" : ""}</span>
      </div>
      <ul class="legend">
        {lines.map(({ name, color, values }) => (
          <li key={name}>
            <i class={`dot c${color}`} />
            <bdi>{name}</bdi> <b>{format(values[at] ?? null)}</b>
          </li>
        ))}
      </ul>
    </figure>
  );
}

/** Below this share of the points a height is a spike, if it is so many times what the others come to. */
const SPIKE_SHARE = 0.02;
const SPIKE_TIMES = 4;
/** With fewer points nothing is seldom. */
const SPIKE_POINTS_MIN = 100;

/** `usual`: what the scale reaches, so that a spike does not flatten the rest. `peak`: the largest value. */
function heightsOf(lines: readonly Line[]): { readonly usual: number; readonly peak: number } {
  const values = lines.flatMap((line) => line.values.map((value) => value ?? 0)).toSorted((a, b) => a - b);
  const peak = values.at(-1) ?? 0;
  const usual = values[Math.floor((values.length - 1) * (1 - SPIKE_SHARE))] ?? 0;
  const isSpike = values.length >= SPIKE_POINTS_MIN && usual > 0 && peak > SPIKE_TIMES * usual;
  return { usual: isSpike ? usual * 2 : peak, peak };
}

type Scale = (value: number) => number;

/** A gap where nothing is known; a value alone is a short line. */
function pathOf(values: readonly (number | null)[], x: Scale, y: Scale): string {
  let isDrawing = false;
  let path = "";
  for (const [i, value] of values.entries()) {
    if (value !== null) path += `${isDrawing ? "L" : "M"}${round(x(i))} ${round(y(value))}`;
    if (value !== null && !isDrawing) path += "h0.01";
    isDrawing = value !== null;
  }
  return path;
}

function areaOf(values: readonly (number | null)[], x: Scale, y: Scale): string {
  const known = values.flatMap((value, i) => (value === null ? [] : [`${round(x(i))} ${round(y(value))}`]));
  const first = values.findIndex((value) => value !== null);
  const end = values.findLastIndex((value) => value !== null);
  return known.length < 2 ? "" : `M${round(x(first))} ${HEIGHT}L${known.join("L")}L${round(x(end))} ${HEIGHT}Z`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** 1, 2 or 5 times a power of ten, of the unit below the value; at or above the value, which is above 0. */
function niceTop(value: number, unit: number): number {
  const whole = unit ** Math.floor(Math.log(value) / Math.log(unit));
  const power = 10 ** Math.floor(Math.log10(value / whole));
  return ([1, 2, 5, 10].find((step) => step * power * whole >= value) ?? 10) * power * whole;
}
