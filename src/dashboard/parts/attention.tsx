import type { Concern } from "../attention.ts";
import { many } from "../format.ts";

export function Attention({ concerns }: { readonly concerns: readonly Concern[] }) {
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
          {concerns.map(({ level, what, why, fix, part }) => (
            <li key={`${what} ${why ?? ""}`}>
              <span class={`pill ${level === "act" ? "bad" : "warning"}`}>{level === "act" ? "act" : "watch"}</span>
              <div>
                <a href={`#${part}`}>
                  <bdi>{what}</bdi>
                </a>
                {why !== null && <p class="soft">{why}</p>}
                {fix !== null && <p>→ {fix}</p>}
              </div>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
