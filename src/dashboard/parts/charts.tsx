import type { HistoryPoint, SinkPoint } from "../../ops/dashboard/view.ts";
import { Chart, type Line } from "../chart.tsx";
import { bytes, rate, seconds } from "../format.ts";
import { Section } from "./section.tsx";

const COLORS = 8;

export function Charts({ points, nowMs }: { readonly points: readonly HistoryPoint[]; readonly nowMs: number }) {
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
  const shared = { times, nowMs };
  return (
    <Section id="charts" title="Charts">
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
          what="commit to durable, mean of 5 s"
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
