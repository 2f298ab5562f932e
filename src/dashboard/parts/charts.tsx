import { useState } from "preact/hooks";
import type { DaemonView, HistoryPoint, SinkPoint } from "../../ops/dashboard/view.ts";
import { Chart, type Line } from "../chart.tsx";
import { bytes, duration, rate, seconds } from "../format.ts";
import { Section } from "./section.tsx";

const COLORS = 8;
const HALF_AN_HOUR = 1800;
/** What can be shown, in seconds. */
const RANGES = [
  [300, "5 min"],
  [HALF_AN_HOUR, "30 min"],
  [6 * 3600, "6 h"],
  [24 * 3600, "24 h"],
] as const;

export function Charts({ view, nowMs }: { readonly view: DaemonView; readonly nowMs: number }) {
  const [range, setRange] = useState<number>(HALF_AN_HOUR);
  const [chosen, choose] = useState<number | null>(null);
  const { points, step } = pointsOf(view, range);
  const times = points.map(({ at }) => at);
  const names = points.at(-1)?.sinks.map(({ name }) => name) ?? [];
  const of = (value: (sink: SinkPoint) => number | null): readonly Line[] =>
    names.map((name, i) => ({
      name,
      color: i % COLORS,
      values: points.map(({ sinks }) => {
        const sink = sinks.find((other) => other.name === name);
        return sink === undefined ? null : value(sink);
      }),
    }));
  const shared = { times, nowMs, chosen, choose };
  const ranges = (
    <span class="ranges" role="group" aria-label="How far back the charts go">
      {RANGES.map(([one, name]) => (
        <button
          key={one}
          type="button"
          aria-pressed={one === range}
          onClick={() => {
            setRange(one);
            choose(null);
          }}
        >
          {name}
        </button>
      ))}
    </span>
  );
  return (
    <Section id="charts" title="Charts" beside={ranges}>
      <div class="grid two">
        <Chart
          {...shared}
          title="Freshness"
          what="how old the sink's data is"
          lines={of(({ lagSeconds }) => lagSeconds)}
          format={seconds}
          least={0.1}
        />
        <Chart
          {...shared}
          title="Throughput"
          what="rows made durable"
          lines={of(({ rowsPerSecond }) => rowsPerSecond)}
          format={rate}
          least={10}
        />
        <Chart
          {...shared}
          title="Latency"
          what={`commit to durable, mean of ${duration(step)}`}
          lines={of(({ latencySeconds }) => latencySeconds)}
          format={seconds}
          least={0.1}
        />
        <Chart
          {...shared}
          title="Lag"
          what="log not applied yet"
          lines={of(({ lagBytes }) => lagBytes)}
          format={bytes}
          least={1024}
          unit={1024}
        />
      </div>
    </Section>
  );
}

/** The fine ones, of the last half an hour, or the day's. */
function pointsOf(
  { history, stepSeconds, day, dayStepSeconds }: DaemonView,
  range: number,
): { readonly points: readonly HistoryPoint[]; readonly step: number } {
  const [points, step] = range <= HALF_AN_HOUR ? [history, stepSeconds] : [day, dayStepSeconds];
  return { points: points.slice(-Math.ceil(range / step)), step };
}
