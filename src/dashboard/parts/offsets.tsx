import type { StatusDocument } from "../../core/contracts/status.ts";
import { bytes, duration, seconds } from "../format.ts";

/** Postgres' words for log that it is not about to remove. */
const SAFE: ReadonlySet<string> = new Set(["reserved", "extended"]);

export function Offsets({ status: { source, sinks } }: { readonly status: StatusDocument }) {
  const { kind, up, position, acknowledged, lagBytes, lagSeconds, retainedBytes, safeBytes, safeSeconds, log } = source;
  const left = safeSeconds === null ? (safeBytes === null ? "no limit" : bytes(safeBytes)) : duration(safeSeconds);
  return (
    <section id="offsets" aria-labelledby="offsets-title">
      <h2 id="offsets-title">Offsets</h2>
      <div class="card wide" tabIndex={0} role="group" aria-label="List of offsets">
        <table>
          <thead>
            <tr>
              <th scope="col" class="text">
                what
              </th>
              <th scope="col" class="text">
                position
              </th>
              <th scope="col">behind</th>
              <th scope="col">log</th>
            </tr>
          </thead>
          <tbody>
            <tr>
              <th scope="row" class="text">
                source, read up to <span class={`pill ${up ? "good" : "bad"}`}>{up ? kind : `${kind}, away`}</span>
              </th>
              <td class="text">{position ?? "–"}</td>
              <td>{seconds(lagSeconds)}</td>
              <td>{bytes(lagBytes)}</td>
            </tr>
            <tr>
              <th scope="row" class="text">
                source, may forget
              </th>
              <td class="text">{acknowledged ?? "–"}</td>
              <td>left: {left}</td>
              <td>kept: {bytes(retainedBytes)}</td>
            </tr>
            {log !== null && (
              <tr>
                <th scope="row" class="text">
                  source, keeps log from <span class={`pill ${SAFE.has(log.state) ? "good" : "bad"}`}>{log.state}</span>
                </th>
                <td class="text">{log.from ?? "–"}</td>
                <td />
                <td />
              </tr>
            )}
            {sinks.map(({ name, position: own, lagSeconds: behind, lagBytes: log }) => (
              <tr key={name}>
                <th scope="row" class="text">
                  <bdi>{name}</bdi>
                </th>
                <td class="text">{own ?? "–"}</td>
                <td>{seconds(behind)}</td>
                <td>{bytes(log)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
