/**
 * Commit to visible in a Postgres sink at 200 transactions a second, against native logical replication in the same run,
 * with two settings of the peer's durability: by default a subscription commits without waiting for the disk, while the
 * sink's commits are durable before they are visible. The guarantee is measured against the peer that also waits for the
 * disk.
 */
import type { Client } from "pg";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import {
  connected,
  createDatabases,
  heardBy,
  latencies,
  libpq,
  listen,
  TICKS_PER_SECOND,
  withDatabase,
  writeTicks,
} from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { type BenchOptions, type BenchReport, type Line, percentile } from "./report.ts";
import { DURABLE } from "./slot.ts";

/** Not counted: both sides warm up. */
const WARM_UP_MS = 1_000;
/** The peer's setting alternates, so that a drift of the machine affects both sides equally. */
const STRETCHES = ["off", "on", "off", "on"] as const;
type SynchronousCommit = (typeof STRETCHES)[number];

interface Samples {
  readonly native: number[];
  readonly millrace: number[];
}

/** Both sides: the writer's connection, and when the listeners saw which row. */
interface Place {
  readonly from: Client;
  readonly native: Client;
  readonly seen: { readonly native: Map<number, number>; readonly millrace: Map<number, number> };
}

export async function run({ scale, log }: BenchOptions): Promise<BenchReport> {
  const seconds = Math.max(3, Math.round(10 * scale));
  await using source = await postgres.start({ own: true, settings: DURABLE });
  await using target = await postgres.start({ own: true, settings: DURABLE });
  const from = await connected(source.url);
  await from.query("create table tick (id int primary key, body text); create publication native for all tables");
  await from.query("select pg_create_logical_replication_slot('native', 'pgoutput')");
  await createDatabases(target.url, "native", "mirror");
  const native = await connected(withDatabase(target.url, "native"));
  await native.query("create table tick (id int primary key, body text)");
  await native.query(
    `create subscription native connection '${libpq(source.url)}' publication native
     with (create_slot = false, slot_name = 'native', copy_data = false, binary = true, streaming = off)`,
  );
  const mirrorUrl = withDatabase(target.url, "mirror");
  await using daemon = new MeasuredDaemon({
    name: "bench",
    source: { kind: "postgres", url: source.url },
    sinks: { mirror: { kind: "postgres", url: mirrorUrl } },
  });
  await daemon.catchUp();
  const mirror = await connected(mirrorUrl);
  const place: Place = { from, native, seen: { native: new Map(), millrace: new Map() } };
  await listen(native, place.seen.native);
  await listen(mirror, place.seen.millrace);
  daemon.start();
  const samples: Record<SynchronousCommit, Samples> = {
    off: { native: [], millrace: [] },
    on: { native: [], millrace: [] },
  };
  const cpuBefore = daemon.usage().cpuSeconds;
  let next = 0;
  for (const setting of STRETCHES) next = await stretch(place, setting, next, seconds, samples[setting]);
  const cpuMs = ((daemon.usage().cpuSeconds - cpuBefore) * 1000) / next;
  log(`millrace: ${cpuMs.toFixed(2)} ms of processor time a transaction`);
  await daemon.stop();
  await native.query("alter subscription native disable");
  await native.query("alter subscription native set (slot_name = none)");
  await native.query("drop subscription native");
  await Promise.all([from, native, mirror].map((client) => client.end()));
  return report(samples);
}

/** Writes for some seconds from row `first` on, and returns the number after the last row. */
async function stretch(
  { from, native, seen }: Place,
  setting: SynchronousCommit,
  first: number,
  seconds: number,
  samples: Samples,
): Promise<number> {
  await native.query(`alter subscription native set (synchronous_commit = ${setting})`);
  // Begins when both sides have shown the first row.
  await from.query("insert into tick values ($1, 'a row')", [first]);
  const listeners = [seen.native, seen.millrace];
  await heardBy(listeners, first);
  const end = first + 1 + seconds * TICKS_PER_SECOND;
  const committed = await writeTicks(from, first + 1, end);
  await heardBy(listeners, end - 1);
  samples.native.push(...latencies(committed, seen.native, WARM_UP_MS));
  samples.millrace.push(...latencies(committed, seen.millrace, WARM_UP_MS));
  return end;
}

function report(samples: Readonly<Record<SynchronousCommit, Samples>>): BenchReport {
  const line = (setting: SynchronousCommit, who: keyof Samples): Line => {
    const times = samples[setting][who];
    return {
      work: `commit to visible, ${TICKS_PER_SECOND} tx/s, native with synchronous_commit ${setting}`,
      who,
      figures: {
        "p50 ms": percentile(times, 0.5),
        "p99 ms": percentile(times, 0.99),
        "p99.9 ms": percentile(times, 0.999),
        seen: times.length,
      },
    };
  };
  const lines = [line("off", "native"), line("off", "millrace"), line("on", "native"), line("on", "millrace")];
  const [, , native, own] = lines.map(({ figures }) => ({ p50: figures["p50 ms"]!, p99: figures["p99 ms"]! }));
  return {
    name: "latency",
    lines,
    ratios: [
      { what: "p50, ms", value: own!.p50, target: 2, atLeast: false },
      { what: "p50, millrace / native, both durable", value: own!.p50 / native!.p50, target: 2, atLeast: false },
      { what: "p99, ms", value: own!.p99, target: 10, atLeast: false },
      { what: "p99, millrace - native, both durable, ms", value: own!.p99 - native!.p99, target: 3, atLeast: false },
    ],
  };
}
