import type { Concern } from "../../core/concerns/concern.ts";
import { ago, many } from "../format.ts";

interface Props {
  readonly concerns: readonly Concern[];
  readonly nowMs: number;
}

export function Attention({ concerns, nowMs }: Props) {
  const acts = concerns.filter(({ level }) => level === "act").length;
  return (
    <section
      class={`attention ${acts > 0 ? "bad" : concerns.length > 0 ? "warning" : "good"}`}
      aria-labelledby="attention"
    >
      <h2 id="attention">
        {acts > 0
          ? `${many(acts, "thing needs", "things need")} you`
          : concerns.length > 0
            ? "Nothing needs you"
            : "All is well"}
      </h2>
      {concerns.length === 0 ? (
        <p>Every sink follows the source, and nothing waits for a person.</p>
      ) : (
        <ul>
          {concerns
            .toSorted((a, b) => Number(b.level === "act") - Number(a.level === "act"))
            .map((concern) => (
              <Item key={concern.id} concern={concern} nowMs={nowMs} />
            ))}
        </ul>
      )}
    </section>
  );
}

function Item({ concern, nowMs }: { readonly concern: Concern; readonly nowMs: number }) {
  const { level, kind, what, code, message, since, lastTried, meanwhile, fix } = concern;
  const more = [
    ...(code === null ? [] : [`${code} ${message ?? ""}`]),
    ...(since === null ? [] : [`since ${ago(since, nowMs)}`]),
    ...(lastTried === null ? [] : [`last tried ${ago(lastTried, nowMs)}`]),
    ...(meanwhile === null ? [] : [meanwhile]),
  ].join("; ");
  return (
    <li>
      <span class={`pill ${level === "act" ? "bad" : "warning"}`}>{level}</span>
      <div>
        <a href={`#${partOf(kind)}`}>
          <bdi>{what.charAt(0).toUpperCase() + what.slice(1)}</bdi>
        </a>
        {more !== "" && <p class="soft">{more}</p>}
        {fix !== null && <p>→ {fix}</p>}
      </div>
    </li>
  );
}

/** The part of the page that shows more. */
function partOf(kind: string): string {
  if (kind === "sink.dead-letters") return "letters";
  if (kind.startsWith("sink.")) return "sinks";
  if (kind.startsWith("table.")) return "tables";
  return kind.startsWith("comparison.") ? "proof" : "offsets";
}
