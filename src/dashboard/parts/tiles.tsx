import type { StatusDocument } from "../../core/contracts/status.ts";
import type { DaemonView } from "../../ops/dashboard/view.ts";
import { ago, bytes, count, duration, many, rate, seconds } from "../format.ts";

const STREAM_LOOKS: Readonly<Record<string, string>> = { away: "bad", "half-open": "bad" };

interface TilesProps {
  readonly status: StatusDocument;
  readonly view: DaemonView;
  readonly nowMs: number;
}

export function Tiles({ status, view, nowMs }: TilesProps) {
  const { source, sinks, tables } = status;
  const lags = sinks.flatMap(({ lagSeconds }) => (lagSeconds === null ? [] : [lagSeconds]));
  const newest = view.history.at(-1)?.sinks ?? [];
  const rows = newest.reduce((sum, { rowsPerSecond }) => sum + rowsPerSecond, 0);
  const latest = newest.flatMap(({ latencySeconds }) => (latencySeconds === null ? [] : [latencySeconds]));
  const letters = sinks.reduce((sum, { deadLetters }) => sum + deadLetters, 0);
  const proven = proofOf(view, sinks.length);
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
        name="Source"
        value={source.activity ?? (source.up ? "up" : "away")}
        note={source.blockedBy.length > 0 ? `by ${source.blockedBy.join(", ")}` : "the stream"}
        look={STREAM_LOOKS[source.activity ?? ""] ?? ""}
      />
      <Tile
        name="Log kept"
        value={bytes(source.retainedBytes)}
        note={keptNote(source.safeBytes, view.retentionSeconds)}
      />
      <Tile name="Tables" value={count(tables.captured)} note={many(tables.refused.length, "left out", "left out")} />
      <Tile
        name="Dead letters"
        value={count(letters)}
        note={letters === 0 ? "none waits" : "wait for you"}
        look={letters > 0 ? "bad" : ""}
      />
      <Tile
        name="Proof"
        value={proven === null ? "none" : ago(proven, nowMs).replace(/ ago$/, "")}
        note="age of the oldest comparison"
      />
    </section>
  );
}

function keptNote(safeBytes: number | null, retentionSeconds: number | null): string {
  if (retentionSeconds !== null) return `lost in ${duration(retentionSeconds)}`;
  return safeBytes === null ? "at the source" : `${bytes(safeBytes)} left`;
}

/** The oldest of the newest comparisons; null: a table in a sink was never compared. */
function proofOf({ tables }: DaemonView, sinkCount: number): string | null {
  const all = tables.flatMap(({ sinks }) => sinks.map(({ proof }) => proof?.at ?? null));
  const known = all.filter((at) => at !== null);
  return sinkCount === 0 || known.length < all.length ? null : (known.toSorted()[0] ?? null);
}

interface TileProps {
  readonly name: string;
  readonly value: string;
  readonly note: string;
  readonly look?: string;
}

function Tile({ name, value, note, look = "" }: TileProps) {
  return (
    <div class={`tile card ${look}`}>
      <span class="soft">{name}</span>
      <b>{value}</b>
      <span class="soft">{note}</span>
    </div>
  );
}
