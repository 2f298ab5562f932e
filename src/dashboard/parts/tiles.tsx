import type { StatusDocument } from "../../core/contracts/status.ts";
import type { DaemonView } from "../../ops/dashboard/view.ts";
import { ago, count, many, rate, seconds } from "../format.ts";
import { oldestProof } from "./table-row.tsx";

interface TilesProps {
  readonly status: StatusDocument;
  readonly view: DaemonView;
  readonly nowMs: number;
}

export function Tiles({ status, view, nowMs }: TilesProps) {
  const { sinks } = status;
  const lags = sinks.flatMap(({ lagSeconds }) => (lagSeconds === null ? [] : [lagSeconds]));
  const newest = view.history.at(-1)?.sinks ?? [];
  const rows = newest.reduce((sum, { rowsPerSecond }) => sum + rowsPerSecond, 0);
  const latest = newest.flatMap(({ latencySeconds }) => (latencySeconds === null ? [] : [latencySeconds]));
  const letters = sinks.reduce((sum, { deadLetters }) => sum + deadLetters, 0);
  const proven = oldestProof(view.tables.flatMap((table) => table.sinks.flatMap(({ proof }) => proof ?? [])));
  return (
    <section class="tiles" aria-label="Key figures">
      <Tile
        name="Freshness"
        value={lags.length === 0 ? "–" : seconds(Math.max(...lags))}
        note="the sink furthest behind"
      />
      <Tile name="Throughput" value={rate(rows)} note={`rows, ${many(sinks.length, "sink")}`} />
      <Tile
        name="Latency"
        value={latest.length === 0 ? "idle" : seconds(Math.max(...latest))}
        note="commit to durable"
      />
      <Tile
        name="Dead letters"
        value={count(letters)}
        note={letters === 0 ? "none waits" : "wait for you"}
        look={letters > 0 ? "bad" : ""}
      />
      <Tile
        name="Proof"
        value={proven === null ? "none" : ago(proven, nowMs).replace(/ ago$/, "")}
        note="age of the oldest proof"
      />
    </section>
  );
}

interface TileProps {
  readonly name: string;
  readonly value: string;
  readonly note?: string;
  readonly look?: string;
}

export function Tile({ name, value, note, look = "" }: TileProps) {
  return (
    <div class={`tile card ${look}`}>
      <span class="soft">{name}</span>
      <b>{value}</b>
      {note !== undefined && <span class="soft">{note}</span>}
    </div>
  );
}
