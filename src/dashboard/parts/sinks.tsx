import type { SinkStatus, StatusDocument } from "../../core/contracts/status.ts";
import { Act } from "../act.tsx";
import { bytes, count, seconds } from "../format.ts";

export function Sinks({ status: { sinks } }: { readonly status: StatusDocument }) {
  return (
    <section id="sinks" aria-labelledby="sinks-title">
      <h2 id="sinks-title">Sinks</h2>
      <div class="grid two">
        {sinks.map((sink) => (
          <Sink key={sink.name} sink={sink} />
        ))}
      </div>
    </section>
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

function Sink({ sink }: { readonly sink: SinkStatus }) {
  const { name, kind, state, position, lagSeconds, lagBytes, deadLetters, error, catchingUp, waitsFor, activity } =
    sink;
  const isStopped = state === "paused" || state === "failed";
  const body = { sink: name };
  return (
    <article class="card sink" aria-labelledby={`sink-${name}`}>
      <header>
        <h3 id={`sink-${name}`}>
          <bdi>{name}</bdi> <span class="soft">{kind}</span>
        </h3>
        <span class={`pill ${LOOKS[state] ?? "warning"}`}>{catchingUp ? "catching up" : state}</span>
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
            <b>{error.code}</b> {error.message}
          </p>
          {error.hint !== null && <p>→ {error.hint}</p>}
        </div>
      )}
      <p class="buttons">
        {isStopped ? (
          <Act
            label="Resume"
            of={`sink ${name}`}
            look="main"
            order={{ method: "POST", path: "/api/v1/resume", body, done: `Sink ${name} goes on.` }}
          />
        ) : (
          <Act
            label="Pause"
            of={`sink ${name}`}
            confirm={`Pause sink ${name}? It stays paused over restarts, and the source keeps its log until it continues.`}
            order={{ method: "POST", path: "/api/v1/pause", body, done: `Sink ${name} is paused.` }}
          />
        )}
        <Act
          label="Resync"
          of={`sink ${name}`}
          confirm={`Read every table again for sink ${name}? Changes go on arriving meanwhile.`}
          order={{
            method: "POST",
            path: "/api/v1/snapshots",
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
