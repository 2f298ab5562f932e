import type { SinkStatus, StatusDocument } from "../../core/contracts/status.ts";
import { pageOf } from "../focus.ts";
import { bytes, count, seconds } from "../format.ts";
import { Controls } from "./controls.tsx";
import { ErrorNumber } from "./error-number.tsx";
import { Section } from "./section.tsx";

export function Sinks({ status: { sinks } }: { readonly status: StatusDocument }) {
  return (
    <Section id="sinks" title="Sinks">
      <div class="grid two">
        {sinks.map((sink) => (
          <Sink key={sink.name} sink={sink} />
        ))}
      </div>
    </Section>
  );
}

const LOOKS: Readonly<Record<string, string>> = {
  streaming: "good",
  snapshot: "own",
  retrying: "warning",
  starting: "warning",
  paused: "warning",
  failed: "bad",
  stopped: "bad",
};

export function looksOf({ state }: Pick<SinkStatus, "state">): string {
  return LOOKS[state] ?? "warning";
}

export function stateText({ state, catchingUp }: Pick<SinkStatus, "state" | "catchingUp">): string {
  return catchingUp ? "catching up" : state;
}

function Sink({ sink }: { readonly sink: SinkStatus }) {
  const { name, kind, state, position, lagSeconds, lagBytes, deadLetters, error, catchingUp, waitsFor, activity } =
    sink;
  return (
    <article class="card sink" aria-labelledby={`sink-${name}`}>
      <header>
        <h3 id={`sink-${name}`}>
          <a href={pageOf("sink", name)}>
            <bdi>{name}</bdi>
          </a>{" "}
          <span class="soft">{kind}</span>
        </h3>
        <span class={`pill ${looksOf(sink)}`}>{stateText(sink)}</span>
        {(activity === "wedged" || (activity === "slow" && !catchingUp)) && (
          <span class="pill warning">{activity}</span>
        )}
      </header>
      <dl>
        <Fact name="behind" value={seconds(lagSeconds)} />
        <Fact name="log to apply" value={bytes(lagBytes)} />
        <Fact name="dead letters" value={count(deadLetters)} />
        <Fact name="position" value={position ?? "–"} />
      </dl>
      {waitsFor.length > 0 && <p class="warning-text">Waits for {waitsFor.join(", ")}</p>}
      {error !== null && (
        <div class="failure">
          <p>
            <ErrorNumber code={error.code} /> {error.message}
          </p>
          {error.hint !== null && <p>→ {error.hint}</p>}
        </div>
      )}
      <p class="buttons">
        <Controls
          of={`sink ${name}`}
          isPaused={state === "paused" || state === "failed"}
          pause={{
            confirm: `Pause sink ${name}? It stays paused over restarts, and the source keeps its log until it continues.`,
            body: { sink: name },
          }}
          resync={{
            confirm: `Read every table again for sink ${name}? Changes go on arriving meanwhile.`,
            body: { sinks: [name] },
            done: `Every table is read again for sink ${name}.`,
          }}
        />
      </p>
    </article>
  );
}

function Fact({ name, value }: { readonly name: string; readonly value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
