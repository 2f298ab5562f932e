/** The numbers that `/metrics` serves, in the form that OpenTelemetry's exporters take. */
import type * as api from "@opentelemetry/api";
import type * as sdk from "@opentelemetry/sdk-metrics";

/** A sample of the registry; a histogram's are told apart by `metricName`. */
export interface Sample {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number | undefined>>;
  readonly metricName?: string;
}

/** A metric of the registry, with all that it counts now. */
export interface Measured {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly values: readonly Sample[];
}

/** The constants of OpenTelemetry's packages, which are loaded only when they are needed. */
interface Constants {
  readonly api: Pick<typeof api, "ValueType">;
  readonly sdk: Pick<typeof sdk, "AggregationTemporality" | "DataPointType">;
}

interface Times {
  readonly startTime: api.HrTime;
  readonly endTime: api.HrTime;
}

/** Without unknown values. Counters count since `startTime`. */
export function metricData(
  metrics: readonly Measured[],
  { startMs, nowMs }: { readonly startMs: number; readonly nowMs: number },
  constants: Constants,
): sdk.MetricData[] {
  const times = { startTime: hrTime(startMs), endTime: hrTime(nowMs) };
  return metrics.flatMap(({ name, help, type, values }): sdk.MetricData[] => {
    const descriptor = { name, description: help, unit: "", valueType: constants.api.ValueType.DOUBLE };
    const shared = { descriptor, aggregationTemporality: constants.sdk.AggregationTemporality.CUMULATIVE };
    if (type === "histogram") {
      const dataPoints = histogramPoints(name, values, times);
      return dataPoints.length === 0
        ? []
        : [{ ...shared, dataPointType: constants.sdk.DataPointType.HISTOGRAM, dataPoints }];
    }
    const dataPoints = values
      .filter(({ value }) => !Number.isNaN(value))
      .map(({ value, labels }) => ({ ...times, attributes: { ...labels }, value }));
    if (dataPoints.length === 0) return [];
    if (type === "counter")
      return [{ ...shared, dataPointType: constants.sdk.DataPointType.SUM, isMonotonic: true, dataPoints }];
    return [{ ...shared, dataPointType: constants.sdk.DataPointType.GAUGE, dataPoints }];
  });
}

/** The registry counts a bucket with all those below it; OpenTelemetry counts each bucket alone. */
function histogramPoints(name: string, values: readonly Sample[], times: Times): sdk.DataPoint<sdk.Histogram>[] {
  const series = Map.groupBy(values, ({ labels: { le: _bound, ...others } }) => JSON.stringify(others));
  return [...series.values()].map((samples) => {
    const { le: _bound, ...attributes } = samples[0]!.labels;
    const buckets = samples.filter(({ metricName }) => metricName === `${name}_bucket`);
    const only = (suffix: string): number =>
      samples.find(({ metricName }) => metricName === `${name}_${suffix}`)?.value ?? 0;
    const boundaries = buckets.flatMap(({ labels: { le } }) => (typeof le === "number" ? [le] : []));
    const counts = buckets.map(({ value }, i) => value - (buckets[i - 1]?.value ?? 0));
    return { ...times, attributes, value: { buckets: { boundaries, counts }, sum: only("sum"), count: only("count") } };
  });
}

/** Seconds, and the nanoseconds of the last one. */
export function hrTime(ms: number): api.HrTime {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}
