import type { StatusDocument } from "../../core/contracts/status.ts";
import { bytes, duration, seconds } from "../format.ts";
import { List, Section } from "./section.tsx";

/** Postgres' words for log that it is not about to remove. */
const SAFE: ReadonlySet<string> = new Set(["reserved", "extended"]);

export function Offsets({ status: { source, sinks } }: { readonly status: StatusDocument }) {
  const { kind, up, position, acknowledged, lagBytes, lagSeconds, retainedBytes, safeBytes, safeSeconds, log } = source;
  const left = safeSeconds === null ? (safeBytes === null ? "no limit" : bytes(safeBytes)) : duration(safeSeconds);
  return (
    <Section id="offsets" title="Offsets">
      <List
        of="offsets"
        texts={["what", "position"]}
        figures={["behind", "log"]}
        rows={
          <>
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
          </>
        }
      />
    </Section>
  );
}
