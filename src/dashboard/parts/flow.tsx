import type { SinkStatus, StatusDocument } from "../../core/contracts/status.ts";
import type { DaemonView, SinkPoint } from "../../ops/dashboard/view.ts";
import { pageOf } from "../focus.ts";
import { bytes, count, duration, many, rate, seconds } from "../format.ts";
import { runningCopy } from "./reads.tsx";
import { looksOf, stateText } from "./sinks.tsx";

const SOURCE_LOOKS: Readonly<Record<string, string>> = { away: "bad", "half-open": "bad" };

interface FlowProps {
  readonly status: StatusDocument;
  readonly view: DaemonView;
}

/** The way of a row, from the source to each sink: where it flows, how far each is behind, and what a first copy has left. */
export function Flow({ status, view }: FlowProps) {
  const { sinks } = status;
  const newest = new Map(view.history.at(-1)?.sinks.map((sink) => [sink.name, sink]));
  return (
    <section class="flow card" aria-label="From the source to the sinks">
      <Source status={status} view={view} />
      <svg viewBox={`0 0 100 ${Math.max(1, sinks.length) * 10}`} preserveAspectRatio="none" aria-hidden="true">
        {sinks.map((sink, i) => (
          <path
            key={sink.name}
            class={looksOf(sink)}
            d={`M0 ${sinks.length * 5}C50 ${sinks.length * 5} 50 ${i * 10 + 5} 100 ${i * 10 + 5}`}
          />
        ))}
      </svg>
      <ul>
        {sinks.map((sink) => (
          <Edge key={sink.name} sink={sink} point={newest.get(sink.name)} />
        ))}
        {sinks.length === 0 && <li class="soft">No sink is configured.</li>}
      </ul>
    </section>
  );
}

function Source({ status: { source, tables }, view }: FlowProps) {
  const { kind, up, activity, blockedBy, retainedBytes, safeBytes } = source;
  const copy = runningCopy(source);
  const state = activity ?? (up ? "up" : "away");
  const kept = view.retentionSeconds === null ? null : `lost in ${duration(view.retentionSeconds)}`;
  const left = safeBytes === null ? null : `${bytes(safeBytes)} left`;
  return (
    <div class="origin">
      <p>
        <b>{kind}</b> <span class={`pill ${SOURCE_LOOKS[state] ?? "good"}`}>{state}</span>
      </p>
      <p class="soft">
        <a href="#tables">{many(tables.captured, "table")}</a>
        {tables.refused.length > 0 && `, ${count(tables.refused.length)} left out`}
      </p>
      <p class="soft">
        <a href="#offsets">{bytes(retainedBytes)} of log kept</a>
        {(kept ?? left) !== null && `, ${kept ?? left}`}
      </p>
      {blockedBy.length > 0 && <p class="warning-text">blocked by {blockedBy.join(", ")}</p>}
      {copy !== null && (
        <p class="soft">
          <a href="#reads">first copy{copy.share === null ? "" : ` ${Math.floor(copy.share * 100)} %`}</a>
          {copy.secondsLeft !== null && `, ${duration(copy.secondsLeft)} left`}
        </p>
      )}
    </div>
  );
}

function Edge({ sink, point }: { readonly sink: SinkStatus; readonly point: SinkPoint | undefined }) {
  const { name, kind, lagSeconds, deadLetters } = sink;
  return (
    <li class={looksOf(sink)}>
      <span class="soft lag">
        {seconds(lagSeconds)} behind · {rate(point?.rowsPerSecond)}
      </span>
      <a href={pageOf("sink", name)}>
        <bdi>{name}</bdi>
      </a>
      <span class="soft">{kind}</span>
      <span class={`pill ${looksOf(sink)}`}>{stateText(sink)}</span>
      {deadLetters > 0 && (
        <a class="bad-text" href="#letters">
          {many(deadLetters, "dead letter")}
        </a>
      )}
    </li>
  );
}
